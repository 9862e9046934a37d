import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.core.errors import DataError
from kickwheel.models import calls
from kickwheel.records import ToolCall, ToolSpec


def tool(properties: dict[str, Any], *required: str, name: str = "find") -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return ToolSpec(name=name, parameters=schema)


def call(name: str = "find", **arguments: Any) -> ToolCall:
    return ToolCall(id="call_0", name=name, arguments=json.dumps(arguments, ensure_ascii=False))


def arguments_of(found: tuple[ToolCall, ...] | None) -> list[tuple[str, Any]]:
    assert found is not None
    return [(one.name, json.loads(one.arguments)) for one in found]


EVENTS = tool(
    {
        "kind": {"type": "string", "enum": ["Music", "Theater"]},
        "city": {"type": "string", "description": "In the format 'City, State'."},
        "date": {"type": "string", "description": "In the format 'MM/DD/YYYY'."},
        "seats": {"type": "integer", "default": 1},
    },
    "kind",
    "city",
)


def test_a_call_is_a_name_and_a_line_for_each_argument_in_the_order_of_the_schema() -> None:
    text = calls.write([call(seats=2, city="New York, NY", kind="Music")], [EVENTS])
    assert text == "find\nkind: Music\ncity: New York, NY\ndate: -\nseats: 2"
    assert arguments_of(calls.read(text, [EVENTS])) == [
        ("find", {"kind": "Music", "city": "New York, NY", "seats": 2})
    ]


def test_of_many_optional_arguments_only_the_given_ones_have_a_line() -> None:
    many = tool({f"a{number}": {"type": "integer"} for number in range(calls.EXPLICIT + 1)})
    assert calls.write([call(a3=1)], [many]) == "find\na3: 1"
    assert '"-"' not in calls.tools_grammar([many]).split("tool-0 ::=")[1]


def test_dates_are_written_one_way_and_read_back_as_the_tool_wants_them() -> None:
    text = calls.write([call(kind="Music", city="Rome", date="03/25/2023")], [EVENTS])
    assert "date: 2023-03-25" in text
    assert arguments_of(calls.read(text, [EVENTS]))[0][1]["date"] == "03/25/2023"
    assert calls.date_format({"type": "string", "format": "date"}) == "YYYY-MM-DD"
    assert calls.date_format({"type": "string", "description": "as DD.MM.YYYY"}) == "DD.MM.YYYY"
    assert calls.date_format({"type": "string", "description": "any day"}) is None


@pytest.mark.parametrize(
    ("value", "schema", "written"),
    [
        ("two\nlines", {"type": "string"}, r'"two\nlines"'),
        ("", {"type": "string"}, '""'),
        (" x", {"type": "string"}, '" x"'),
        ('"quoted"', {"type": "string"}, r'"\"quoted\""'),
        ("12", {"type": "string"}, "12"),
        ("12", {}, '"12"'),
        (12.0, {"type": "number"}, "12"),
        (True, {"type": "boolean"}, "true"),
        ([1, {"a": None}], {"type": "array"}, '[1,{"a":null}]'),
        ("-", {"type": "string"}, '"-"'),
        ("-5 degrees", {"type": "string"}, '"-5 degrees"'),
        (-5, {"type": "integer"}, "-5"),
    ],
)
def test_values_stand_bare_only_where_nothing_can_be_mistaken(
    value: Any, schema: dict[str, Any], written: str
) -> None:
    offered = [tool({"a": schema}, "a")]
    text = calls.write([call(a=value)], offered)
    assert text == f"find\na: {written}"
    assert arguments_of(calls.read(text, offered)) == [("find", {"a": value})]


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, width=16) | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=8)


