from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.agents.tools.fits import compiled, wrong
from kickwheel.agents.tools.schema import mistakes

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0, "a", "b", "abcd"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=5,
)
KINDS = ["array", "boolean", "integer", "null", "number", "object", "string"]
WORDS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*KINDS, "float", "nonsense"])
        | st.lists(st.sampled_from(KINDS), max_size=2),
        "enum": st.lists(st.sampled_from(["a", "b", 1, True]), max_size=2),
        "const": st.sampled_from(["a", 1]),
        "minimum": st.sampled_from([-1, 0.5, "x"]),
        "maximum": st.sampled_from([1, 2]),
        "exclusiveMinimum": st.just(0),
        "minLength": st.integers(0, 2),
        "maxLength": st.integers(0, 3),
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "required": st.lists(st.sampled_from("ab"), max_size=2),
        "pattern": st.just("a"),
    },
)


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    more = st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "items": inner,
            "anyOf": st.lists(inner, max_size=2),
            "oneOf": st.lists(inner, max_size=2),
        },
    )
    return st.tuples(WORDS, more).map(lambda both: {**both[0], **both[1]})


SCHEMAS = st.recursive(WORDS | st.booleans(), nested, max_leaves=6)


@settings(max_examples=300, deadline=None)
@given(nested(SCHEMAS), st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3))
def test_what_is_said_fast_is_what_is_said_in_words(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    check = compiled(schema)
    if check is not None:
        assert check(arguments) == (not mistakes(arguments, schema))
    assert wrong(arguments, schema) == mistakes(arguments, schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}},
        {"properties": {"a": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}}},
    ],
)
def test_what_tools_usually_want_is_compiled(schema: dict[str, Any]) -> None:
    assert compiled(schema) is not None
