"""What each layer of ours adds to the CPU of a request, in one process.

    python bench/agents/layers.py [--requests 1000] [--rounds 5] [--sessions 16]

The work is that of `run.py`: two calls of a model that costs nothing, one tool between them. Each
line holds all that the lines above it do: two posts of aiohttp with bytes that are ready, our wire
around them, the model's protocol, a span around each call and the trace written, then the agent
without and with its journal. The floor, the same work in the least code, stands first. Figures are
medians of rounds, in turns, with their extremes; writers in other threads count.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import run
from contestants import floor, ours

from kickwheel.agents.ask import ask
from kickwheel.agents.work import Worker
from kickwheel.app import open_app
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest
from kickwheel.models.client import RemoteModel
from kickwheel.models.wire import Wire, new_session
from kickwheel.records import Message
from kickwheel.records.openai import messages_from_openai, tool_from_openai

Work = Callable[[], Awaitable[Any]]
ARGUMENTS = '{"city": "Oslo"}'
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": ARGUMENTS},
}
ASKED = [{"role": "user", "content": run.QUESTION}]
CALLED = [
    *ASKED,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "Sunny in Oslo."},
]


async def layers(stack: AsyncExitStack, url: str) -> dict[str, Work]:
    """The same work, each time with one layer more."""
    least = await stack.enter_async_context(floor.opened(url, False))
    session = await stack.enter_async_context(new_session())
    folder = ours.written(Path(stack.enter_context(tempfile.TemporaryDirectory())), url)
    app = await stack.enter_async_context(open_app(folder))
    agent, model, recorder = app.model("desk"), app.model("stub"), app.recorder
    assert isinstance(agent, Worker)
    assert isinstance(model, RemoteModel)
    wire = Wire(session, "stub", url, "k")
    bodies = [
        json.dumps({"model": "stub", "messages": messages, "tools": [floor.TOOL]}).encode()
        for messages in (ASKED, CALLED)
    ]
    tools = (tool_from_openai(floor.TOOL),)
    requests = [
        ChatRequest(messages=messages_from_openai(messages), tools=tools, whole=True)
        for messages in (ASKED, CALLED)
    ]
    question = [Message(role="user", content=run.QUESTION)]

    async def posted() -> None:
        for body in bodies:
            async with session.post(f"{url}/chat/completions", data=body) as response:
                await response.read()

    async def wired() -> None:
        for body in bodies:
            await wire.whole("/chat/completions", body, 60)

    async def modelled() -> None:
        for request in requests:
            await model.whole(request)

    async def traced() -> None:
        with recorder.trace("desk", "desk"):
            for request in requests:
                await observed.complete(model, request)

    async def unkept() -> None:
        agent.keeper = None
        await ask(agent, question, recorder)

    keeper = agent.keeper

    async def kept() -> None:
        agent.keeper = keeper
        await ask(agent, question, recorder)

    return {
        "the floor": lambda: least(run.QUESTION),
        "aiohttp": posted,
        "wire": wired,
        "model": modelled,
        "trace": traced,
        "agent": unkept,
        "journal": kept,
    }


async def measure(asked: argparse.Namespace, url: str) -> None:
    async with AsyncExitStack() as stack:
        works = await layers(stack, url)
        took: dict[str, list[float]] = {name: [] for name in works}
        for number in range(asked.rounds + 1):
            for name, work in works.items():
                cpu_ms = await cost(work, asked.sessions, asked.requests)
                if number:
                    took[name].append(cpu_ms)
        for name, found in took.items():
            middle = statistics.median(found)
            print(f"{name:10} {middle:.3f} ms [{min(found):.3f}, {max(found):.3f}]")


async def cost(work: Work, sessions: int, requests: int) -> float:
    """CPU of one request, milliseconds, of all threads."""
    left = iter(range(requests))

    async def session() -> None:
        for _ in left:
            await work()

    gc.collect()
    before = time.process_time()
    await asyncio.gather(*(session() for _ in range(sessions)))
    await asyncio.sleep(0.3)  # What is written later belongs to it.
    return 1000 * (time.process_time() - before) / requests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=16)
    asked = parser.parse_args()
    print(json.dumps(run.machine()), f"{asked.sessions} sessions, n = {asked.requests} a round")
    with run.stub(0) as url:
        asyncio.run(measure(asked, url))
    print(f"load at the end {os.getloadavg()[0]:.1f}")


main()