@given(
    st.lists(st.dictionaries(names, values, max_size=4), min_size=1, max_size=3)
    | st.lists(st.dictionaries(names, st.text(), max_size=4), min_size=1, max_size=3),
    st.booleans(),
)
def test_what_is_written_is_read_back(made: list[dict[str, Any]], typed: bool) -> None:
    texts = all(isinstance(value, str) for arguments in made for value in arguments.values())
    schema = {"type": "string"} if typed and texts else {}
    offered = [tool({name: schema for arguments in made for name in arguments})]
    written = calls.write([call(**arguments) for arguments in made], offered)
    assert [found for _, found in arguments_of(calls.read(written, offered))] == made


def test_text_that_is_no_call_is_none() -> None:
    assert calls.read("I found three events.", [EVENTS]) is None
    assert calls.read("find\nthis for me", [EVENTS]) is None
    assert calls.read("", [EVENTS]) is None


def test_arguments_that_are_no_object_are_said() -> None:
    with pytest.raises(DataError, match="find are no JSON object"):
        calls.write([ToolCall(id="a", name="find", arguments="{broken")])


def test_a_signature_says_what_may_be_given() -> None:
    assert calls.signature(EVENTS) == (
        "find(kind:Music|Theater, city:City, State, date?:MM/DD/YYYY, seats?:integer)"
    )


# Grammars are judged by llama.cpp's own reader where it is installed, and by a small one here.


def test_a_grammar_names_tools_arguments_and_enums() -> None:
    grammar = calls.tools_grammar([EVENTS, tool({}, name="stop")])
    assert '"find"' in grammar
    assert '"stop"' in grammar
    assert '"Music" | "Theater"' in grammar
    assert grammar.startswith("root ::= call\n")


@pytest.mark.parametrize(
    ("bounds", "rule"),
    [
        ({"minimum": -1, "maximum": 1}, '"-1" | "0" | "1"'),
        ({"minimum": 1, "maximum": 2026}, "[1-9] [0-9]{0,3}"),
        ({"minimum": 0}, '"0" | [1-9] [0-9]{0,14}'),
        ({"maximum": 5}, '"-"? ("0" | [1-9] [0-9]{0,14})'),
        ({"minimum": 0.5, "maximum": 5}, '"-"? ("0" | [1-9] [0-9]{0,14})'),
        ({"minimum": 5, "maximum": 1}, "[1-9] [0-9]{0,14}"),
    ],
)
def test_bounds_of_an_integer_are_in_its_rule(bounds: dict[str, Any], rule: str) -> None:
    assert f"::= {rule}\n" in calls.schema_grammar({"type": "integer", **bounds})


def test_each_rule_that_a_grammar_uses_is_there() -> None:
    import re

    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "number"}, "minItems": 1},
            "b": {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"c": {}}}]},
            "d": {"const": "x"},
            "e": {"type": ["integer", "string"], "maxLength": 4},
        },
        "required": ["b"],
    }
    for grammar in (
        calls.schema_grammar(schema),
        calls.tools_grammar([EVENTS], parallel=True),
        calls.labels_grammar(["yes", 'say "no"']),
    ):
        rules = dict(line.split(" ::= ", 1) for line in grammar.strip().splitlines())
        for body in rules.values():
            bare = re.sub(r'"(\\.|[^"\\])*"|\[(\\.|[^\]\\])*\]|\{[0-9,]+\}', " ", body)
            assert set(re.findall(r"[a-z][a-z0-9-]*", bare)) <= rules.keys()


def test_a_grammar_of_nothing_is_refused() -> None:
    with pytest.raises(DataError):
        calls.tools_grammar([])
    with pytest.raises(DataError):
        calls.labels_grammar([])


def test_the_grammar_of_a_step_is_a_thought_and_then_a_call_or_an_answer() -> None:
    grammar = calls.step_grammar(
        [EVENTS, ToolSpec(name="now")],
        thought="T: ",
        name="\nA: ",
        arguments="\nI: ",
        answer="\nE: ",
    )
    root, *_ = grammar.splitlines()
    assert root == 'root ::= "T: " line (tool-0 | tool-1 | "\\nE: " rest)'
    assert 'tool-1 ::= "\\nA: now\\nI: " "{}"' in grammar
