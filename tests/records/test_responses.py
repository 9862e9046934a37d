"""Items of Responses become messages, or say where they are broken."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.records import Message, ToolCall
from kickwheel.records.responses import items_from_input, messages_from_items

KEYS = st.sampled_from(
    ["type", "role", "content", "call_id", "name", "arguments", "output", "text", "id", "refusal"]
)
WORDS = st.sampled_from(
    [
        *("message", "function_call", "function_call_output", "reasoning", "web_search_call"),
        *("user", "assistant", "tool", "input_text", "output_text", "refusal", "c1", ""),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=4))
def test_whatever_comes_is_a_conversation_or_an_error_with_its_place(given: list[Any]) -> None:
    try:
        messages = messages_from_items(items_from_input(given))
    except ValueError as error:
        told = str(error)
    else:
        told = "input["
        assert all(isinstance(message, Message) for message in messages)
    assert told.startswith("input[")


def test_what_a_model_said_and_called_in_one_turn_is_one_message() -> None:
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    items = items_from_input(
        [
            {"role": "user", "content": "go"},
            {"type": "message", "role": "assistant", "content": "I look."},
            {**call, "call_id": "a"},
            {**call, "call_id": "b"},
            {"type": "function_call_output", "call_id": "b", "output": "2"},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {**call, "call_id": "c"},
        ]
    )
    assert messages_from_items(items) == (
        Message(role="user", content="go"),
        Message(
            role="assistant",
            content="I look.",
            tool_calls=tuple(ToolCall(id=i, name="f", arguments="{}") for i in "ab"),
        ),
        Message(role="tool", content="2", tool_call_id="b"),
        Message(role="tool", content="1", tool_call_id="a"),
        Message(role="assistant", tool_calls=(ToolCall(id="c", name="f", arguments="{}"),)),
    )


def test_an_error_counts_from_the_requests_own_items() -> None:
    before = items_from_input([{"role": "user", "content": "a"}] * 2)
    own = items_from_input([{"type": "function_call_output", "call_id": "x", "output": ""}])
    with pytest.raises(ValueError, match=r'^input\[0\]: no function_call "x"'):
        messages_from_items(own, before)
