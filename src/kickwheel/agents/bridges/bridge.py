"""What every bridge shares: tools of another framework as ours, and ours there.

A framework's file says only how its tools are called (`TheirTools.called`), and how its own objects
are made of ours:

    def tools(offered: Iterable[Offered]) -> list[Any]: ...     # calls go through `told`
    def model(name: str, base_url: str, *, api_key: str = KEY) -> Any: ...

The framework is imported in the functions that use it, within `needs`.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from kickwheel.agents.bridges.found import absent, found
from kickwheel.agents.bridges.heard import text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Limits, Tool, Toolbox, ToolPart
from kickwheel.core.errors import MissingPackage, ModelError, ToolError
from kickwheel.core.plugins import Context
from kickwheel.core.schema import inlined
from kickwheel.records import ToolSpec

KEY = "none"
"""What is shown to a server that wants no key; their clients want one in any case."""


class TheirTools(ToolPart):
    """Tools that were written with another framework."""

    install: ClassVar[str]
    """What pip is told to install for the framework."""

    object: str
    """A tool or a list of them, `package.module:name`, looked up in the app's folder first; a
    function without parameters is called for it, an async one awaited, an async context manager
    entered."""

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """An object that cannot be imported, or that has parameters."""
        return absent(self.object, folder, self.install)

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
