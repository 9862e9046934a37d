"""OpenAI's protocol: what we ask of it, and what our server answers, by `openai.types`."""

import base64
import json
import re
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from openai.types import (
    Completion,
    CreateEmbeddingResponse,
    FileDeleted,
    FileObject,
    Model,
    completion_create_params,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat import completion_create_params as chat
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.responses import Response, ResponseItem, ResponseStreamEvent
from openai.types.shared import ErrorObject

from tests.wires import shapes
from tests.wires.talk import NAME

_ASKED = {
    "/chat/completions": (
        chat.CompletionCreateParamsNonStreaming,
        chat.CompletionCreateParamsStreaming,
    ),
    "/completions": (
        completion_create_params.CompletionCreateParamsNonStreaming,
        completion_create_params.CompletionCreateParamsStreaming,
    ),
    "/embeddings": (EmbeddingCreateParams, EmbeddingCreateParams),
}
_JOBS = "/v1/fine_tuning/jobs"
_ANSWERED: list[tuple[str, str, Any, bool]] = [
    ("POST", "/v1/chat/completions", ChatCompletion, False),
    ("POST", "/v1/completions", Completion, False),
    ("POST", "/v1/embeddings", CreateEmbeddingResponse, False),
    ("GET", "/v1/models", Model, True),
    ("GET", "/v1/models/.+", Model, False),
    ("POST", "/v1/files", FileObject, False),
    ("GET", "/v1/files", FileObject, True),
    ("GET", "/v1/files/[^/]+", FileObject, False),
    ("DELETE", "/v1/files/[^/]+", FileDeleted, False),
    ("POST", _JOBS, FineTuningJob, False),
    ("GET", _JOBS, FineTuningJob, True),
    ("GET", f"{_JOBS}/[^/]+", FineTuningJob, False),
    ("POST", f"{_JOBS}/[^/]+/(cancel|pause|resume)", FineTuningJob, False),
    ("GET", f"{_JOBS}/[^/]+/events", FineTuningJobEvent, True),
    ("GET", f"{_JOBS}/[^/]+/checkpoints", FineTuningJobCheckpoint, True),
    ("POST", "/v1/responses", Response, False),
    ("GET", "/v1/responses/[^/]+", Response, False),
    ("POST", "/v1/responses/[^/]+/cancel", Response, False),
    ("GET", "/v1/responses/[^/]+/input_items", ResponseItem, True),
]
"""Method, path, what is answered with 200, and whether it is a list of them."""
_STREAMED: Mapping[Any, Any] = {
    ChatCompletion: ChatCompletionChunk,
    Completion: Completion,
    Response: ResponseStreamEvent,
}
_OURS = {
    FineTuningJob: ("training_type", "user_provided_suffix"),
    Model: ("root", "parent", "max_model_len"),
    Response: ("store",),
}
"""Fields that we send beside those of the type, as OpenAI and vLLM do too; the first is ours."""
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]


def asked(path: str, body: Mapping[str, Any]) -> list[str]:
    """What OpenAI would not take of a request; nothing is said of other paths."""
    kinds = _ASKED.get(path.removeprefix("/v1"))
    if kinds is None:
        return []
    found = shapes.faults(kinds[bool(body.get("stream"))], body)
    return found or list(_talk(body.get("messages", ()), body.get("tools", ())))


