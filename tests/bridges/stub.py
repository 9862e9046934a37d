"""A model server on loopback that answers by script: it calls the first tool that it is offered,
and answers once it has seen a result. Chat completions and responses, whole and streamed."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

ANSWER = "It is sunny in Oslo."
ARGUMENTS = {"city": "Oslo", "when": {"day": "today"}}
FINAL = "final_answer"
"""The tool by which smolagents is answered."""
PROMPT, OUTPUT = 50, 10
"""Tokens that each answer claims to have used."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    path: str
    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass(slots=True)
class Stub:
    """The server, as a test sees it."""

    url: str = ""
    """Up to `/v1`."""
    asked: list[Asked] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)
    """Of the call that it asks for, by the tool's name; `ARGUMENTS` where nothing is said."""
    speaks: Callable[[Mapping[str, Any]], str | None] = lambda body: None
    """What it says to a request instead, for frameworks that speak to models in texts."""

    pause_s: float = 0.0
    """Before each word of an answer but the first."""
    left: int = 0
    """Streams that were read no further."""

    def fresh(self) -> None:
        """Forgets what came, and what was said about it."""
        self.pause_s, self.left = 0.0, 0
        self.asked.clear()
        self.arguments.clear()

    def tools(self) -> list[dict[str, Any]]:
        """The `tools` array of the first request that came."""
        return self.asked[0].body["tools"]

    def _call(self, body: Mapping[str, Any]) -> str | None:
        """Name of the tool to call; `None` when it is time to answer."""
        turns = body.get("messages", body.get("input"))
        turns = turns if isinstance(turns, list) else []
        # A call is made once a question: what is older than the last question does not count.
        kinds = [_kind(turn) for turn in turns]
        last = max((place for place, kind in enumerate(kinds) if kind == "question"), default=0)
        done = "result" in kinds[last:]
        tools = body.get("tools") or []
        if not tools or body.get("tool_choice") == "none":
            return None
        names = [str(tool.get("function", tool)["name"]) for tool in tools]
        others = [name for name in names if name != FINAL]
        if others and not done:
            return others[0]
        return FINAL if FINAL in names else None  # Some want even the answer as a call.

    async def chat(self, request: Request) -> Response:
        body = await self._read(request)
        name = self._call(body)
        said = self.speaks(body) or ANSWER
        message: dict[str, Any] = {"role": "assistant", "content": None if name else said}
        if name:
            # Semantic Kernel writes plugin-name.
            given = self.arguments.get(name.rpartition("-")[2], ARGUMENTS)
            arguments = {"answer": ANSWER} if name == FINAL else given
            function = {"name": name, "arguments": json.dumps(arguments)}
            call = {"id": f"call_{len(self.asked)}", "type": "function", "function": function}
            message["tool_calls"] = [call]
        reason = "tool_calls" if name else "stop"
        base = {"id": f"chatcmpl-{len(self.asked)}", "created": 1, "model": "stub-1"}
        usage = {
            "prompt_tokens": PROMPT,
            "completion_tokens": OUTPUT,
            "total_tokens": PROMPT + OUTPUT,
        }
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
            whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
            return JSONResponse(whole)

        async def pieces() -> AsyncIterator[str]:
            deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
            if name:
                text = function["arguments"]
                deltas.append(
                    {
                        "tool_calls": [
                            {"index": 0, **call, "function": {**function, "arguments": ""}}
                        ]
                    }
                )
                deltas += [
                    {"tool_calls": [{"index": 0, "function": {"arguments": text[at : at + 9]}}]}
                    for at in range(0, len(text), 9)
                ]
            else:
                deltas += [{"content": word} for word in _words(said)]
            chunk = {**base, "object": "chat.completion.chunk"}
            for place, delta in enumerate(deltas):
                if place > 1 and not name:
                    await self._pause()
                choice = {"index": 0, "delta": delta, "finish_reason": None}
                yield _data({**chunk, "choices": [choice]})
            yield _data({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            if (body.get("stream_options") or {}).get("include_usage"):
                yield _data({**chunk, "choices": [], "usage": usage})
            yield "data: [DONE]\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def _pause(self) -> None:
        try:
            await asyncio.sleep(self.pause_s)
        except asyncio.CancelledError:
            self.left += 1
            raise

    async def responses(self, request: Request) -> Response:
        body = await self._read(request)
        name, number = self._call(body), len(self.asked)
        item: dict[str, Any] = (
            {
                "type": "function_call",
                "id": f"fc_{number}",
                "call_id": f"call_{number}",
                "name": name,
                "arguments": json.dumps(self.arguments.get(name, ARGUMENTS)),
                "status": "completed",
            }
            if name
            else {
                "type": "message",
                "id": f"msg_{number}",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": ANSWER, "annotations": []}],
            }
        )
        whole = {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": 1,
            "model": "stub-1",
            "status": "completed",
            "output": [item],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": body.get("tools") or [],
            "usage": {
                "input_tokens": PROMPT,
                "output_tokens": OUTPUT,
                "total_tokens": PROMPT + OUTPUT,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }
        if not body.get("stream"):
            return JSONResponse(whole)
        events = list(_events(whole, item))

        async def pieces() -> AsyncIterator[str]:
            for place, event in enumerate(events):
                yield f"event: {event['type']}\n" + _data({**event, "sequence_number": place})

        return StreamingResponse(pieces(), media_type="text/event-stream")

    async def _read(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = await request.json()
        self.asked.append(Asked(request.url.path, body, dict(request.headers)))
        return body


def _kind(turn: Mapping[str, Any]) -> str:
    if turn.get("role") == "tool" or turn.get("type") == "function_call_output":
        return "result"
    if turn.get("role") != "user":
        return "other"
    # smolagents tells results as a user.
    return "result" if "Observation:" in json.dumps(turn.get("content")) else "question"


def _events(whole: dict[str, Any], item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    where = {"item_id": item["id"], "output_index": 0}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    added = {"type": "response.output_item.added", "output_index": 0}
    if item["type"] == "function_call":
        text = item["arguments"]
        kind = "response.function_call_arguments"
        yield {**added, "item": {**item, "arguments": "", "status": "in_progress"}}
        for at in range(0, len(text), 9):
            yield {**where, "type": f"{kind}.delta", "delta": text[at : at + 9]}
        yield {**where, "type": f"{kind}.done", "arguments": text, "name": item["name"]}
    else:
        part = item["content"][0]
        where["content_index"] = 0
        yield {**added, "item": {**item, "content": [], "status": "in_progress"}}
        yield {**where, "type": "response.content_part.added", "part": {**part, "text": ""}}
        for word in _words(part["text"]):
            yield {**where, "type": "response.output_text.delta", "delta": word, "logprobs": []}
        done = {"type": "response.output_text.done", "text": part["text"], "logprobs": []}
        yield {**where, **done}
        yield {**where, "type": "response.content_part.done", "part": part}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": whole}


def _words(text: str) -> list[str]:
    return [word if n == 0 else f" {word}" for n, word in enumerate(text.split(" "))]


def _data(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


@contextmanager
def stub_server() -> Iterator[Stub]:
    """The server, answering while the block runs."""
    stub = Stub()
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", stub.chat, methods=["POST"]),
            Route("/v1/responses", stub.responses, methods=["POST"]),
        ]
    )
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the stub did not start")
        thread.join(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    stub.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield stub
    finally:
        server.should_exit = True
        thread.join()
