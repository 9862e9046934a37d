"""Agents and tools that need no model; the tests put this file beside their app."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kickwheel.agents.caller import caller
from kickwheel.agents.durable import person, steps
from kickwheel.agents.events import Called, Finished, Returned
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.work import Worker
from kickwheel.core.plugins import Context
from kickwheel.records import Message, ToolCall

print("an import that chatters")


def price(article: str, count: int = 1) -> str:
    """What an article costs.

    Args:
        article: its name.
        count: how many.
    """
    print("a tool that chatters")
    return f"{count} {article}: {count * 3} EUR"


def broken(detail: str) -> str:
    """Fails."""
    raise RuntimeError(f"no connection to postgresql://shop:hunter2@db/{detail}")


def whoami() -> str:
    """Who asks."""
    return caller().user or "nobody"


def refund(amount: int) -> str:
    """Pays money back."""
    _note("refunds", f"{amount}\n")
    return f"{amount} EUR paid back"


class Echo(AgentPart):
    """Says the task again, and calls itself a tool on the way."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Any]:
        yield _Echo(context.name, self)


class _Echo(Worker):
    async def work(self, run: Run) -> Finished:
        text = run.asked.messages[-1].content or ""
        if "bug" in text:
            raise ZeroDivisionError("a detail that is nobody's business")
        call = ToolCall(id="1", name="look", arguments="{}")
        run.tell(Called(call))
        run.tell(Returned(call, "seen"))
        return run.ended("answered", Message(role="assistant", content=f"{caller().user}: {text}"))


class Careful(AgentPart):
    """Does something once, asks twice, and says what came."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Any]:
        yield _Careful(context.name, self)


class _Careful(Worker):
    async def work(self, run: Run) -> Finished:
        await steps().step("act", "act", _acted, str, effects="once")
        how = await person("How much?")
        sure = await person(f"Really {how}?", ("yes", "no"))
        return run.ended("answered", Message(role="assistant", content=f"{how}, {sure}"))


async def _acted() -> str:
    _note("acts", "acted\n")
    return "acted"


def _note(file: str, text: str) -> None:
    with Path(file).open("a") as notes:
        notes.write(text)


class Slow(AgentPart):
    """Works for a minute, and notes how it ended."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Any]:
        yield _Slow(context.name, self)


class _Slow(Worker):
    async def work(self, run: Run) -> Finished:
        file = run.asked.messages[-1].content or ""
        _note(file, "begun")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            _note(file, " cancelled")
            raise
        return run.ended("answered", Message(role="assistant", content="done"))
