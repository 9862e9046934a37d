"""/v1/chat/completions, whole and streamed, and /v1/models.

The hot route is plain ASGI: a request is read into a `ChatRequest`, the pieces of the answer are
written as they come, and the whole of it becomes a trace. A client that goes away cancels the
model's work at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.core.errors import ModelError, UsageError
from kickwheel.core.plugins import nearest
from kickwheel.models import observed
from kickwheel.models.chat import (
    CallDelta,
    ChatRequest,
    Collected,
    Delta,
    Done,
    Model,
    TextDelta,
    Usage,
)
from kickwheel.records import SpanKind, genai
from kickwheel.records.openai import message_to_openai
from kickwheel.serve.errors import Refused, refusal
from kickwheel.serve.house import House, ModelCard
from kickwheel.serve.request import ChatBody, read
from kickwheel.trace.record import OpenSpan, Recorder

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

PATH = "/v1/chat/completions"

_TO_RECORD = (
    " What other servers answer is passed on and recorded by `kickwheel serve --record URL`."
)
_ENDS_LINES = ("\x85", "\u2028", "\u2029")
"""Allowed within a line of JSON, and the end of a line to some readers of streams."""


class Chat:
    """The hot route."""

    def __init__(self, house: House, recorder: Recorder) -> None:
        self._house = house
        self._recorder = recorder
        self._kinds: dict[str, SpanKind] = {}

    async def __call__(
        self,
        body: bytes,
        receive: Receive,
        send: Send,
        identity: str,
        trace: str,
        project: str = "",
    ) -> None:
        """Answers the request whose whole body is `body`.

        Args:
            identity: the answer's id.
            trace: the id, 32 hex digits, that the trace gets.
            project: whose traffic it is; by default the model's or agent's own.
        Raises:
            Refused: before anything was sent; the caller answers.
            KickwheelError: as the model raises, before anything was sent.
        """
        asked, request = read(body)
        try:
            model = await self._house.model(asked.model)
        except UsageError as error:
            what = f"{error}{_TO_RECORD}" if project else str(error)
            raise Refused(404, what, param="model", code="model_not_found") from error
        kind = await self._kind(asked.model)
        answer = _Answer(asked, identity, trace, send)
        watch = asyncio.create_task(_watch(receive, asyncio.current_task(), answer))
        try:
            whose = project or asked.model
            with self._recorder.trace(whose, asked.model, kind, identity=trace) as root:
                await _answer(model, request, answer, root)
            await answer.close()
        except asyncio.CancelledError:
            # Nobody is there to be answered; anybody else's wish to cancel goes on.
            me = asyncio.current_task()
            if not answer.left or me is None or me.uncancel():
                raise
        finally:
            watch.cancel()

    async def _kind(self, name: str) -> SpanKind:
        # A list of all models costs a look at the disk, and what a name is does not change.
        if name not in self._kinds:
            models = await asyncio.to_thread(self._house.models)
            cards = {card.id: card.kind for card in models}
            self._kinds[name] = cards.get(name, "model")
        return self._kinds[name]


async def _answer(model: Model, request: ChatRequest, answer: "_Answer", root: OpenSpan) -> None:
    started = time.perf_counter()
    collected = Collected()
    _note_request(root, answer, model, request)
    try:
        async with _pieces(model, request) as pieces:
            async for delta in pieces:
                collected.add(delta)
                await answer.add(delta)
        if collected.done is None:
            raise ModelError(f"{model.name} stopped in the middle of its answer")
        answer.whole = collected
    except Exception as error:
        if not answer.begun:
            raise
        # The status is sent already: the error goes into the stream, and the client raises it.
        root.fail(error)
        answer.broken = error
    finally:
        _note_answer(root, model, request, collected, started)


class _Answer:
    """The answer on its way to the client, streamed or whole."""

    def __init__(self, asked: ChatBody, identity: str, trace: str, send: Send) -> None:
        self.model = asked.model
        self.identity = identity
        self.begun = False
        """Whether the status was sent."""
        self.left = False
        """Whether the client went away."""
        self.ended = False
        self.whole: Collected | None = None
        self.broken: Exception | None = None
        self._stream = bool(asked.stream)
        self._usage = bool(asked.stream_options and asked.stream_options.get("include_usage"))
        self._trace = trace
        self._send = send
        self._created = int(time.time())
        head = {
            "id": identity,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.model,
            "system_fingerprint": None,
        }
        self._head = b"data: " + msgspec.json.encode(head)[:-1]
        self._usage_none = b',"usage":null' if self._usage else b""
        self._role: bytes | None = b'"role":"assistant","content":""'
        self._calls: set[int] = set()

    async def add(self, delta: Delta) -> None:
        """Sends the next piece, where the client wants pieces."""
        if not self._stream:
            return
        match delta:
            case TextDelta(""):
                return
            case TextDelta(text):
                piece = b'"content":' + _line(text)
                if self._role is not None:
                    piece = b'"role":"assistant",' + piece
                await self._chunk(piece, b"null")
            case CallDelta():
                piece = b'"tool_calls":[' + _line(self._call(delta)) + b"]"
                if self._role is not None:
                    piece = b'"role":"assistant","content":null,' + piece
                await self._chunk(piece, b"null")
            case Done():
                reason = b'"' + delta.finish_reason.encode() + b'"'
                await self._chunk(self._role or b"", reason)

    async def close(self) -> None:
        """Sends what is left: the whole answer, or the end of the stream."""
        if not self._stream:
            assert self.whole is not None
            body = _completion(self, self.whole, self._created)
            await self._start("application/json", len(body))
            await self._end(body)
            return
        if self.broken is not None:
            error = refusal(self.broken, self.identity).body()
            await self._end(b"data: " + error + b"\n\n")
            return
        last = b""
        if self._usage and self.whole is not None and self.whole.done is not None:
            usage = msgspec.json.encode(usage_to_openai(self.whole.done.usage))
            last = self._head + b',"choices":[],"usage":' + usage + b"}\n\n"
        await self._end(last + b"data: [DONE]\n\n")

    async def _chunk(self, delta: bytes, reason: bytes) -> None:
        self._role = None
        if not self.begun:
            await self._start("text/event-stream; charset=utf-8", None)
        data = b'%b,"choices":[{"index":0,"delta":{%b},"logprobs":null,"finish_reason":%b}]%b}\n\n'
        body = data % (self._head, delta, reason, self._usage_none)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _start(self, kind: str, length: int | None) -> None:
        self.begun = True
        headers = [
            (b"content-type", kind.encode()),
            (b"x-trace-id", self._trace.encode()),
            (b"cache-control", b"no-cache"),
        ]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        else:
            # nginx would collect the stream otherwise.
            headers.append((b"x-accel-buffering", b"no"))
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _end(self, body: bytes) -> None:
        self.ended = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _call(self, delta: CallDelta) -> dict[str, Any]:
        entry: dict[str, Any] = {"index": delta.index, "function": {"arguments": delta.arguments}}
        if delta.name is not None and delta.index not in self._calls:
            self._calls.add(delta.index)
            entry["id"] = delta.id or f"call_{delta.index}"
            entry["type"] = "function"
            entry["function"] = {"name": delta.name, "arguments": delta.arguments}
        return entry


def _line(value: Any) -> bytes:
    """The value as JSON that no client takes for more than one line."""
    encoded = msgspec.json.encode(value)
    if encoded.isascii():
        return encoded
    for letter in _ENDS_LINES:
        encoded = encoded.replace(letter.encode(), b"\\u%04x" % ord(letter))
    return encoded


@asynccontextmanager
async def _pieces(model: Model, request: ChatRequest) -> AsyncIterator[AsyncIterator[Delta]]:
    pieces = model.stream(request)
    try:
        yield pieces
    finally:
        # A generator that nobody reads on must let go of its connection or slot now.
        close = getattr(pieces, "aclose", None)
        if close is not None:
            await close()


async def _watch(receive: Receive, worker: "asyncio.Task[Any] | None", answer: _Answer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if worker is not None and not answer.ended:
        answer.left = True
        worker.cancel()


def usage_to_openai(usage: Usage) -> dict[str, Any]:
    """Usage as OpenAI's clients read it; `estimated` stands there where nobody counted."""
    return {
        **({"estimated": True} if usage.estimated else {}),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _completion(answer: _Answer, collected: Collected, created: int) -> bytes:
    assert collected.done is not None
    message = {**message_to_openai(collected.message()), "refusal": None}
    return msgspec.json.encode(
        {
            "id": answer.identity,
            "object": "chat.completion",
            "created": created,
            "model": answer.model,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    "finish_reason": collected.done.finish_reason,
                }
            ],
            "usage": usage_to_openai(collected.done.usage),
            "system_fingerprint": None,
        }
    )


