"""An app whose models are a server on the loopback that answers as the test says."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from tests.models.loopback import USAGE, Loopback, chunk, loopback, stream

from kickwheel.agents.events import Event, Finished
from kickwheel.app import App, open_app
from kickwheel.records import Message

Say = Callable[[dict[str, Any]], Any]
"""From a request's body to the answer: a text, or (name, arguments) of one call, or a list."""


@asynccontextmanager
async def desk(folder: Path, say: Say, text: str) -> AsyncGenerator[tuple[App, Loopback]]:
    """The app that `text` describes, with `URL` in it replaced by the server's."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await reply(request, body, say(body))

    async with loopback(answer) as server:
        file = folder / "app.yml"
        file.write_text(text.replace("URL", f"{server.url}/v1"), encoding="utf-8")
        async with open_app(file) as app:
            yield app, server


async def reply(request: web.Request, body: dict[str, Any], said: Any) -> web.StreamResponse:
    """What a model says, in the form that the request asks for."""
    if isinstance(said, str):
        if not body.get("stream"):
            return whole({"role": "assistant", "content": said}, "stop")
        return await stream(request, chunk(content=said), chunk("stop"), USAGE)
    calls = [
        {
            "index": i,
            "id": f"c{i}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for i, (name, arguments) in enumerate(said if isinstance(said, list) else [said])
    ]
    if not body.get("stream"):
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        return whole(message, "tool_calls")
    return await stream(request, chunk(tool_calls=calls), chunk("tool_calls"), USAGE)


def whole(message: dict[str, Any], reason: str) -> web.StreamResponse:
    choice = {"index": 0, "message": message, "finish_reason": reason}
    body = {**USAGE, "object": "chat.completion", "choices": [choice]}
    return web.json_response(body)


async def events(app: App, name: str, question: str) -> list[Event]:
    agent: Any = app.model(name)
    return [event async for event in agent.run([Message(role="user", content=question)])]


async def answer(app: App, name: str, question: str) -> str:
    """What the agent says; it must have said the same as text on the way."""
    found = await events(app, name, question)
    end = found[-1]
    assert isinstance(end, Finished)
    return end.answer.content or end.note


def last(body: dict[str, Any]) -> str:
    """The last message of a request."""
    return str(body["messages"][-1]["content"])
