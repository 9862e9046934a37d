"""What OTLP says of spans, whatever its bytes: the meeting point of both encodings.

Source: opentelemetry-proto 1.9, `trace/v1/trace.proto` and `common/v1/common.proto`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ERROR = 2
"""`STATUS_CODE_ERROR`."""
INTERNAL, CLIENT = 1, 3
"""`SPAN_KIND_INTERNAL`, and `SPAN_KIND_CLIENT` for calls that leave the process."""


@dataclass(slots=True, kw_only=True)
class Event:
    """Something that happened during a span."""

    name: str
    time_ns: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Observed:
    """One span."""

    trace: str
    """Its id in hex digits; 32 of them where it is right."""
    id: str
    """16 hex digits where it is right."""
    parent: str = ""
    """Empty where there is none."""
    name: str = ""
    kind: int = INTERNAL
    start_ns: int = 0
    end_ns: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Texts, numbers, truth values, and lists and mappings of them; bytes are texts in base64."""
    events: tuple[Event, ...] = ()
    status: int = 0
    status_message: str = ""


@dataclass(slots=True, kw_only=True)
class Group:
    """Spans of one program."""

    resource: Mapping[str, Any] = field(default_factory=dict)
    """What the program says of itself, such as `service.name`."""
    scope: str = ""
    """What made the spans, such as `opentelemetry.instrumentation.openai`."""
    spans: tuple[Observed, ...] = ()


class Unreadable(ValueError):
    """Bytes that are no OTLP."""
