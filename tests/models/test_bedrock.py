"""Bedrock through AWS's SDK, against a server on the loopback that speaks its binary events.

Source: the encoding `vnd.amazon.event-stream`, as the Smithy specification has it: a prelude of
two lengths with a CRC, headers, the payload, and a CRC of all.
"""

import asyncio
import json
import struct
from binascii import crc32
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web

from kickwheel.core.errors import ModelError
from kickwheel.models import observed, retry
from kickwheel.models.chat import ChatRequest, Model, TextDelta, Usage, complete
from kickwheel.records import Message, ToolCall, ToolSpec, genai
from tests.wires import bedrock as wire
from tests.wires.bedrock import converse_body

from .loopback import Handler, Loopback, loopback
from .opened import attributes, opened

ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=5.0)
CLAUDE = "eu.anthropic.claude-x-v1:0"
FORM = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@asynccontextmanager
async def bedrock(folder: Path, handler: Handler) -> AsyncGenerator[tuple[Model, Loopback]]:
    async with (
        loopback(handler) as server,
        opened(
            folder,
            f"far: {{kind: bedrock, model: '{CLAUDE}', region: eu-central-1, "
            f"base_url: '{server.url}'}}",
        ) as app,
    ):
        yield app.model("far"), server


def frame(kind: str, said: Any, message: str = "event") -> bytes:
    """One event, as it goes over the wire."""
    assert not isinstance(said, dict) or wire.said(kind, said) == []
    names = {":message-type": message, ":content-type": "application/json"}
    names[":event-type" if message == "event" else ":exception-type"] = kind
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(v)) + v.encode()
        for name, v in names.items()
    )
    payload = json.dumps(said).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def piece(index: int, **delta: Any) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


def use(index: int, identity: str, name: str) -> bytes:
    start = {"toolUse": {"toolUseId": identity, "name": name}}
    return frame("contentBlockStart", {"contentBlockIndex": index, "start": start})


def ended(index: int) -> bytes:
    return frame("contentBlockStop", {"contentBlockIndex": index})


def stopped(reason: str) -> bytes:
    usage = {"inputTokens": 10, "outputTokens": 7, "totalTokens": 17}
    cached = {"cacheReadInputTokens": 200, "cacheWriteInputTokens": 30}
    told = {"usage": {**usage, **cached}, "metrics": {"latencyMs": 5}}
    return frame("messageStop", {"stopReason": reason}) + frame("metadata", told)


BEGIN = frame("messageStart", {"role": "assistant"})


def text(*pieces: str, reason: str = "end_turn") -> list[bytes]:
    return [BEGIN, *(piece(0, text=said) for said in pieces), ended(0), stopped(reason)]


async def events(request: web.Request, *said: bytes, end: bool = True) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/vnd.amazon.eventstream"})
    await response.prepare(request)
    for event in said:
        await response.write(event)
    if not end and request.transport is not None:
        request.transport.abort()
    return response


async def test_text_comes_piece_by_piece_with_what_was_cached(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text("I", " do."))

    async with bedrock(tmp_path, answer) as (model, server):
        pieces = [delta async for delta in model.stream(ASKED)]
        whole = await complete(model, ASKED)
    assert [p.text for p in pieces if isinstance(p, TextDelta)] == ["I", " do."]
    counted = Usage(prompt_tokens=240, output_tokens=7, cached_tokens=200, written_tokens=30)
    assert whole.usage == counted
    assert (whole.message.content, whole.finish_reason) == ("I do.", "stop")
    path, body, headers = server.asked[0]
    assert unquote(path) == f"/model/{CLAUDE}/converse-stream"
    assert body["messages"] == [{"role": "user", "content": [{"text": "Who?"}]}]
    assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIATEST/")
    assert "/eu-central-1/bedrock/" in headers["Authorization"]


async def test_calls_at_once_are_put_together_and_one_without_arguments_is_an_empty_object(
    tmp_path: Path,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(
            request,
            *(BEGIN, piece(0, text="Let me look."), ended(0)),
            *(use(1, "a", "find"), piece(1, toolUse={"input": '{"x"'})),
            *(piece(1, toolUse={"input": ":1}"}), ended(1)),
            *(use(2, "b", "now"), ended(2), stopped("tool_use")),
        )

    async with bedrock(tmp_path, answer) as (model, _):
        whole = await complete(model, ASKED)
    assert whole.message.tool_calls == (
        ToolCall(id="a", name="find", arguments='{"x":1}'),
        ToolCall(id="b", name="now", arguments="{}"),
    )
    assert (whole.message.content, whole.finish_reason) == ("Let me look.", "tool_calls")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("max_tokens", "length"),
        ("stop_sequence", "stop"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
    ],
)
async def test_why_it_stopped_is_told_in_our_words(tmp_path: Path, reason: str, told: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text("No.", reason=reason))

    async with bedrock(tmp_path, answer) as (model, _):
        assert (await complete(model, ASKED)).finish_reason == told


