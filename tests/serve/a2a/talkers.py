"""Agents that need no model; the tests put this file beside their app."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kickwheel.agents.durable import steps
from kickwheel.agents.events import Finished
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.work import Worker
from kickwheel.core.plugins import Context
from kickwheel.records import Message


class Talker(Worker):
    def __init__(self, name: str, options: AgentPart, folder: Path) -> None:
        super().__init__(name, options)
        self.folder = folder

    def ended(self, run: Run, text: str) -> Finished:
        return run.ended("answered", Message(role="assistant", content=text))


class Echo(AgentPart):
    """Says the conversation's user turns again, a word a piece."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Any]:
        yield _Echo(context.name, self, context.folder)


class _Echo(Talker):
    async def work(self, run: Run) -> Finished:
        turns = [f"{m.role}: {m.content}" for m in run.asked.messages]
        text = " | ".join(turns)
        if "bug" in text:
            raise ZeroDivisionError("a secret detail")
        if run.asked.json_schema is not None:
            text = json.dumps({"turns": len(turns)})
        words = text.split(" ")
        for position, word in enumerate(words):
            run.say(word if position == 0 else f" {word}")
        return self.ended(run, text)


class Slow(AgentPart):
    """Does a step, says so, waits for the file `go` beside the app, and does another."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Any]:
        yield _Slow(context.name, self, context.folder)


class _Slow(Talker):
    async def work(self, run: Run) -> Finished:
        await self.act("first")
        run.say("begun ")
        for _ in range(3000):
            if (self.folder / "go").exists():
                break
            await asyncio.sleep(0.02)
        await self.act("second")
        run.say("and done")
        return self.ended(run, "begun and done")

    async def act(self, name: str) -> str:
        async def do() -> str:
            with (self.folder / "acts").open("a") as acts:
                acts.write(f"{name}\n")
            return name

        return await steps().step(name, name, do, str)
