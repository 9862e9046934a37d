"""What was said, called and offered, in the terms of OpenAI's chat protocol."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import UNSET, UnsetType

Role = Literal["system", "developer", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call that a model asked for."""

    id: str
    name: str
    arguments: str
    """JSON text, exactly as the model wrote it: it may be broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A picture that the store keeps."""

    kept: str
    """Its path below the store's artifacts: `screenshot/<id>/page.jpeg`."""
    media_type: str
    """`image/jpeg`, `image/png`, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """For `role: tool`: the call that this is the result of."""
    images: tuple[Image, ...] | UnsetType = UNSET
    """For `role: tool`: pictures that came with the result. Where there are none the bytes have no
    such field, so that they are as they were before there were pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool as it is offered to a model."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """JSON Schema of the arguments, `type: object`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedCall:
    """A call that counts as right, where more than one value may be right."""

    name: str
    arguments: Mapping[str, tuple[Any, ...]]
    """For each argument the values that count as right; one that is missing here must not be
    given, except where `optional` names it."""
    optional: tuple[str, ...] = ()
    """Arguments that may be left out."""
