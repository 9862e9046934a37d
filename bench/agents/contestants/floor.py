"""The floor: the least code that does the work, on aiohttp; no checks, no trace, no journal."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def weather(city: str) -> str:
    return f"Sunny in {city}."


async def answer(session: aiohttp.ClientSession, url: str, question: str, stream: bool) -> str:
    messages: list[dict[str, Any]] = [{"role": "user", "content": question}]
    while True:
        body = {"model": "stub", "messages": messages, "tools": [TOOL], "stream": stream}
        async with session.post(f"{url}/chat/completions", json=body) as response:
            message = await (_streamed(response) if stream else _whole(response))
        messages.append(message)
        if not message.get("tool_calls"):
            return str(message["content"])
        for call in message["tool_calls"]:
            result = weather(**json.loads(call["function"]["arguments"]))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


async def _whole(response: aiohttp.ClientResponse) -> dict[str, Any]:
    message: dict[str, Any] = (await response.json())["choices"][0]["message"]
    return message


async def _streamed(response: aiohttp.ClientResponse) -> dict[str, Any]:
    text, calls = "", []
    async for line in response.content:
        if not line.startswith(b"data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            text += choice["delta"].get("content") or ""
            calls += choice["delta"].get("tool_calls") or []
    return {
        "role": "assistant",
        "content": text or None,
        **({"tool_calls": calls} if calls else {}),
    }


@asynccontextmanager
async def opened(url: str, stream: bool) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield lambda question: answer(session, url, question, stream)
