"""Any conversation that our records can hold is taken by OpenAI, Anthropic and Bedrock."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.models.chat import ChatRequest
from kickwheel.models.converse import converse_body
from kickwheel.models.messages import message_body
from kickwheel.models.pictures import KINDS, Eyes
from kickwheel.records import Image, Message, ToolCall, ToolSpec
from tests.wires import anthropic, bedrock

CLAUDE = "eu.anthropic.claude-x-v1:0"
TEXTS = st.none() | st.text(st.characters(codec=None), max_size=6) | st.sampled_from([" ", "\n\n"])
"""Also halves of surrogate pairs, which Python's texts may have."""
IDS = st.sampled_from(["call_0", "call_1", "functions.find:0", "", "x" * 70]) | st.text(max_size=3)
ARGUMENTS = st.sampled_from(["{}", "", "[1]", '{"x": NaN}', '{"x": "\\ud800"}', "[" * 9999])
CALLS = st.builds(ToolCall, id=IDS, name=st.sampled_from(["find", "a.b", ""]), arguments=ARGUMENTS)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture."""
    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "a.png").write_bytes(KINDS["image/png"][1])
    return folder


def messages() -> st.SearchStrategy[Message]:
    image = st.builds(
        Image,
        kept=st.just("a.png"),
        media_type=st.just("image/png"),
        sent=st.booleans(),
        at=st.none() | st.integers(0, 4),
    )
    images = st.lists(image, min_size=1, max_size=2).map(tuple)
    said = st.sampled_from(["system", "developer", "user", "assistant"])
    calls = st.lists(CALLS, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(Message, role=said, content=TEXTS),
        st.builds(Message, role=st.just("user"), content=TEXTS, images=images),
        st.builds(Message, role=st.just("assistant"), content=TEXTS, tool_calls=calls),
        st.builds(Message, role=st.just("tool"), content=TEXTS, tool_call_id=IDS),
        st.builds(Message, role=st.just("tool"), content=TEXTS, tool_call_id=IDS, images=images),
    )


def requests() -> st.SearchStrategy[ChatRequest]:
    find = ToolSpec(name="find", description="Finds.", parameters={"anyOf": [{}]})
    return st.builds(
        ChatRequest,
        messages=st.lists(messages(), max_size=8).map(tuple),
        tools=st.sampled_from([(), (find,)]),
        tool_choice=st.just("auto"),
        labels=st.sampled_from([(), ("spam", "ham")]),
        temperature=st.none() | st.floats(0, 2),
        top_p=st.none() | st.floats(0, 1),
        extra=st.sampled_from([{}, {"parallel_tool_calls": False, "user": "u", "n": 1}]),
    )


@given(request=requests(), sees=st.booleans())
def test_anthropic_takes_any_conversation(kept: Path, request: ChatRequest, sees: bool) -> None:
    body = message_body(request, "claude-x", 100, Eyes(kept) if sees else None)
    assert anthropic.asked(body) == []
    assert str(body).encode()


@given(request=requests(), sees=st.booleans())
def test_bedrock_takes_any_conversation(kept: Path, request: ChatRequest, sees: bool) -> None:
    body = converse_body(request, CLAUDE, Eyes(kept) if sees else None)
    del body["modelId"]
    assert bedrock.asked(body, CLAUDE) == []
    assert str(body).encode()


def of(*said: Message, **more: Any) -> dict[str, Any]:
    return message_body(ChatRequest(messages=said, **more), "claude-x", 100)


def test_ids_that_count_from_zero_in_each_answer_are_told_apart() -> None:
    step = (
        Message(
            role="assistant",
            tool_calls=(
                ToolCall(id="call_0", name="find", arguments="{}"),
                ToolCall(id="call_1", name="find", arguments="{}"),
            ),
        ),
        Message(role="tool", content="second", tool_call_id="call_1"),
        Message(role="tool", content="first", tool_call_id="call_0"),
    )
    turns = of(Message(role="user", content="Where?"), *step, *step)["messages"]
    used = [block["id"] for turn in turns[1::2] for block in turn["content"]]
    assert len(set(used)) == 4
    for turn, answered in zip(turns[1::2], turns[2::2], strict=True):
        results = answered["content"]
        assert [r["tool_use_id"] for r in results] == [use["id"] for use in turn["content"]]
        assert [r["content"] for r in results] == ["first", "second"]


def test_a_call_that_nobody_answered_is_told_to_have_no_result() -> None:
    call = ToolCall(id="a", name="find", arguments="{}")
    asked = Message(role="user", content="Where?")
    turns = of(asked, Message(role="assistant", tool_calls=(call,)), asked)["messages"]
    assert turns[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "(no result)"},
        {"type": "text", "text": "Where?"},
    ]


def test_a_result_of_a_call_that_is_not_there_any_more_is_told_in_words() -> None:
    late = Message(role="tool", content="Oslo", tool_call_id="a")
    (turn,) = of(late)["messages"]
    assert turn["content"] == [{"type": "text", "text": "Result of a call: Oslo"}]


def test_a_conversation_that_the_assistant_begins_and_ends_is_begun_and_ended_by_the_user() -> None:
    turns = of(Message(role="assistant", content="Hello."))["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]


def test_what_only_openai_knows_does_not_reach_others() -> None:
    fields = {"n": 1, "user": "u", "reasoning_effort": "low", "metadata": {"a": "b"}, "top_k": 5}
    asked = Message(role="user", content="Where?")
    body = of(asked, extra={**fields, "parallel_tool_calls": False}, tools=(ToolSpec(name="find"),))
    assert body.keys() == {"model", "max_tokens", "messages", "tools", "tool_choice", "top_k"}
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_a_conversation_with_calls_names_their_tools_though_nobody_offers_them_any_more() -> None:
    call = ToolCall(id="a", name="hand_to_billing", arguments="{}")
    body = of(Message(role="assistant", tool_calls=(call,)))
    assert [tool["name"] for tool in body["tools"]] == ["hand_to_billing"]
    assert body["tool_choice"] == {"type": "none"}
