import json
import string
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.agents.tools import calling
from kickwheel.agents.tools.fitting import fitted
from kickwheel.agents.tools.repair import readable, unwrapped
from kickwheel.core.store import open_store
from kickwheel.records import ToolCall, ToolSpec, genai
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


@pytest.mark.parametrize(
    ("written", "meant", "repairs"),
    [
        ('{"city": "Oslo",}', {"city": "Oslo"}, ["a comma too many"]),
        ('{"days": [1, 2, ], }', {"days": [1, 2]}, ["a comma too many"]),
        ("{'city': 'Oslo'}", {"city": "Oslo"}, ["single quotes"]),
        ("{'say': 'she said \"it\\'s\"'}", {"say": 'she said "it\'s"'}, ["single quotes"]),
        ('{city: "Oslo"}', {"city": "Oslo"}, ["a key without quotes"]),
        ('{"city": "Oslo"', {"city": "Oslo"}, ["a missing bracket at the end"]),
        ('{"a": {"b": ["c"', {"a": {"b": ["c"]}}, ["a missing bracket at the end"]),
        ('{"a": [1], "b": true', {"a": [1], "b": True}, ["a missing bracket at the end"]),
        ('```json\n{"city": "Oslo"}\n```', {"city": "Oslo"}, ["a code fence"]),
        ('```\n{"city": "Oslo"}', {"city": "Oslo"}, ["a code fence"]),
        (
            '{"sql": "select 1\nfrom t"}',
            {"sql": "select 1\nfrom t"},
            ["a line break inside a string"],
        ),
        ('{"a": True, "b": None}', {"a": True, "b": None}, ["Python's words"]),
        (
            "```json\n{'city': 'Oslo', days: 3,\n```",
            None,
            [],
        ),
    ],
)
def test_what_has_one_reading_is_repaired(written: str, meant: Any, repairs: list[str]) -> None:
    found = readable(written)
    assert found == (None if meant is None else (meant, tuple(repairs)))


@pytest.mark.parametrize(
    "written",
    [
        "",
        "{",
        "Oslo",
        '{"city": "Os',  # breaks off in a text
        '{"days": 12',  # … or in a number
        '{"days": tru',
        '{"city": "Oslo",',  # something may have followed
        '{"city":',
        '{"city"',
        "{'city': 'the dogs' bones'}",
        '{"city": Oslo}',
        '{"city" "Oslo"}',
        '{"a": 1 "b": 2}',
        '{"a": [1, 2}',
        '{"a": 1}}',
        '{"a": 1}{"a": 2}',
        '{"a": 1, "a": 2,}',  # which of the two?
        '{"a": 01}',
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": "\\d"}',
        '{"a": "\ud800"}',
        '{,"a": 1}',
        '{"a": 1,,}',
        "[" * 100_000,
        '{"a":' * 100_000,
        "call weather with {'city': 'Oslo'}",
        '{"a": ' + "9" * 5000 + ",}",
    ],
)
def test_what_has_none_or_several_is_not(written: str) -> None:
    assert readable(written) is None


@settings(deadline=None)
@given(OBJECTS)
def test_valid_json_is_read_as_it_is(value: dict[str, Any]) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
        found = readable(text)
        assert found == (value, ())


@settings(deadline=None)
@given(OBJECTS)
def test_python_literals_keep_their_meaning(value: dict[str, Any]) -> None:
    found = readable(repr(value))
    # Python writes some characters as \\x…, which JSON does not know.
    assert found is None or found[0] == value


@settings(deadline=None)
@given(OBJECTS, st.data())
def test_a_text_that_breaks_off_never_gains_a_value(value: dict[str, Any], data: Any) -> None:
    text = json.dumps(value)
    found = readable(text[: data.draw(st.integers(0, len(text)))])
    if found is not None:
        assert _within(found[0], value)