async def test_what_the_model_wrote_wrongly_is_an_error(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text("{", reason="malformed_tool_use"))

    async with bedrock(tmp_path, answer) as (model, _):
        with pytest.raises(ModelError, match="malformed_tool_use") as caught:
            await complete(model, ASKED)
    assert caught.value.status == 502


def test_a_conversation_is_put_as_bedrock_wants_it() -> None:
    call = ToolCall(id="a", name="find", arguments='{"x": 1}')
    request = ChatRequest(
        messages=(
            Message(role="system", content="Be brief."),
            Message(role="user", content="Where?"),
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content="Oslo", tool_call_id="a"),
        ),
        tools=(ToolSpec(name="find", description="Finds.", parameters={"properties": {}}),),
        tool_choice="find",
        temperature=0.5,
        max_tokens=9,
        stop=("END",),
        json_schema=FORM,
        extra={"top_k": 5},
    )
    body = converse_body(request, CLAUDE)
    assert body["system"] == [{"text": "Be brief."}]
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "a", "name": "find", "input": {"x": 1}}}],
        },
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": "Oslo"}]}}],
        },
    ]
    schema = {"json": {"type": "object", "properties": {}}}
    spec = {"name": "find", "inputSchema": schema, "description": "Finds."}
    choice = {"tool": {"name": "find"}}
    assert body["toolConfig"] == {"tools": [{"toolSpec": spec}], "toolChoice": choice}
    assert body["inferenceConfig"] == {"maxTokens": 9, "temperature": 0.5, "stopSequences": ["END"]}
    form = body["outputConfig"]["textFormat"]
    assert json.loads(form["structure"]["jsonSchema"]["schema"]) == FORM
    assert body["additionalModelRequestFields"] == {"top_k": 5}


def test_a_conversation_with_calls_names_their_tools_though_nobody_offers_them_any_more() -> None:
    call = ToolCall(id="a", name="hand_to_billing", arguments="{}")
    request = ChatRequest(
        messages=(
            *ASKED.messages,
            Message(role="assistant", tool_calls=(call,)),
            Message(role="tool", content="Yours.", tool_call_id="a"),
        )
    )
    (tool,) = converse_body(request, CLAUDE)["toolConfig"]["tools"]
    assert tool["toolSpec"]["name"] == "hand_to_billing"


def test_a_model_without_a_grammar_is_told_the_schema_in_words() -> None:
    request = ChatRequest(messages=ASKED.messages, json_schema=FORM)
    body = converse_body(request, "eu.amazon.nova-lite-v1:0")
    assert "outputConfig" not in body
    assert json.dumps(FORM, separators=(",", ":")) in body["system"][-1]["text"]
    labelled = ChatRequest(messages=ASKED.messages, labels=("spam", "ham"))
    (said,) = converse_body(labelled, "eu.amazon.nova-lite-v1:0")["system"]
    assert said["text"].endswith(": spam, ham")


def test_tools_that_must_not_be_called_are_not_offered() -> None:
    request = ChatRequest(
        messages=ASKED.messages, tools=(ToolSpec(name="find"),), tool_choice="none"
    )
    assert "toolConfig" not in converse_body(request, "m")


def test_marks_for_the_cache_go_to_models_that_know_them() -> None:
    messages = (Message(role="system", content="Rules. " * 800), *ASKED.messages)
    request = ChatRequest(messages=messages, tools=(ToolSpec(name="find"),))
    marked, mark = converse_body(request, CLAUDE), {"cachePoint": {"type": "default"}}
    assert marked["system"][-1] == marked["messages"][-1]["content"][-1] == mark
    assert "cachePoint" not in str(converse_body(request, "meta.llama3-3-70b-instruct-v1:0"))
    short = ChatRequest(messages=ASKED.messages, tools=request.tools)
    assert "cachePoint" not in str(converse_body(short, CLAUDE))


@pytest.mark.parametrize(
    ("kind", "status", "told", "tries"),
    [
        ("ValidationException", 400, 400, 1),
        ("AccessDeniedException", 403, 401, 1),
        ("ResourceNotFoundException", 404, 404, 1),
        ("ModelTimeoutException", 408, 504, 3),
        ("ModelErrorException", 424, 502, 1),
        ("ThrottlingException", 429, 429, 3),
        ("ServiceUnavailableException", 503, 502, 3),
    ],
)
async def test_an_error_has_its_status_and_the_servers_words(
    tmp_path: Path, kind: str, status: int, told: int, tries: int
) -> None:
    async def answer(request: web.Request) -> web.Response:
        headers = {"x-amzn-ErrorType": kind}
        return web.json_response({"message": "not today"}, status=status, headers=headers)

    async with bedrock(tmp_path, answer) as (model, server):
        with pytest.raises(ModelError, match="not today") as caught:
            await complete(model, ASKED)
    assert caught.value.status == told
    assert len(server.asked) == tries


