"""A framework of these tests' own, and a bridge to it."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kickwheel.agents.bridges.bridge import TheirTools
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.worker import TheirAgent
from kickwheel.agents.events import Text
from kickwheel.agents.tools import Tool
from kickwheel.records import Message

OPENED: list[str] = []
"""What happened to objects that were made."""


@dataclass
class Bot:
    """An agent that says what it is told to say, and may remember."""

    tells: list[Any] = field(default_factory=list)
    """What it tells, in order; an exception is raised, a function called, a number of seconds
    waited for."""
    asked: list[list[Message]] = field(default_factory=list)
    working: int = 0
    most: int = 0
    """Runs that it did at once, at most."""
    left: int = 0
    """Runs that were given up in the middle."""


BOOKS = (
    Text("One moment. "),
    used(10, 5, 2, "their-model"),
    called("1", "book", {"room": 12}),
    returned("1", {"ok": True}),
    Text("Room 12 "),
    Text("is yours."),
    used(20, 7, None, "their-model"),
)
BOT = Bot(list(BOOKS))


class BotAgent(TheirAgent):
    """The bridge."""

    install = "made-up"

    async def events(self, theirs: Bot, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        theirs.asked.append(list(messages))
        theirs.working += 1
        theirs.most = max(theirs.most, theirs.working)
        try:
            for told in theirs.tells:
                if isinstance(told, Exception):
                    raise told
                if callable(told):
                    told()
                elif isinstance(told, float):
                    await asyncio.sleep(told)
                else:
                    yield told
        except (asyncio.CancelledError, GeneratorExit):
            theirs.left += 1
            raise
        finally:
            theirs.working -= 1


class RememberingAgent(BotAgent):
    """The same for agents that remember."""

    remembers = True


class BotTools(TheirTools):
    """Their tools are plain pairs."""

    install = "made-up"

    def called(self, theirs: Any) -> Tool:
        name, function = theirs

        async def call(arguments: dict[str, Any]) -> Any:
            return function(**arguments)

        schema = {"$defs": {"N": {"type": "integer"}}, "properties": {"n": {"$ref": "#/$defs/N"}}}
        return self.tool(name, "Counts.", schema, call)


TOOLS = [("double", lambda n: {"n": 2 * n}), ("say", lambda n: f"{n}!")]


def several() -> Any:
    return TOOLS


async def slowly() -> Bot:
    OPENED.append("made")
    return BOT


@asynccontextmanager
async def closing() -> AsyncGenerator[Bot]:
    OPENED.append("opened")
    yield BOT
    OPENED.append("closed")


def fresh() -> Bot:
    OPENED.append("fresh")
    return Bot([*BOOKS[:1], 0.01, *BOOKS[1:]])


def deadly() -> Bot:
    """The first time, the program ends right after it has booked."""

    def booked() -> None:
        with Path("booked").open("a") as file:
            file.write("room 12\n")
        if not Path("died").exists():
            Path("died").touch()
            time.sleep(0.3)  # Until what was begun is written.
            os.kill(os.getpid(), signal.SIGKILL)

    return Bot([*BOOKS[:3], booked, *BOOKS[3:]])


def with_parameters(url: str) -> Bot:
    return Bot()


ANSWERS_WHOLE = Bot([Text("I look. "), answered({"room": 12})])
FAILS = Bot(
    [
        Text("I try. "),
        called("1", "book", "{}"),
        RuntimeError("no key sk-proj-9fQ2xLm4Zt7Rb1Vc8Wd3Ks6Hg5Jp0Ny2Qe"),
    ]
)
SLOW = Bot([Text("I begin. "), 60.0])
MANY = Bot([used(10, 10, None, "m")] * 20)
