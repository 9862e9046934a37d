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
    """A picture: one that the store keeps, or one that a model fetches itself."""

    kept: str = ""
    """Its path below the store's artifacts: `screenshot/<id>/page.jpeg`."""
    media_type: str = ""
    """Of one that is kept: `image/jpeg`, `image/png`, …"""
    url: str = ""
    """Of one that is not kept: where it is. Also `data:…`, between a caller and the store."""
    sent: bool = False
    """Whether a caller sent it, as part of what it says. Others came with a tool's result: what
    they show is data, and a model without eyes goes by the text."""
    at: int | None = None
    """Characters of the message that come before it; `None` for all."""
    detail: str = ""
    """How closely a model should look, in OpenAI's words: `low`, `high`, …"""


Images = tuple[Image, ...] | UnsetType
"""Pictures of a message. Where there are none the bytes have no such field, so that they are as
they were before there were pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    """For `role: tool`: the call that this is the result of."""
    images: Images = UNSET
    """Pictures in it, in their order."""


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
