"""/v1/chat/completions, whole and streamed, and /v1/models.

The hot route is plain ASGI: a request is read into a `ChatRequest`, the pieces of the answer are
written as they come, and the whole of it becomes a trace. A client that goes away cancels the
model's work at once.
"""

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.core.plugins import nearest
from kickwheel.core.store import Artifacts
from kickwheel.models.chat import (
    CallDelta,
    Collected,
    Delta,
    Done,
    TextDelta,
    Usage,
)
from kickwheel.models.pictures import sent
from kickwheel.records.openai import message_to_openai
from kickwheel.serve import pictures
from kickwheel.serve.answering import Answering, Question, unless_left
from kickwheel.serve.errors import Refused, refusal
from kickwheel.serve.house import House, ModelCard
from kickwheel.serve.outgoing import Outgoing, Receive, Send, Told
from kickwheel.serve.request import ChatBody, read

PATH = "/v1/chat/completions"

_ENDS_LINES = ("\x85", "\u2028", "\u2029")
"""Allowed within a line of JSON, and the end of a line to some readers of streams."""


class Chat:
    """The hot route."""

    def __init__(self, answering: Answering, artifacts: Artifacts) -> None:
        self._answering = answering
        self._artifacts = artifacts

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
        model = await self._answering.model(asked.model, project)
        if sent(request.messages):
            request = await pictures.kept(request, self._artifacts, "messages")
        question = Question(
            name=asked.model, request=request, identity=identity, trace=trace, project=project
        )
        answer = _Answer(asked, identity, Outgoing(send, trace, stream=bool(asked.stream)))

        async def work() -> None:
            await answer.close(await self._answering.answer(model, question, answer))

        await unless_left(receive, answer, work)


class _Answer(Told):
    """The answer on its way to the client, streamed or whole."""

    def __init__(self, asked: ChatBody, identity: str, out: Outgoing) -> None:
        super().__init__(out)
        self.model = asked.model
        self.identity = identity
        self._broken: Exception | None = None
        self._usage = bool(asked.stream_options and asked.stream_options.get("include_usage"))
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
        if not self.out.stream:
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

    async def fail(self, error: Exception) -> None:
        """Takes the error that ended the stream; the client raises it."""
        self._broken = error

    async def close(self, whole: Collected) -> None:
        """Sends what is left: the whole answer, or the end of the stream."""
        if not self.out.stream:
            await self.out.whole(_completion(self, whole, self._created))
            return
        if self._broken is not None:
            error = refusal(self._broken, self.identity).body()
            await self.out.events(b"data: " + error + b"\n\n", last=True)
            return
        last = b""
        if self._usage and whole.done is not None:
            usage = msgspec.json.encode(usage_to_openai(whole.done.usage))
            last = self._head + b',"choices":[],"usage":' + usage + b"}\n\n"
        await self.out.events(last + b"data: [DONE]\n\n", last=True)

    async def _chunk(self, delta: bytes, reason: bytes) -> None:
        self._role = None
        data = b'%b,"choices":[{"index":0,"delta":{%b},"logprobs":null,"finish_reason":%b}]%b}\n\n'
        await self.out.events(data % (self._head, delta, reason, self._usage_none))

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


def _completion(answer: _Answer, collected: Collected, created: int) -> dict[str, Any]:
    assert collected.done is not None
    message = {**message_to_openai(collected.message()), "refusal": None}
    return {
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
