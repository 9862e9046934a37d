"""JSON Schema as tools need it. Expected verdicts follow the specification, draft 2020-12."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.agents.tools.schema import mistakes
from kickwheel.core.schema import inlined

CITY = {"type": "string"}


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"type": "string"}, ["", "Oslo"], [1, None, True, ["Oslo"]]),
        ({"type": "integer"}, [0, -3, 2.0], [2.5, "2", True]),
        ({"type": "number"}, [0, 2.5], ["2.5", False]),
        ({"type": "boolean"}, [True, False], [0, 1, "true"]),
        ({"type": "null"}, [None], [0, ""]),
        ({"type": ["string", "null"]}, ["a", None], [1]),
        ({"enum": ["a", 1]}, ["a", 1], ["b", True, 2]),
        ({"enum": [True]}, [True], [1]),
        ({"const": "x"}, ["x"], ["y"]),
        ({"type": "array", "items": {"type": "integer"}}, [[], [1, 2]], [[1, "2"], "12"]),
        ({"type": "array", "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
        ({"type": "array", "prefixItems": [CITY, {"type": "integer"}]}, [["a", 1]], [["a", "b"]]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc"], ["a", "abcd"]),
        ({"type": "string", "pattern": "^[0-9]+$"}, ["12"], ["1a"]),
        ({"type": "number", "minimum": 1, "exclusiveMaximum": 2}, [1, 1.9], [0.9, 2]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["a", None], [1]),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ["a", 1], [1.5]),
        ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, [2], [0, 4]),
        ({"type": "object", "required": ["a"], "properties": {"a": CITY}}, [{"a": "x"}], [{}]),
        ({"type": "object", "additionalProperties": False}, [{}], [{"a": 1}]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{"a": 1}], [{"a": ""}]),
        ({}, [1, None, "x", {}], []),
        (True, [1], []),
        (False, [], [1]),
        # Types of other worlds, as they stand in traffic.
        ({"type": "float"}, [1, 1.5], ["1"]),
        ({"type": "dict"}, [{"a": 1}], ["a"]),
        ({"type": "any"}, [1, "a", None], []),
    ],
)
def test_a_value_is_judged_as_json_schema_says(rule: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert mistakes({"a": value}, schema(a=rule)) == [], value
    for value in bad:
        assert mistakes({"a": value}, schema(a=rule)) != [], value


def test_a_mistake_names_the_argument_and_what_it_should_have_been() -> None:
    rules = schema(city=CITY, seats={"type": "integer"}, kind={"enum": ["Music", "Theater"]})
    assert mistakes({"citi": "Oslo", "seats": "two", "kind": "Sport"}, rules) == [
        'there is no argument "citi". Did you mean "city"?',
        'argument "city" is missing',
        'argument "seats" must be integer, not "two"',
        'argument "kind" must be one of "Music", "Theater"; "Sport" is none of them',
    ]


def test_a_mistake_deep_inside_is_named_with_its_path() -> None:
    rules = schema(guests={"type": "array", "items": schema(age={"type": "integer"})})
    assert mistakes({"guests": [{"age": 3}, {"age": "x"}]}, rules) == [
        'argument "guests[1].age" must be integer, not "x"'
    ]


def test_a_schema_may_allow_arguments_that_it_does_not_name() -> None:
    assert mistakes({"more": 1}, {"type": "object", "additionalProperties": True}) == []


def test_what_contains_itself_stays_a_reference_and_is_checked_all_the_same() -> None:
    tree = {
        "type": "object",
        "properties": {"below": {"$ref": "#/$defs/T"}, "n": {"type": "integer"}},
    }
    written = inlined(
        {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}, "$defs": {"T": tree}}
    )
    assert mistakes({"t": {"below": {"below": {"n": 1}}}}, written) == []
    assert mistakes({"t": {"below": {"below": {"n": "1"}}}}, written) == [
        'argument "t.below.below.n" must be integer, not "1"'
    ]


def test_a_schema_that_leads_in_a_circle_ends() -> None:
    circle = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert mistakes({"a": 1}, circle) == ["the call's arguments are nested too deep"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


keywords = st.sampled_from(
    re.findall(
        r"\S+",
        "type enum const properties required items prefixItems anyOf allOf additionalProperties "
        "minimum minItems maxLength pattern $ref $defs",
    )
)
broken_schemas = st.recursive(
    json_values,
    lambda inner: st.dictionaries(keywords, inner | st.lists(inner, max_size=2), max_size=4),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.text(), json_values, max_size=4), rules=broken_schemas)
def test_no_value_and_no_broken_schema_breaks_the_check(
    arguments: dict[str, Any], rules: Any
) -> None:
    for whole in ({"properties": dict.fromkeys(arguments, rules)}, rules):
        if isinstance(whole, dict):
            assert all(isinstance(mistake, str) for mistake in mistakes(arguments, whole))
