"""A call as a model wrote it, understood: arguments read, repaired where certain, and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from kickwheel.agents.tools import fits
from kickwheel.agents.tools.fitting import fitted
from kickwheel.agents.tools.repair import readable, unwrapped
from kickwheel.agents.tools.tool import InvalidArguments, Limits, Tool
from kickwheel.core.plugins import nearest
from kickwheel.records import ToolCall

_DEFAULTS = Limits()


class NoJson(InvalidArguments):
    """The arguments are no JSON object."""


@dataclass(frozen=True, slots=True)
class Understood:
    """A call that can be made."""

    tool: Tool
    name: str
    limits: Limits
    arguments: dict[str, Any]
    written: str
    """The arguments as JSON, the same for the same call."""
    repairs: tuple[str, ...]
    """What had to be repaired; empty where nothing had."""


def understood(tools: Mapping[str, Tool], asked: ToolCall) -> Understood:
    """What the call means.

    Raises:
        InvalidArguments: it cannot be made; the text tells the model why.
    """
    arguments, repairs = _read(asked.arguments)
    tool = tools.get(asked.name)
    if tool is None:
        raise InvalidArguments(
            f'there is no tool "{asked.name}". {nearest(asked.name, dict(tools))}'
        )
    schema = tool.spec.parameters
    wrong = fits.wrong(arguments, schema)
    if wrong:
        fitting = fitted(arguments, schema)
        if fitting is None:
            raise InvalidArguments("; ".join(wrong))
        arguments, more = fitting
        repairs += more
    limits: Limits = getattr(tool, "limits", None) or _DEFAULTS
    written = msgspec.json.encode(arguments).decode()
    return Understood(tool, asked.name, limits, arguments, written, repairs)


def _read(text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    repairs: tuple[str, ...] = ()
    try:
        # Many models write nothing where there are no arguments.
        arguments: Any = msgspec.json.decode(text) if text.strip() else {}
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        found = readable(text)
        if found is None:
            raise NoJson(f"the arguments are not JSON ({error}): {text[:300]}") from error
        arguments, repairs = found
    if isinstance(arguments, str) and (inside := unwrapped(arguments)) is not None:
        arguments, more = inside
        repairs += more
    if not isinstance(arguments, dict):
        raise NoJson(f"the arguments must be a JSON object: {text[:300]}")
    return arguments, repairs