async def test_a_model_that_takes_no_temperature_is_asked_without_it(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if "temperature" not in (await request.json()).get("inferenceConfig", {}):
            return await events(request, *text("Me."))
        headers = {"x-amzn-ErrorType": "ValidationException"}
        said = {"message": "temperature is deprecated for this model."}
        return web.json_response(said, status=400, headers=headers)

    asked = ChatRequest(messages=ASKED.messages, temperature=0.0)
    async with bedrock(tmp_path, answer) as (model, server):
        for _ in range(2):
            assert (await complete(model, asked)).message.content == "Me."
    assert len(server.asked) == 3


async def test_an_error_in_the_stream_has_its_kind(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        broken = frame("throttlingException", {"message": "too many"}, "exception")
        return await events(request, BEGIN, piece(0, text="I"), broken)

    async with bedrock(tmp_path, answer) as (model, server):
        with pytest.raises(ModelError, match="too many") as caught:
            await complete(model, ASKED)
    assert caught.value.status == 429
    assert len(server.asked) == 1, "pieces were shown: it must not be asked again"


@pytest.mark.parametrize("end", [True, False], ids=["ends early", "breaks"])
async def test_half_an_answer_is_an_error(tmp_path: Path, end: bool) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, BEGIN, piece(0, text="I was"), end=end)

    async with bedrock(tmp_path, answer) as (model, _):
        with pytest.raises(ModelError, match="broke off") as caught:
            await complete(model, ASKED)
    assert caught.value.status == 502


@pytest.mark.parametrize(
    "said",
    [b"<html>Hello, this is no stream</html>", BEGIN[:-1] + b"!", frame("messageStop", [1])],
    ids=["no stream", "wrong sum", "wrong shape"],
)
async def test_rubbish_is_an_error_and_nothing_else(tmp_path: Path, said: bytes) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, said)

    async with bedrock(tmp_path, answer) as (model, _):
        with pytest.raises(ModelError) as caught:
            await complete(model, ASKED)
    assert caught.value.status == 502


async def test_a_silent_server_is_left_at_the_deadline(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await events(request, BEGIN)
        await asyncio.sleep(60)
        raise AssertionError

    async with bedrock(tmp_path, answer) as (model, _):
        asked = ChatRequest(messages=ASKED.messages, timeout_s=0.5)
        with pytest.raises(ModelError) as caught:
            await complete(model, asked)
    assert caught.value.status == 504


async def test_leaving_early_ends_the_connection(tmp_path: Path) -> None:
    left = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            await events(request, BEGIN, piece(0, text="I"))
            await asyncio.sleep(60)
        finally:
            left.set()
        raise AssertionError

    async with bedrock(tmp_path, answer) as (model, _):
        pieces = model.stream(ASKED)
        assert await anext(aiter(pieces)) == TextDelta("I")
        asking = asyncio.create_task(anext(aiter(pieces)))  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait([asking])
        async with asyncio.timeout(5):
            await left.wait()


async def test_without_credentials_it_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        raise AssertionError

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    async with bedrock(tmp_path, answer) as (model, _):
        with pytest.raises(ModelError, match="credentials") as caught:
            await complete(model, ASKED)
    assert caught.value.status == 401


async def test_labels_travel_as_a_schema_and_come_back_as_words(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text('{"label"', ':"spam"}'))

    async with bedrock(tmp_path, answer) as (model, _):
        asked = ChatRequest(messages=ASKED.messages, labels=("spam", "ham"))
        assert (await complete(model, asked)).message.content == "spam"


async def test_the_trace_tells_what_the_cache_held(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await events(request, *text("Me."))

    async with (
        loopback(answer) as server,
        opened(
            tmp_path,
            f"far: {{kind: bedrock, model: m, region: eu-central-1, base_url: '{server.url}'}}",
        ) as app,
    ):
        with app.recorder.trace("far", "far"):
            async for _ in observed.stream(app.model("far"), ASKED):
                pass
        (noted,) = attributes(app)
    assert noted[genai.PROVIDER] == "aws.bedrock"
    assert (noted[genai.INPUT_TOKENS], noted[genai.CACHED_TOKENS]) == (240, 200)