def _note_request(root: OpenSpan, answer: _Answer, model: Model, request: ChatRequest) -> None:
    root.attributes[genai.RESPONSE_ID] = answer.identity
    if root.kind == "agent":
        # An agent fills the root itself, where it finds that nobody has.
        root.attributes[genai.REQUEST_MODEL] = answer.model
    else:
        observed.note_request(root, model, request, answer.model)


def _note_answer(
    root: OpenSpan, model: Model, request: ChatRequest, collected: Collected, started: float
) -> None:
    if root.kind == "agent":
        root.input = root.input or request.messages
        if not root.output and collected.first is not None:
            root.output = (collected.message(),)
    else:
        observed.note_answer(root, model, collected, started)


def model_routes(house: House) -> list[Route]:
    """The routes of /v1/models."""

    def listed(request: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": [_card(c) for c in house.models()]})

    def one(request: Request) -> JSONResponse:
        name = request.path_params["name"]
        cards = {card.id: card for card in house.models()}
        if name not in cards:
            what = f'no model "{name}" here. {nearest(name, cards)}'
            raise Refused(404, what, param="model", code="model_not_found")
        return JSONResponse(_card(cards[name]))

    return [Route("/v1/models", listed), Route("/v1/models/{name:path}", one)]


def _card(card: ModelCard) -> dict[str, Any]:
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": card.owned_by,
        "root": card.parent or card.id,
        "parent": card.parent,
        "max_model_len": card.context,
    }
