"""What a tool is: arguments in, text out; it knows neither agent nor model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import Field, PrivateAttr

from kickwheel.agents.tools.breaker import Breaker
from kickwheel.core.errors import ToolError
from kickwheel.core.plugins import Part
from kickwheel.records import Image, ToolSpec

Effects = Literal["none", "repeatable", "once"]
"""What a call does to the world. `none`: it only reads. `repeatable`: it changes something, but
made twice it changes no more than made once. `once`: made twice it may do harm."""


class InvalidArguments(ToolError):
    """The arguments do not fit the tool: the model is told so, and may write the call again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call may cost, and what it may do."""

    timeout_s: float = 30.0
    """Seconds until a call that has not come back counts as failed."""
    result_chars: int = 20_000
    """Characters of a result at most; the agent pages through the rest."""
    effects: Effects = "once"
    """Whether a call may be made again when it failed, or when the program died in it."""
    tries: int = 3
    """How often a failing call is made in all; only where its effects allow more than one."""
    parallel: int | None = None
    """Calls of the tool that run at once at most; further ones wait."""
    confirm: bool = False
    """Whether a person must say yes before each call."""
    trusted: bool | None = None
    """Whether its results may move an agent to calls with effects where the app forbids that to
    untrusted ones. `False` also marks them as data where a model reads them; `None`, where nobody
    said, does not."""
    breaker: Breaker | None = field(default=None, compare=False, repr=False)
    """What the tools of one box share, since they fail together; by default each has its own."""


class Pictured(str):
    """A result with pictures: a model without eyes reads the text, one that has them sees both."""

    images: tuple[Image, ...]

    def __new__(cls, text: str, images: Sequence[Image]) -> Self:
        made = super().__new__(cls, text)
        made.images = tuple(images)
        return made


class Tool(Protocol):
    """One thing that an agent can do.

    A tool may also have `limits: Limits`; one without takes the defaults.
    """

    @property
    def spec(self) -> ToolSpec:
        """The tool as it is offered to a model; the schema holds no `$ref` but recursive ones."""

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the tool has to say; `arguments` fit the schema. With pictures, it is `Pictured`.

        Raises:
            InvalidArguments: they fit the schema, but not each other or the world.
            Exception: anything else is a failed call; its text, redacted, is told to the agent.
        """


Toolbox = Sequence[Tool]
"""What a part of the shelf `tools` opens as."""


def safe(name: str, most: int = 64) -> str:
    """A name as every provider of models takes it for a tool or an argument."""
    return re.sub(r"[^a-zA-Z0-9_-]+", "_", name).strip("_")[:most] or "_"


def takes(*needed: str, **properties: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of a tool's arguments: those `needed` must be given, no others than these may."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(needed),
        "additionalProperties": False,
    }


class ToolPart(Part):
    """The options that all kinds of tools share."""

    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds until a call that has not come back counts as failed."""
    result_chars: Annotated[int, Field(gt=0)] = 20_000
    """Characters of a result at most; the agent pages through the rest."""
    effects: Effects | None = None
    """What a call does to the world. `none`: it only reads. `repeatable`: made twice it changes no
    more than made once. `once`: made twice it may do harm. By default what the kind knows of
    itself, and `once` where it knows nothing."""
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    """How often a failing call is made in all; calls with effects `once` are never made again."""
    parallel: Annotated[int, Field(ge=1)] | None = None
    """Calls that run at once at most; further ones wait."""
    confirm: bool = False
    """Whether a person must say yes before each call."""
    trusted: bool = False
    """Whether somebody vouches for the results. Untrusted ones are marked as data where a model
    reads them, and may not move an agent to calls with effects where the app forbids that."""
    _breaker: Breaker = PrivateAttr(default_factory=Breaker)

    def limits(self, effects: Effects = "once") -> Limits:
        """The limits of one tool of the box; `effects`: what the kind knows about it."""
        return Limits(
            timeout_s=self.timeout_s,
            result_chars=self.result_chars,
            effects=self.effects or effects,
            tries=self.tries,
            parallel=self.parallel,
            confirm=self.confirm,
            trusted=self.trusted,
            breaker=self._breaker,
        )
