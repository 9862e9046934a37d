"""What every bridge shares: how an object of another framework is found, and works as ours.

A framework's file says only how that framework is asked (`TheirAgent.events`, `TheirTools.called`)
and how its own objects are made of ours (`tools`, `model`).
"""

import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

from kickwheel.agents.durable import steps
from kickwheel.agents.events import Called, Finished, Returned, Text
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.tools import Effects, Tool, Toolbox, ToolPart
from kickwheel.agents.work import Worker
from kickwheel.core.plugins import Context, code
from kickwheel.models.chat import Usage
from kickwheel.records import Message

Told = Text | Called | Returned | Usage
"""What is told of their work while it goes on; usage as often as they tell it."""


class TheirAgent(AgentPart):
    """An agent that was written with another framework."""

    object: str
    """The agent, `package.module:name`, looked up in the app's folder first; a function without
    parameters is called for it, an async one awaited, a context manager entered."""
    effects: Effects = "once"
    """What a run does to the world; it is one step of ours. `once`: killed in the middle, a person
    is asked before it is done again."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Theirs"]:
        """The agent at work."""
        async with found(self.object, context.folder) as theirs:
            yield Theirs(context.name, theirs, self)

    def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What their object does about the conversation, as it happens.

        Args:
            theirs: what `object` led to.
            messages: the conversation up to the question, oldest first.
        """
        raise NotImplementedError


class Theirs(Worker):
    """Another framework's agent as one of ours."""

    def __init__(self, name: str, theirs: Any, part: TheirAgent) -> None:
        super().__init__(name, part)
        self._theirs = theirs
        self._part = part

    async def work(self, run: Run) -> Finished:
        """Lets them work: one step of the run, their words told as they come."""
        live = False

        async def do() -> Finished:
            nonlocal live
            live = True
            said: list[str] = []
            async with aclosing(self._part.events(self._theirs, run.asked.messages)) as events:
                async for event in events:
                    match event:
                        case Usage():
                            run.usage = run.usage + event
                        case Text(text):
                            said.append(text)
                            run.say(text)
                        case _:
                            run.tell(event)
            return run.ended("answered", Message(role="assistant", content="".join(said)))

        finished = await steps().step(
            f"{self._part.kind} {self.name}",
            run.asked.messages,
            do,
            Finished,
            effects=self._part.effects,
        )
        if not live:
            run.say(finished.answer.content or "")
        return finished


class TheirTools(ToolPart):
    """Tools that were written with another framework."""

    object: str
    """A tool or a list of them, `package.module:name`, looked up in the app's folder first; a
    function without parameters is called for it."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """Their tools as ours."""
        async with found(self.object, context.folder) as theirs:
            each = theirs if isinstance(theirs, list | tuple) else [theirs]
            yield [self.called(tool) for tool in each]

    def called(self, theirs: Any) -> Tool:
        """One of their tools as ours."""
        raise NotImplementedError


@asynccontextmanager
async def found(target: str, folder: Path) -> AsyncGenerator[Any]:
    """What `package.module:name` leads to, made where it is a function, closed at the end.

    Raises:
        UsageError: it leads nowhere; the text says why.
    """
    thing = code(target, folder)
    async with AsyncExitStack() as stack:
        if inspect.isroutine(thing):
            thing = thing()
        if inspect.isawaitable(thing):
            thing = await thing
        if hasattr(thing, "__aenter__") and hasattr(thing, "__aexit__"):
            thing = await stack.enter_async_context(thing)
        yield thing
