"""Schemas as providers take them whose grammars know closed objects only."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from kickwheel.agents import planned
from kickwheel.agents.tools.schema import mistakes
from kickwheel.core.schema import inlined
from kickwheel.models.closed import all_required, closed
from kickwheel.records import ToolSpec

TAKEN = {"title", "description", "type", "properties", "required", "additionalProperties"}
TAKEN |= {"items", "minItems", "enum", "const", "anyOf", "format"}
"""What Anthropic's page about structured outputs allows in a schema."""
KINDS = ("object", "array", "string", "integer", "number", "boolean", "null")
BOUNDS: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 3, "multipleOf": 2},
    {"type": "string", "maxLength": 3, "pattern": "^a", "format": "secret"},
    {"type": "string", "format": "date"},
    {"type": ["string", "null"]},
    {"enum": ["a", 1, None]},
    {"enum": [["a"]]},
    {"const": True},
    {"$ref": "#/$defs/x"},
    {},
]
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
NAMES = st.sampled_from(["a", "b", "c"])
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([*BOUNDS, True]),
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.just("object")},
            optional={
                "properties": st.dictionaries(NAMES, inner, max_size=3),
                "required": st.lists(NAMES, unique=True, max_size=3),
                "additionalProperties": inner | st.booleans(),
                "patternProperties": st.dictionaries(NAMES, inner, max_size=1),
                "maxProperties": st.just(3),
            },
        )
        | st.fixed_dictionaries(
            {"type": st.just("array")},
            optional={"items": inner, "minItems": st.integers(0, 3), "maxItems": st.just(3)},
        )
        | st.fixed_dictionaries(
            {}, optional={"anyOf": st.lists(inner, max_size=3), "oneOf": st.lists(inner)}
        )
    ),
    max_leaves=12,
)


class Line(BaseModel):
    what: str = Field(max_length=40, description="As it stands there.")
    cents: int = Field(ge=0)


class Invoice(BaseModel):
    to: str | None
    state: Literal["open", "paid"]
    lines: list[Line] = Field(min_length=2)


def test_a_pydantic_model_is_closed_and_its_bounds_stand_in_descriptions() -> None:
    assert closed(inlined(Invoice.model_json_schema())) == {
        "type": "object",
        "title": "Invoice",
        "properties": {
            "to": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "To"},
            "state": {"enum": ["open", "paid"], "title": "State"},
            "lines": {
                "type": "array",
                "title": "Lines",
                "description": "(minItems: 2)",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "title": "Line",
                    "properties": {
                        "what": {
                            "type": "string",
                            "title": "What",
                            "description": "As it stands there. (maxLength: 40)",
                        },
                        "cents": {
                            "type": "integer",
                            "title": "Cents",
                            "description": "(minimum: 0)",
                        },
                    },
                    "required": ["what", "cents"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["to", "state", "lines"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "array"},
        {"type": "array", "items": {}},
        {"allOf": [{"type": "object", "properties": {"a": {"type": "null"}}}]},
        {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]},
        {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object"}}},
        {"type": "object", "properties": {"a": {"type": "null"}}, "anyOf": [{"required": ["a"]}]},
        planned.schema(()),
    ],
)
def test_what_a_closed_grammar_would_forbid_has_no_closed_form(schema: Any) -> None:
    assert closed(schema) is None


def test_a_plan_over_ordinary_tools_is_closed() -> None:
    fare = ToolSpec(
        name="fare",
        parameters={"type": "object", "properties": {"seats": {"type": "integer", "minimum": 1}}},
    )
    assert closed(planned.schema([fare, ToolSpec(name="wait", parameters=NOTHING)])) is not None


def test_whether_all_is_required_is_looked_for_everywhere() -> None:
    inner = {"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"]}
    loose = {"type": "object", "properties": {"a": {"type": "null"}}, "required": []}
    for around in ({"type": "array", "items": inner}, {"anyOf": [inner]}, inner):
        assert all_required(around)
    for around in ({"type": "array", "items": loose}, {"anyOf": [inner, loose]}, loose):
        assert not all_required(around)


@given(schema=SCHEMAS)
def test_whatever_is_closed_is_taken(schema: Any) -> None:
    found = closed(schema)
    if found is not None:
        _taken(found)


def _taken(schema: Any) -> None:
    """Passes where Anthropic would take the schema."""
    assert schema.keys() <= TAKEN
    if schema.get("type") == "object":
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) <= set(schema["properties"])
    if "anyOf" not in schema and "enum" not in schema and "const" not in schema:
        assert schema["type"] in KINDS
    assert schema.get("minItems", 0) in (0, 1)
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    inner += [schema["items"]] if schema.get("type") == "array" else []
    for entry in inner:
        _taken(entry)


@given(schema=SCHEMAS, value=st.data())
def test_what_a_closed_schema_takes_the_given_one_takes_too(
    schema: Any, value: st.DataObject
) -> None:
    found = closed(schema)
    if found is None:
        return
    answer = value.draw(_fitting(found))
    assert mistakes({"v": answer}, {"properties": {"v": schema}}) == []


def _fitting(schema: Any) -> st.SearchStrategy[Any]:
    """Values that fit a closed schema, and the bounds that stood beside it."""
    if "anyOf" in schema:
        return st.one_of([_fitting(branch) for branch in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    match schema["type"]:
        case "object":
            inner = {name: _fitting(one) for name, one in schema["properties"].items()}
            must = {name: inner.pop(name) for name in schema["required"]}
            return st.fixed_dictionaries(must, optional=inner)
        case "array":
            return st.lists(_fitting(schema["items"]), min_size=3, max_size=3)
        case "string":
            return st.just("abc")
        case "integer" | "number":
            return st.just(4)
        case "boolean":
            return st.booleans()
    return st.none()
