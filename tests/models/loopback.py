"""A small server on the loopback that answers as the test says, and keeps what it was asked.

What the cloud whose protocol is spoken would refuse is refused with 400, and fails the test.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from openai.types.chat import ChatCompletionChunk

from tests.wires import faults_asked, shapes

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Loopback:
    url: str = ""
    asked: list[tuple[str, Any, dict[str, str]]] = field(default_factory=list)
    """Path, JSON body, headers."""
    faults: list[str] = field(default_factory=list)
    """What no cloud would have taken."""


@asynccontextmanager
async def loopback(handler: Handler) -> AsyncGenerator[Loopback]:
    server = Loopback()

    async def noted(request: web.Request) -> web.StreamResponse:
        body = await request.text()
        read = json.loads(body) if body else None
        server.asked.append((request.path, read, dict(request.headers)))
        found = faults_asked(request.path, read)
        if found:
            server.faults += found
            return web.json_response({"error": {"message": "; ".join(found)}}, status=400)
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", noted)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()
    assert not server.faults, server.faults


async def stream(request: web.Request, *events: Any, end: bool = True) -> web.StreamResponse:
    """The events as an event stream; without `end` the connection breaks off."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        if isinstance(event, dict) and "choices" in event:
            found = shapes.faults(ChatCompletionChunk, event)
            assert not found, found
        data = event if isinstance(event, str) else json.dumps(event)
        await response.write(f"data: {data}\n\n".encode())
    if end:
        await response.write(b"data: [DONE]\n\n")
    elif request.transport is not None:
        request.transport.abort()
    return response


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """A chunk of OpenAI's protocol."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {**_CHUNK, "choices": [choice]}


_CHUNK = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
USAGE = {
    **_CHUNK,
    "choices": [],
    "usage": {
        **{"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        "prompt_tokens_details": {"cached_tokens": 8},
    },
}
