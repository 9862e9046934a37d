"""What a tool is: arguments in, text out; it knows neither agent nor model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kickwheel.core.errors import ToolError
from kickwheel.records import ToolSpec


class InvalidArguments(ToolError):
    """The arguments do not fit the tool: the model is told so, and may write the call again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one call may cost."""

    timeout_s: float = 30.0
    """Seconds until a call that has not come back counts as failed."""
    result_chars: int = 20_000
    """Characters of a result at most; the rest is cut off, and the agent is told how much."""


class Tool(Protocol):
    """One thing that an agent can do.

    A tool may also have `limits: Limits`; one without takes the defaults.
    """

    @property
    def spec(self) -> ToolSpec:
        """The tool as it is offered to a model; the schema holds no `$ref` but recursive ones."""

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the tool has to say; `arguments` fit the schema.

        Raises:
            InvalidArguments: they fit the schema, but not each other or the world.
            Exception: anything else is a failed call; its text, redacted, is told to the agent.
        """


Toolbox = Sequence[Tool]
"""What a part of the shelf `tools` opens as."""
