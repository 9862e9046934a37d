"""Claude through Anthropic's SDK, against a server on the loopback that speaks its protocol."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import BaseModel, Field

from kickwheel.core.errors import ModelError
from kickwheel.models import observed, retry
from kickwheel.models.chat import CallDelta, ChatRequest, Model, TextDelta, Usage, complete
from kickwheel.records import Message, ToolCall, ToolSpec, genai
from tests.wires import anthropic
from tests.wires.anthropic import message_body

from .loopback import Handler, Loopback, loopback
from .opened import attributes, opened

KEY = "sk-ant-very-secret-1"
ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=5.0)
START_USAGE = {
    **{"input_tokens": 10, "output_tokens": 1},
    **{"cache_read_input_tokens": 200, "cache_creation_input_tokens": 30},
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)


@asynccontextmanager
async def claude(folder: Path, handler: Handler) -> AsyncGenerator[tuple[Model, Loopback]]:
    async with (
        loopback(handler) as server,
        opened(
            folder,
            f"far: {{kind: anthropic, model: claude-x, base_url: '{server.url}', api_key: {KEY}}}",
        ) as app,
    ):
        yield app.model("far"), server


def start(usage: dict[str, int] = START_USAGE) -> dict[str, Any]:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x-1"}
    rest = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    return {"type": "message_start", "message": {**message, **rest}}


def block(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def piece(index: int, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def ended(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def stopped(reason: str, output_tokens: int = 7) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    usage = {"output_tokens": output_tokens}
    return [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]


async def events(
    request: web.Request, *said: dict[str, Any], end: bool = True
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in said:
        assert anthropic.said(event) == []
        line = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        await response.write(line.encode())
    if not end and request.transport is not None:
        request.transport.abort()
    return response


def text(*pieces: str, reason: str = "end_turn") -> list[dict[str, Any]]:
    said = [piece(0, type="text_delta", text=p) for p in pieces]
    return [start(), block(0, type="text", text=""), *said, ended(0), *stopped(reason)]


async def test_text_comes_piece_by_piece_with_what_was_cached(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text("I", " do."))

    async with claude(tmp_path, answer) as (model, server):
        pieces = [delta async for delta in model.stream(ASKED)]
        whole = await complete(model, ASKED)
    assert [p.text for p in pieces if isinstance(p, TextDelta)] == ["I", " do."]
    # By Anthropic's documentation the prompt is what was read, cached and written, together.
    counted = Usage(prompt_tokens=240, output_tokens=7, cached_tokens=200, written_tokens=30)
    assert whole.usage == counted
    assert (whole.message.content, whole.finish_reason) == ("I do.", "stop")
    assert whole.model == "claude-x-1"
    path, body, headers = server.asked[0]
    assert (path, body["model"], body["stream"]) == ("/v1/messages", "claude-x", True)
    assert headers["Authorization"] == f"Bearer {KEY}"


async def test_calls_at_once_are_put_together_and_one_without_arguments_is_an_empty_object(
    tmp_path: Path,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(
            request,
            start(),
            block(0, type="text", text=""),
            piece(0, type="text_delta", text="Let me look."),
            ended(0),
            block(1, type="tool_use", id="a", name="find", input={}),
            piece(1, type="input_json_delta", partial_json=""),
            piece(1, type="input_json_delta", partial_json='{"x"'),
            piece(1, type="input_json_delta", partial_json=":1}"),
            ended(1),
            block(2, type="tool_use", id="b", name="now", input={}),
            ended(2),
            *stopped("tool_use"),
        )

    async with claude(tmp_path, answer) as (model, _):
        whole = await complete(model, ASKED)
    assert whole.message.tool_calls == (
        ToolCall(id="a", name="find", arguments='{"x":1}'),
        ToolCall(id="b", name="now", arguments="{}"),
    )
    assert (whole.message.content, whole.finish_reason) == ("Let me look.", "tool_calls")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
    ],
)
async def test_why_it_stopped_is_told_in_our_words(tmp_path: Path, reason: str, told: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text("No.", reason=reason))

    async with claude(tmp_path, answer) as (model, _):
        assert (await complete(model, ASKED)).finish_reason == told


def test_a_conversation_is_put_as_anthropic_wants_it() -> None:
    calls = (
        ToolCall(id="a", name="find", arguments='{"x": 1}'),
        ToolCall(id="b", name="find", arguments="{broken"),
    )
    request = ChatRequest(
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="Where?"),
            Message(role="assistant", content="I look.", tool_calls=calls),
            Message(role="tool", content="Oslo", tool_call_id="a"),
            Message(role="tool", content="", tool_call_id="b"),
            Message(role="user", content="And then?"),
        ),
        tools=(ToolSpec(name="find", description="Finds.", parameters={"properties": {}}),),
        tool_choice="required",
        temperature=1.7,
        stop=("END",),
        seed=3,
        extra={"metadata": {"user_id": "u"}, "stream": False},
    )
    body = message_body(request, "m", 100)
    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "a", "name": "find", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "find", "input": {"broken": "{broken"}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "Oslo"},
        {"type": "tool_result", "tool_use_id": "b"},
        {"type": "text", "text": "And then?"},
    ]
    assert body["tools"][0]["input_schema"] == {"type": "object", "properties": {}}
    assert body["tool_choice"] == {"type": "any"}
    assert (body["max_tokens"], body["temperature"], body["stop_sequences"]) == (100, 1.0, ["END"])
    assert body["metadata"] == {"user_id": "u"}
    assert "seed" not in body


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("find", {"type": "tool", "name": "find"}),
    ],
)
def test_a_choice_of_tools_is_put_as_anthropic_wants_it(choice: str, told: object) -> None:
    request = ChatRequest(
        messages=ASKED.messages, tools=(ToolSpec(name="find"),), tool_choice=choice
    )
    assert message_body(request, "m", 100)["tool_choice"] == told


def marks(body: dict[str, Any]) -> list[str]:
    """Where the marks for the cache stand."""
    places = [("tools", body.get("tools", [])), ("system", body.get("system", []))]
    places += [("messages", turn["content"]) for turn in body["messages"]]
    return [place for place, blocks in places for entry in blocks if "cache_control" in entry]


def test_marks_for_the_cache_stand_where_they_pay() -> None:
    long = Message(role="system", content="Rules. " * 800)
    short = Message(role="system", content="Be brief.")
    tools = (ToolSpec(name="find"),)
    asked = ASKED.messages

    def of(*messages: Message, tools: tuple[ToolSpec, ...] = ()) -> list[str]:
        return marks(message_body(ChatRequest(messages=messages, tools=tools), "m", 100))

    assert of(short, *asked, tools=tools) == [], "too short to be cached"
    assert of(long, *asked) == ["system"], "one question: nobody reads the rest again"
    assert of(long, *asked, tools=tools) == ["system", "messages"], "another step will follow"
    later = (Message(role="assistant", content="Me."), Message(role="user", content="Why?"))
    assert of(long, *asked, *later) == ["system", "messages"]


async def test_labels_travel_as_a_schema_and_come_back_as_words(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text('{"label"', ':"spam"}'))

    async with claude(tmp_path, answer) as (model, server):
        asked = ChatRequest(messages=ASKED.messages, labels=("spam", "ham"))
        assert (await complete(model, asked)).message.content == "spam"
    schema = server.asked[0][1]["output_config"]["format"]["schema"]
    assert schema["properties"]["label"]["enum"] == ["spam", "ham"]


class Invoice(BaseModel):
    total: float = Field(ge=0)
    to: str | None = None


def test_a_schema_goes_as_anthropic_takes_it_and_in_words_where_it_takes_none() -> None:
    def of(schema: dict[str, Any]) -> dict[str, Any]:
        return message_body(ChatRequest(messages=ASKED.messages, json_schema=schema), "m", 100)

    held = of(Invoice.model_json_schema())
    assert held["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert "'minimum'" not in str(held)
    assert "system" not in held
    many = {f"p{n}": {"type": ["string", "null"]} for n in range(17)}
    assert "output_config" not in of({"type": "object", "properties": many, "required": [*many]})
    optional = {f"p{n}": {"type": "string"} for n in range(25)}
    assert "output_config" not in of({"type": "object", "properties": optional})
    told = of({"type": "object", "additionalProperties": {"type": "integer"}})
    assert "output_config" not in told
    assert told["system"][-1]["text"].endswith('"additionalProperties":{"type":"integer"}}')


@pytest.mark.parametrize(
    ("status", "told", "tries"),
    [(400, 400, 1), (401, 401, 1), (404, 404, 1), (429, 429, 3), (500, 502, 3), (529, 429, 3)],
)
async def test_an_error_has_its_status_and_the_servers_words(
    tmp_path: Path, status: int, told: int, tries: int
) -> None:
    async def answer(request: web.Request) -> web.Response:
        error = {"type": "some_error", "message": f"no, {KEY} is wrong"}
        return web.json_response({"type": "error", "error": error}, status=status)

    async with claude(tmp_path, answer) as (model, server):
        with pytest.raises(ModelError, match="is wrong") as caught:
            await complete(model, ASKED)
    assert caught.value.status == told
    assert KEY not in str(caught.value)
    assert len(server.asked) == tries


async def test_the_wait_that_is_asked_for_is_kept_under_one_deadline(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({}, status=429, headers={"retry-after": "60"})

    async with claude(tmp_path, answer) as (model, server):
        with pytest.raises(ModelError) as caught:
            await complete(model, ASKED)
    assert (caught.value.status, caught.value.retry_after_s, len(server.asked)) == (429, 60.0, 1)


async def test_a_model_that_takes_no_temperature_is_asked_without_it(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if "temperature" not in await request.json():
            return await events(request, *text("Me."))
        said = {"type": "invalid_request_error", "message": "`temperature` is deprecated for this."}
        return web.json_response({"type": "error", "error": said}, status=400)

    asked = ChatRequest(messages=ASKED.messages, temperature=0.0)
    async with claude(tmp_path, answer) as (model, server):
        for _ in range(2):
            assert (await complete(model, asked)).message.content == "Me."
    assert len(server.asked) == 3


async def test_an_error_in_the_stream_has_its_kind(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        error = {"type": "overloaded_error", "message": "Overloaded"}
        return await events(request, *text("I")[:3], {"type": "error", "error": error})

    async with claude(tmp_path, answer) as (model, server):
        with pytest.raises(ModelError, match="Overloaded") as caught:
            await complete(model, ASKED)
    assert caught.value.status == 429
    assert len(server.asked) == 1, "pieces were shown: it must not be asked again"


@pytest.mark.parametrize("end", [True, False], ids=["ends early", "breaks"])
async def test_half_an_answer_is_an_error(tmp_path: Path, end: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text("I was")[:3], end=end)

    async with claude(tmp_path, answer) as (model, _):
        with pytest.raises(ModelError, match="broke off") as caught:
            await complete(model, ASKED)
    assert caught.value.status == 502


@pytest.mark.parametrize(
    "said",
    ["data: [1, 2]\n\n", "event: message_start\ndata: {broken\n\n", "<html>Hello</html>", ""],
)
async def test_rubbish_is_an_error_and_nothing_else(tmp_path: Path, said: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=said, content_type="text/event-stream")

    async with claude(tmp_path, answer) as (model, _):
        with pytest.raises(ModelError) as caught:
            await complete(model, ASKED)
    assert caught.value.status == 502


async def test_a_silent_server_is_left_at_the_deadline(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async with claude(tmp_path, answer) as (model, _):
        asked = ChatRequest(messages=ASKED.messages, timeout_s=0.3)
        with pytest.raises(ModelError) as caught:
            await complete(model, asked)
    assert caught.value.status == 504


async def test_the_trace_tells_what_the_cache_held_and_what_it_cost(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text("Me."))

    async with (
        loopback(answer) as server,
        opened(
            tmp_path,
            f"far: {{kind: anthropic, model: m, base_url: '{server.url}', api_key: {KEY}, "
            "prices: {input: 3, output: 15, cached: 0.3, written: 3.75}}",
        ) as app,
    ):
        with app.recorder.trace("far", "far"):
            async for _ in observed.stream(app.model("far"), ASKED):
                pass
        (noted,) = attributes(app)
    assert noted[genai.PROVIDER] == "anthropic"
    assert noted[genai.INPUT_TOKENS] == 240
    assert noted[genai.CACHED_TOKENS] == 200
    assert noted[genai.CACHE_WRITTEN_TOKENS] == 30
    # By hand: 10 at 3 $, 200 at 0.3 $, 30 at 3.75 $, 7 at 15 $ for a million.
    assert noted[genai.COST_USD] == pytest.approx((30 + 60 + 112.5 + 105) / 1e6)


async def test_calls_come_while_they_are_written(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(
            request,
            start(),
            block(0, type="tool_use", id="a", name="find", input={}),
            piece(0, type="input_json_delta", partial_json='{"x"'),
            piece(0, type="input_json_delta", partial_json=":1}"),
            ended(0),
            *stopped("tool_use"),
        )

    async with claude(tmp_path, answer) as (model, _):
        pieces = [delta async for delta in model.stream(ASKED)]
    assert pieces[:3] == [
        CallDelta(0, "", "a", "find"),
        CallDelta(0, '{"x"'),
        CallDelta(0, ":1}"),
    ]


async def test_leaving_early_ends_the_connection(tmp_path: Path) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            await events(request, *text("I")[:3])
            begun.set()
            await asyncio.sleep(60)
        finally:
            left.set()
        raise AssertionError

    async with claude(tmp_path, answer) as (model, _):
        asking = asyncio.create_task(complete(model, ASKED))
        async with asyncio.timeout(30):
            await begun.wait()
            asking.cancel()
            await left.wait()
