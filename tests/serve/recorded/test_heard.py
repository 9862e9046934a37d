"""What a trace says of traffic in each protocol, whole, streamed, broken and strange."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.models.prices import Prices
from kickwheel.records import Message, Span, genai, wire
from kickwheel.serve.recorded import Upstream
from kickwheel.serve.recorded.exchange import Exchange
from kickwheel.serve.recorded.heard import READ, Hearing, framework
from kickwheel.serve.recorded.responses import Conversations, answered
from tests.models.loopback import chunk, loopback
from tests.serve.conftest import Rooms, running
from tests.serve.recorded.test_passing import QUESTION, WHOLE, client, traces

TOOL: Any = {
    "type": "function",
    "name": "track",
    "description": "Where a parcel is",
    "parameters": {"type": "object", "properties": {"parcel": {"type": "integer"}}},
    "strict": True,
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "track",
    "arguments": '{"parcel": 7}',
    "status": "completed",
}
SPOKEN = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m-1",
    "output": [{"type": "reasoning", "id": "rs_1", "summary": []}, SPOKEN, CALL],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 40,
        "input_tokens_details": {"cached_tokens": 32},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 49,
    },
}


def passed(
    path: str, asked: Any, answer: bytes, hearing: Hearing | None = None, **more: Any
) -> Span:
    """The span that is made of an exchange."""
    exchange = Exchange("shop", path, "0" * 32)
    exchange.asked.add(asked if isinstance(asked, bytes) else json.dumps(asked).encode())
    exchange.status = 200
    exchange.answer.add(answer)
    for name, value in more.items():
        setattr(exchange, name, value)
    (span,) = (hearing or Hearing()).heard(exchange).spans
    return span


def events(*entries: Any) -> bytes:
    return b"".join(
        f"event: {entry['type']}\ndata: {json.dumps(entry)}\n\n".encode() for entry in entries
    )


def a_stream(end: str | None = "response.completed") -> bytes:
    """RESPONSE as OpenAI streams it."""
    begun = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    pieces: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    pieces += [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**SPOKEN, "content": []},
        },
        {
            **{"type": "response.content_part.added", "output_index": 0, "content_index": 0},
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
        *(
            {
                **{"type": "response.output_text.delta", "output_index": 0, "content_index": 0},
                "delta": word,
            }
            for word in ("Let me ", "look.")
        ),
        {
            "type": "response.output_item.added",
            "output_index": 1,
            "item": {**CALL, "arguments": ""},
        },
        *(
            {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": piece}
            for piece in ('{"parcel"', ": 7}")
        ),
    ]
    if end is not None:
        pieces.append({"type": end, "response": RESPONSE})
    numbered: Iterable[Any] = ({**piece, "sequence_number": n} for n, piece in enumerate(pieces))
    return events(*numbered)


async def test_responses_are_heard_whole_and_streamed_by_the_official_client(
    tmp_path: Path,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if (await request.json()).get("stream"):
            return web.Response(body=a_stream(), content_type="text/event-stream")
        return web.json_response(RESPONSE)

    asked: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "Where is parcel 6?"}]},
        {**CALL, "call_id": "call_0", "arguments": '{"parcel": 6}'},
        {"type": "function_call_output", "call_id": "call_0", "output": "Oslo"},
        {"role": "user", "content": "And 7?"},
    ]
    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            ours = client(server)
            given = {"model": "gpt", "instructions": "Be kind", "input": asked, "tools": [TOOL]}
            whole = await ours.responses.create(**given)
            async with ours.responses.stream(**given) as stream:
                final = await stream.get_final_response()
            one, two = (trace.spans[0] for trace in traces(server))
    assert whole.output_text == final.output_text == "Let me look."
    assert (one.input, one.output, one.tools) == (two.input, two.output, two.tools)
    assert [m.role for m in one.input] == ["system", "user", "assistant", "tool", "user"]
    assert one.input[2].tool_calls[0].arguments == '{"parcel": 6}'
    assert (one.input[3].content, one.input[3].tool_call_id) == ("Oslo", "call_0")
    assert one.output[0].content == "Let me look."
    (call,) = one.output[0].tool_calls
    assert (call.id, call.name, call.arguments) == ("call_1", "track", '{"parcel": 7}')
    assert one.tools[0].description == "Where a parcel is"
    for span in (one, two):
        said = span.attributes
        assert said[genai.RESPONSE_ID] == "resp_1"
        assert said[genai.FINISH_REASONS] == ["tool_calls"]
        counts = (genai.INPUT_TOKENS, genai.OUTPUT_TOKENS, genai.CACHED_TOKENS)
        assert [said[name] for name in counts] == [40, 9, 32]
        assert genai.USAGE_ESTIMATED not in said


def test_a_stream_of_responses_that_was_cut_keeps_what_came() -> None:
    asked = {"model": "gpt", "input": "Where is 7?", "stream": True}
    span = passed("responses", asked, a_stream(None)[:-40], cut="cancelled")
    assert span.error == "cancelled"
    assert span.output[0].content == "Let me look."
    assert span.output[0].tool_calls[0].arguments == '{"parcel"'
    assert span.attributes[genai.USAGE_ESTIMATED] is True
    assert genai.FINISH_REASONS not in span.attributes


def test_a_stream_of_responses_that_simply_stops_is_told_as_broken() -> None:
    span = passed("responses", {"model": "gpt", "input": "?"}, a_stream(None))
    assert span.error == "the answer broke off"


def test_a_response_that_failed_or_was_cut_at_its_length_says_so() -> None:
    failed = {**RESPONSE, "status": "failed", "output": [], "error": {"message": "no luck"}}
    assert passed("responses", {"input": "?"}, json.dumps(failed).encode()).error == "no luck"
    reason = {"reason": "max_output_tokens"}
    short = {**RESPONSE, "status": "incomplete", "incomplete_details": reason}
    span = passed("responses", {"input": "?"}, json.dumps(short).encode())
    assert span.attributes[genai.FINISH_REASONS] == ["length"]


def test_a_request_that_goes_on_from_a_response_has_all_that_was_said_before() -> None:
    hearing = Hearing()
    first = {"model": "gpt", "instructions": "Be kind", "input": "Where is 7?"}
    passed("responses", first, json.dumps(RESPONSE).encode(), hearing)
    output = {"type": "function_call_output", "call_id": "call_1", "output": "Oslo"}
    then = {
        **{"model": "gpt", "instructions": "Be brief", "input": [output]},
        "previous_response_id": "resp_1",
    }
    second = {**RESPONSE, "id": "resp_2", "output": [SPOKEN]}
    span = passed("responses", then, json.dumps(second).encode(), hearing)
    assert [m.role for m in span.input] == ["system", "user", "assistant", "tool"]
    assert span.input[0].content == "Be brief"
    assert span.input[2].tool_calls[0].id == span.input[3].tool_call_id == "call_1"
    assert genai.UNREAD not in span.attributes
    other = passed("responses", then, json.dumps(second).encode(), hearing, project="another")
    assert [m.role for m in other.input] == ["system", "tool"]


def test_an_upstream_that_gives_every_response_the_same_id_is_remembered_once() -> None:
    conversations = Conversations()
    said = answered(json.dumps(RESPONSE).encode(), {}, cut=False)
    for _ in range(3):
        conversations.remember(("shop", "", ""), said, {}, (), 30 << 20)
    then = {"previous_response_id": said.id, "input": "And?"}
    unread: list[str] = []
    assert len(conversations.messages(("shop", "", ""), then, unread)) == 2
    assert not unread


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": "resp_of_yesterday"},
        {"conversation": "conv_1"},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
    ],
)
def test_a_request_whose_beginning_is_elsewhere_says_so(more: dict[str, Any]) -> None:
    span = passed("responses", {"input": "And?", **more}, json.dumps(RESPONSE).encode())
    assert span.attributes[genai.UNREAD]


async def test_legacy_completions_are_heard(tmp_path: Path) -> None:
    said = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m-1"}

    async def answer(request: web.Request) -> web.StreamResponse:
        choice = {"index": 0, "text": " in Oslo.", "finish_reason": "stop", "logprobs": None}
        return web.json_response({**said, "choices": [choice]})

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            await client(server).completions.create(model="old", prompt="The parcel is")
            (trace,) = traces(server)
    (span,) = trace.spans
    assert span.attributes[genai.OPERATION] == "text_completion"
    assert span.input == (Message(role="user", content="The parcel is"),)
    assert span.output[0].content == " in Oslo."
    assert span.attributes[genai.USAGE_ESTIMATED] is True


def test_what_it_cost_is_told_where_prices_are_known() -> None:
    hearing = Hearing(Prices(input=2.0, output=10.0))
    asked = {"model": "gpt", "messages": QUESTION}
    span = passed("chat/completions", asked, json.dumps(WHOLE).encode(), hearing)
    # 11 tokens of the prompt at 2 dollars a million, 3 of the answer at 10.
    assert span.attributes[genai.COST_USD] == pytest.approx(52e-6)


def test_what_is_no_text_leaves_its_mark_and_is_named() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = {
        "model": "gpt",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is this? "}, image]},
            {"role": "function", "name": "old", "content": "1"},
            "half",
        ],
        "tools": [{"type": "web_search"}, {"type": "function", "function": TOOL}],
    }
    span = passed("chat/completions", asked, json.dumps(WHOLE).encode())
    assert [m.content for m in span.input] == ["What is this? [image_url]"]
    unread = span.attributes[genai.UNREAD]
    assert isinstance(unread, list)
    assert unread[0] == "image_url"
    assert len(unread) == 3
    assert [tool.name for tool in span.tools] == ["track"]


def test_an_answer_in_another_protocol_is_kept_as_a_failure_with_its_question() -> None:
    asked = {"model": "gpt", "messages": QUESTION}
    span = passed("chat/completions", asked, b"<html>It works!</html>")
    assert "not the OpenAI protocol: <html>" in str(span.error)
    assert span.input[0].content == "Where is parcel 7?"


def test_an_error_in_the_middle_of_a_stream_keeps_what_came_before() -> None:
    broken = {"error": {"message": "overloaded"}}
    data = b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in (chunk(content="A"), broken))
    span = passed("chat/completions", {"model": "gpt", "messages": QUESTION}, data)
    assert span.error == "the server broke off: overloaded"
    assert span.output[0].content == "A"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("pydantic-ai/2.68.0", "pydantic-ai"),
        ("Agents/Python 0.24.0", "openai-agents"),
        ("agent-framework-python/1.23.0 AsyncOpenAI/Python 3.57.0", "agent-framework"),
        ("lm15/stdlib", "dspy"),
        ("AsyncOpenAI/Python 3.57.0", "openai"),
        ("curl/8.1", "curl"),
    ],
)
def test_a_framework_is_told_by_its_user_agent(agent: str, name: str) -> None:
    assert framework(agent) == name
    span = passed("chat/completions", {"messages": QUESTION}, b"{}", agent=agent)
    assert span.attributes[genai.FRAMEWORK] == name


_KEYS = """messages input prompt model tools choices delta message content role type output usage
status error item response text arguments tool_calls function name id"""
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_KEYS.split()), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    path=st.sampled_from(sorted(READ)),
    asked=_JSON,
    answer=st.lists(_JSON, max_size=3),
    streamed=st.booleans(),
    cut=st.sampled_from([None, "cancelled"]),
    status=st.sampled_from([200, 500]),
)
def test_whatever_passes_becomes_a_trace(
    path: str, asked: Any, answer: list[Any], streamed: bool, cut: str | None, status: int
) -> None:
    parts = [json.dumps(entry).encode() for entry in answer]
    data = b"".join(b"data: %b\n\n" % part for part in parts) if streamed else b"".join(parts)
    span = passed(path, asked, data, cut=cut, status=status)
    assert wire.from_bytes(wire.to_bytes(span), Span).id == span.id


@given(path=st.sampled_from(sorted(READ)), asked=st.binary(), answer=st.binary())
def test_bytes_that_mean_nothing_become_a_trace_too(path: str, asked: bytes, answer: bytes) -> None:
    passed(path, asked, answer)


async def test_a_request_in_pieces_and_larger_than_can_be_read_passes_whole(
    tmp_path: Path,
) -> None:
    size = 18 << 20
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(0)
        async for piece in request.content.iter_any():
            seen[-1] += len(piece)
        return web.json_response(WHOLE)

    async def body() -> Any:
        yield b'{"model": "gpt", "messages": [{"role": "user", "content": "'
        for _ in range(18):
            yield b"a" * (1 << 20)
        yield b'"}]}'

    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        with running(tmp_path, Rooms(), upstream=Upstream(there)) as server:
            url = f"{server.url}/t/shop/v1/chat/completions"
            async with aiohttp.ClientSession() as session, session.post(url, data=body()) as got:
                assert got.status == 200
            await asyncio.sleep(0.05)
            (trace,) = traces(server)
    finally:
        await runner.cleanup()
    assert seen[0] > size
    (span,) = trace.spans
    assert span.output[0].content == "In Oslo."
    assert "16 MiB" in str(span.attributes[genai.UNREAD])