def _talk(
    messages: Sequence[Mapping[str, Any]], tools: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """What OpenAI demands of a conversation beyond its shape, in the sentences of its refusals.

    Source: platform.openai.com, Function calling, and Chat completions, `tools.function.name`.
    """
    owed: set[str] = set()
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in owed:
                yield f"messages.{place}: role tool must be a response to a preceding tool_calls"
            owed.discard(message["tool_call_id"])
            continue
        if owed:
            yield f"messages.{place}: tool_call_ids did not have response messages: {owed}"
        calls = message.get("tool_calls", ())
        if message["role"] == "assistant" and message.get("content") is None and not calls:
            yield f"messages.{place}: an assistant's message needs content or tool_calls"
        owed = {call["id"] for call in calls}
    names = [tool["function"]["name"] for tool in tools]
    for name in names:
        if not NAME.fullmatch(name):
            yield f"tools: {name!r} should match {NAME.pattern}"


class Watched:
    """An ASGI app, and what its answers have that the types of OpenAI's own client have not."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.faults: list[str] = []

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, kind, held = 0, "", bytearray()

        async def noted(message: Any) -> None:
            nonlocal status, kind
            if message["type"] == "http.response.start":
                status = message["status"]
                kind = dict(message["headers"]).get(b"content-type", b"").decode()
            held.extend(message.get("body", b""))
            ended = message["type"] == "http.response.body" and not message.get("more_body")
            if ended and not kind.startswith("application/x-ndjson"):
                where = f"{scope['method']} {scope['path']} {status}"
                found = answered(scope["method"], scope["path"], status, kind, bytes(held))
                self.faults += [f"{where}: {fault}" for fault in found]
            await send(message)

        await self._app(scope, receive, noted)


def answered(method: str, path: str, status: int, kind: str, body: bytes) -> list[str]:
    """What of an answer the client's types do not have; nothing is said of other paths."""
    for m, pattern, answer, many in _ANSWERED:
        if (m, True) == (method, re.fullmatch(pattern, path) is not None):
            if status >= 400:
                return shapes.faults(ErrorObject, json.loads(body)["error"])
            if kind.startswith("text/event-stream"):
                return list(_events(_STREAMED[answer], body.decode()))
            return list(_whole(answer, json.loads(body), many=many))
    return []


def _whole(kind: Any, said: Any, *, many: bool) -> Iterator[str]:
    if many:
        if said["object"] != "list":
            yield f"object: {said['object']}"
        for entry in said["data"]:
            yield from _whole(kind, entry, many=False)
        return
    if kind is CreateEmbeddingResponse:
        for entry in said["data"]:
            if isinstance(entry["embedding"], str):  # base64, which the client itself makes floats.
                entry["embedding"] = array("f", base64.b64decode(entry["embedding"])).tolist()
    if kind is FineTuningJob and said["status"] == "paused":
        said["status"] = "running"  # OpenAI pauses jobs too, but its client's type does not say so.
    yield from shapes.faults(kind, _without_ours(kind, said))


def _without_ours(kind: Any, said: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: said[key] for key in said if key not in _OURS.get(kind, ())}
    if isinstance(usage := kept.get("usage"), dict):  # Ours says where it did not count itself.
        kept["usage"] = {key: usage[key] for key in usage if key != "estimated"}
    return kept


def _events(kind: Any, text: str) -> Iterator[str]:
    count = 0
    for block in text.split("\n\n"):
        lines = dict(line.partition(": ")[::2] for line in block.splitlines())
        data = lines.get("data")
        if data in (None, "[DONE]"):
            continue
        event = json.loads(str(data))
        if "error" in event and kind is not ResponseStreamEvent:
            yield from shapes.faults(ErrorObject, event["error"])
            continue
        if kind is Completion:
            # The type is that of a whole answer, whose end is known.
            for choice in event["choices"]:
                choice["finish_reason"] = choice["finish_reason"] or "stop"
        if event.get("type") == "response.function_call_arguments.done":
            event.pop("name")  # Which older versions of the client want.
        if "response" in event:
            event["response"] = _without_ours(Response, event["response"])
        yield from shapes.faults(kind, _without_ours(kind, event))
        if kind is ResponseStreamEvent:
            if lines.get("event") != event["type"]:
                yield f"event: {lines.get('event')}, but its type is {event['type']}"
            if count and event["sequence_number"] != count:
                yield f"sequence_number: {event['sequence_number']} instead of {count}"
            count = event["sequence_number"] + 1