def _within(part: Any, whole: Any) -> bool:
    """Whether `part` is `whole`, or what is left of it when its end is missing."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and _within(part[key], whole[key]) for key in part)
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(
            _within(a, b) for a, b in zip(part, whole, strict=False)
        )
    return bool(part == whole)


@settings(deadline=None)
@given(st.text(alphabet="{}[]:,'\"` \\\nab1-.etruflsn", max_size=40))
def test_whatever_is_written_no_value_is_invented(text: str) -> None:
    found = readable(text)
    if found is not None:
        for leaf in _leaves(found[0]):
            if isinstance(leaf, str):
                assert set(leaf) <= set(text) | set("\b\f\n\r\t/"), leaf
            elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
                assert set(text) & set(string.digits)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *(leaf for entry in value.values() for leaf in _leaves(entry))]
    if isinstance(value, list):
        return [leaf for entry in value for leaf in _leaves(entry)]
    return [value]


@settings(deadline=None)
@given(OBJECTS)
def test_an_object_inside_a_string_is_the_object(value: dict[str, Any]) -> None:
    found = unwrapped(json.dumps(value))
    assert found == (value, ("JSON inside a string",))


@pytest.mark.parametrize(
    ("schema", "written", "meant"),
    [
        ({"type": "integer"}, "3", 3),
        ({"type": "integer"}, " -3 ", -3),
        ({"type": "integer"}, "3.5", None),
        ({"type": "integer"}, "1,000", None),
        ({"type": "integer"}, "007", None),
        ({"type": "integer"}, "three", None),
        ({"type": "number"}, "3.50", 3.5),
        ({"type": "number"}, "1e999", None),
        ({"type": ["integer", "null"]}, "3", 3),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "yes", None),
        ({"type": ["boolean", "integer"]}, "1", 1),
        ({"type": "array", "items": {"type": "string"}}, '["a"]', ["a"]),
        ({"type": "array", "items": {"type": "integer"}}, '["1"]', [1]),
        ({"type": "array"}, '{"a": 1}', None),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"a": "1"}', {"a": 1}),
        ({"enum": ["Celsius", "Kelvin"]}, "celsius", "Celsius"),
        ({"enum": ["a", "A"]}, "á", None),
        ({"type": "string", "enum": ["ON", "On"]}, "on", None),
        ({"enum": [1, 2]}, "1", None),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "3", 3),
        ({"anyOf": [{"enum": ["A"]}, {"type": "integer"}]}, "a", "A"),
        ({"anyOf": [{"type": "integer"}, {"type": "array"}]}, "x", None),
        ({"oneOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}, "3", 3),
        ({"$ref": "#/$defs/n"}, "3", 3),
        ({"type": "integer", "maximum": 2}, "3", None),
        ({"type": "string"}, 3, None),
    ],
)
def test_a_value_of_another_type_fits_where_it_has_one_reading(
    schema: dict[str, Any], written: Any, meant: Any
) -> None:
    whole = {"properties": {"x": schema}, "$defs": {"n": {"type": "integer"}}}
    found = fitted({"x": written}, whole)
    assert found is None if meant is None else found is not None and found[0] == {"x": meant}
    if found is not None:
        assert type(found[0]["x"]) is type(meant)
        assert found[1]


def test_either_all_fits_or_nothing_is_changed() -> None:
    schema = {"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    assert fitted({"a": "1", "b": "two"}, schema) is None
    assert fitted({"a": "1", "c": 2}, schema) is None


@settings(deadline=None)
@given(OBJECTS)
def test_what_fits_is_never_touched(value: dict[str, Any]) -> None:
    schema = {"properties": {key: {} for key in value}}
    assert fitted(value, schema) == (value, ())


class Room:
    spec = ToolSpec(
        name="book",
        parameters={
            "type": "object",
            "properties": {"room": {"type": "integer"}, "bed": {"enum": ["single", "double"]}},
            "required": ["room"],
        },
    )

    async def call(self, arguments: Any) -> str:
        return msgspec.json.encode(arguments).decode()


@pytest.mark.parametrize(
    ("written", "understood", "repairs"),
    [
        ("{'room': '12', bed: 'Double',}", '{"room":12,"bed":"double"}', 5),
        ('"{\\"room\\": 12}"', '{"room":12}', 1),
        ('{"room": 12}', None, 0),
    ],
)
async def test_a_repaired_call_is_made_and_the_trace_tells_what_was_repaired(
    tmp_path: Path, written: str, understood: str | None, repairs: int
) -> None:
    asked = ToolCall(id="1", name="book", arguments=written)
    with open_store(tmp_path) as store:
        traces = Traces(store)
        with Recorder(traces) as recorder, recorder.trace("desk", "desk"):
            result = await calling.call({"book": Room()}, asked)
        (trace,) = traces.all()
    assert (result.state, result.arguments) == ("done", understood)
    assert json.loads(result.text)["room"] == 12
    noted = trace.spans[1]
    assert noted.input[0].tool_calls == (asked,), "as the model wrote it"
    assert len(noted.attributes.get(genai.TOOL_REPAIRS, ())) == repairs  # type: ignore[arg-type]
