"""What every bridge shares: how an object of another framework works as ours, and ours there.

A framework's file says only how that framework is asked (`TheirAgent.events`, `TheirTools.called`)
and how its own objects are made of ours:

    def tools(offered: Iterable[Offered]) -> list[Any]: ...     # calls go through `told`
    def model(name: str, base_url: str, *, api_key: str = KEY) -> Any: ...

The framework is imported in the functions that use it, within `needs`.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from kickwheel.agents.bridges.found import found, made_anew
from kickwheel.agents.bridges.heard import Heard, Told, text
from kickwheel.agents.durable import steps
from kickwheel.agents.events import Finished
from kickwheel.agents.offered import Offered
from kickwheel.agents.run import AgentPart, Run, Spent
from kickwheel.agents.tools import Effects, Limits, Tool, Toolbox, ToolPart
from kickwheel.agents.work import Worker
from kickwheel.core import redact
from kickwheel.core.errors import (
    KickwheelError,
    MissingPackage,
    ModelError,
    ToolError,
)
from kickwheel.core.plugins import Context
from kickwheel.core.schema import inlined
from kickwheel.records import Message, ToolSpec

KEY = "none"
"""What is shown to a server that wants no key; their clients want one in any case."""


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

    def __init__(
        self, name: str, theirs: Callable[[], AbstractAsyncContextManager[Any]], part: TheirAgent
    ) -> None:
        super().__init__(name, part)
        self._theirs = theirs
        self._part = part

    async def work(self, run: Run) -> Finished:
        """Lets them work: one step of the run, their words told as they come.

        Raises:
            ModelError: they failed, or the caller brings tools, of which they would know nothing.
        """
        if run.asked.tools:
            raise ModelError(
                f"{self.name} has tools of its own and takes none from its callers",
                status=400,
                again=False,
            )
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

        def said(words: str | None) -> Finished:
            if words is None:
                raise ToolError(f"{self.name} failed, says a person who looked")
            return run.ended("answered", Message(role="assistant", content=words))

        finished = await steps().step(
            f"{self._part.kind} {self.name}",
            messages,
            do,
            Finished,
            effects=self._part.effects,
            said=said,
        )
        if not live:
            for _ in range(finished.steps):
                run.begin()
            run.charge(finished.usage)
            run.say(finished.answer.content or "")
        return finished


class TheirTools(ToolPart):
    """Tools that were written with another framework."""

    install: ClassVar[str]
    """What pip is told to install for the framework."""

    object: str
    """A tool or a list of them, `package.module:name`, looked up in the app's folder first; a
    function without parameters is called for it, an async one awaited, an async context manager
    entered."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """Their tools as ours."""
        async with found(self.object, context.folder, self.install) as theirs:
            each = theirs if isinstance(theirs, list | tuple) else [theirs]
            yield [self.called(tool) for tool in each]

    def called(self, theirs: Any) -> Tool:
        """One of their tools as ours, made by `tool`."""
        raise NotImplementedError

    def tool(
        self,
        name: str,
        description: str,
        schema: Mapping[str, Any],
        call: Callable[[dict[str, Any]], Awaitable[Any]],
    ) -> Tool:
        """A tool of ours that makes `call`.

        Args:
            schema: JSON Schema of the arguments; its references are written out.
            call: takes the arguments; what it gives is told as it is when it is text, as JSON
                otherwise.
        """
        spec = ToolSpec(name=name, description=description, parameters=inlined(schema))
        return _Called(spec, self.limits(), call)


@dataclass(frozen=True, slots=True)
class _Called:
    """A tool of theirs."""

    spec: ToolSpec
    limits: Limits
    _call: Callable[[dict[str, Any]], Awaitable[Any]]

    async def call(self, arguments: Mapping[str, Any]) -> str:
        return text(await self._call(dict(arguments)))


@dataclass(frozen=True, slots=True)
class Ours:
    """A tool of ours, as most frameworks take one."""

    name: str
    about: str
    schema: dict[str, Any]
    """JSON Schema of the arguments."""
    call: Callable[..., Awaitable[str]]
    """`await call(city="Oslo")`: what it says, as `told`."""


def each(offered: Iterable[Offered]) -> list[Ours]:
    """What a framework needs to know of each tool."""

    def one(ours: Offered) -> Ours:
        async def call(**arguments: Any) -> str:
            return await told(ours, arguments)

        spec = ours.spec
        return Ours(spec.name, spec.description, dict(spec.parameters), call)

    return [one(ours) for ours in offered]


async def told(ours: Offered, arguments: Mapping[str, Any] | str) -> str:
    """What a tool of ours has to say to a model of theirs; what went wrong as `error: …`, as our
    own agents are told it, since frameworks differ in what they make of an exception."""
    try:
        return await ours.call(arguments)
    except (ToolError, ModelError) as error:
        return f"error: {error}"


def spoken(messages: Sequence[Message]) -> str:
    """The question, for frameworks that take a text: of a longer conversation all that was said."""
    said = [message for message in messages if message.content and message.role != "tool"]
    if len(said) == 1:
        return said[0].content or ""
    return "\n\n".join(f"{message.role}: {message.content}" for message in said)


@contextmanager
def needs(install: str) -> Iterator[None]:
    """Around imports of a framework: names the remedy where it is not installed.

    Args:
        install: what pip is told to install.
    Raises:
        MissingPackage: it is not.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackage(f"this needs {error.name}", install) from error
