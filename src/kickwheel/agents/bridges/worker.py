"""Another framework's agent at work as one of ours.

How it is asked, and what it tells meanwhile, its file in `agents/` says (`TheirAgent.events`).
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from kickwheel.agents.bridges.found import absent, found, made_anew
from kickwheel.agents.bridges.heard import Heard, Told
from kickwheel.agents.durable import steps, told
from kickwheel.agents.events import Finished
from kickwheel.agents.run import AgentPart, Run, Spent
from kickwheel.agents.tools import Effects
from kickwheel.agents.work import Worker
from kickwheel.core import redact
from kickwheel.core.errors import KickwheelError, ModelError
from kickwheel.core.plugins import Context
from kickwheel.records import Message


class TheirAgent(AgentPart):
    """An agent that was written with another framework."""

    install: ClassVar[str]
    """What pip is told to install for the framework."""
    remembers: ClassVar[bool] = False
    """Whether one of their agents holds its conversation. Then a function makes one for each run;
    without one the runs wait for each other, and `events` begins with a clean slate."""

    object: str
    """The agent, `package.module:name`, looked up in the app's folder first; a function without
    parameters is called for it, an async one awaited, an async context manager entered."""
    effects: Effects = "once"
    """What a run does to the world; it is one step of ours. `once`: killed in the middle, a person
    is asked before it is done again."""

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """An object that cannot be imported, or that has parameters."""
        return absent(self.object, folder, self.install)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Theirs"]:
        """The agent at work."""
        find = partial(found, self.object, context.folder, self.install)
        async with find() as theirs:
            lock = asyncio.Lock() if self.remembers else nullcontext()

            @asynccontextmanager
            async def one() -> AsyncGenerator[Any]:
                async with lock:
                    yield theirs

            made = made_anew(self.object, context.folder, self.install)
            yield Theirs(context.name, find if self.remembers and made else one, self)

    def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What their object does about the conversation, as it happens.

        Args:
            theirs: what `object` led to.
            messages: the conversation up to the question, oldest first.
        """
        raise NotImplementedError


class Theirs(Worker):
    """Another framework's agent as one of ours."""

    words_only = True

    def __init__(
        self, name: str, theirs: Callable[[], AbstractAsyncContextManager[Any]], part: TheirAgent
    ) -> None:
        super().__init__(name, part)
        self._theirs = theirs
        self._part = part

    async def work(self, run: Run) -> Finished:
        """Lets them work: one step of the run, their words told as they come.

        Raises:
            ModelError: they failed.
        """
        if self._part.effects != "once":
            # Asked for another form, they do all their work again.
            async def again(
                more: Sequence[Message], schema: Mapping[str, Any]
            ) -> tuple[str, Message]:
                finished = await self._step(run, (*run.asked.messages, *more))
                return finished.why, finished.answer

            run.again = again
        return await self._step(run, run.asked.messages)

    async def _step(self, run: Run, messages: tuple[Message, ...]) -> Finished:
        live = False

        async def do() -> Finished:
            nonlocal live
            live = True
            with Heard(run) as heard:
                try:
                    async with (
                        self._theirs() as theirs,
                        aclosing(self._part.events(theirs, messages)) as events,
                    ):
                        async for event in events:
                            heard.take(event)
                except (KickwheelError, Spent):
                    raise
                except Exception as error:  # Theirs is anybody's code: how it fails, nobody knows.
                    what = redact.text(f"{type(error).__name__}: {error}")
                    raise ModelError(f"{self.name} failed: {what}", again=False) from error
                return heard.finished()

        def said(words: str) -> Finished:
            return run.ended("answered", Message(role="assistant", content=words))

        finished = await steps().step(
            f"{self._part.kind} {self.name}",
            messages,
            do,
            Finished,
            effects=self._part.effects,
            said=told(self.name, said),
        )
        if not live:
            for _ in range(finished.steps):
                run.begin()
            run.charge(finished.usage)
            run.say(finished.answer.content or "")
        return finished


def spoken(messages: Sequence[Message]) -> str:
    """The question, for frameworks that take a text: of a longer conversation all that was said."""
    said = [message for message in messages if message.content and message.role != "tool"]
    if len(said) == 1:
        return said[0].content or ""
    return "\n\n".join(f"{message.role}: {message.content}" for message in said)


def names(messages: Sequence[Message]) -> dict[str, str]:
    """Names of the tools that were called, by id of the call, which is all that a result has."""
    return {call.id: call.name for message in messages for call in message.tool_calls}


def waits_for_a_person() -> ModelError:
    """What is raised where their agent stands still until a person says something."""
    return ModelError("the agent waits for a person, who cannot be asked here", again=False)
