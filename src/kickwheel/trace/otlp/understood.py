"""What the dialects understood of one span, each adding what those before it did not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kickwheel.records import Message, SpanKind, ToolCall, ToolSpec
from kickwheel.records.message import Role
from kickwheel.trace.forms.form import loaded
from kickwheel.trace.otlp import parts


@dataclass(slots=True)
class Understood:
    """A span's meaning, as far as it is understood."""

    kind: SpanKind | None = None
    name: str | None = None
    input: tuple[Message, ...] = ()
    output: tuple[Message, ...] = ()
    tools: tuple[ToolSpec, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    """By the names of `records.genai`."""
    used: set[str] = field(default_factory=set)
    """Names of attributes that are not kept besides."""
    reasons: tuple[str, ...] = ()
    unread: list[str] = field(default_factory=list)

    def called(self, kind: SpanKind | None, name: object = None) -> None:
        """Notes what the span is, and its name, where nobody did."""
        if self.kind is None:
            self.kind = kind
        if self.name is None and isinstance(name, str) and name:
            self.name = name

    def asked(self, value: object, role: Role = "user") -> None:
        """Notes what came in, where nobody did."""
        if not self.input and value is not None:
            found = parts.said(value, role)
            self.input = found.messages
            self.unread += found.unread

    def answered(self, value: object, role: Role = "assistant") -> None:
        """Notes what came back, where nobody did."""
        if not self.output and value is not None:
            found = parts.said(value, role)
            self.output = found.messages
            self.reasons = self.reasons or found.reasons
            self.unread += found.unread

    def offered(self, value: object) -> None:
        """Notes the tools that were offered, where nobody did."""
        if not self.tools and value is not None:
            self.tools = parts.specs(value)

    def ran(self, identity: object, name: object, arguments: object, result: object) -> None:
        """Notes the call that a tool's span is about, where nobody noted a message."""
        made = ToolCall(
            id=str(identity or "call_0"), name=str(name or ""), arguments=parts.arguments(arguments)
        )
        if not self.input and arguments is not None:
            self.input = (Message(role="assistant", tool_calls=(made,)),)
        if not self.output and result is not None:
            several = loaded(result)
            came = parts.result(several if isinstance(several, list) else result)
            # JSON that is no list of parts stays as it was written.
            kept = result if isinstance(result, str) and came[:1] == "[" else came
            self.output = (Message(role="tool", content=kept, tool_call_id=made.id),)

    def tell(self, values: Mapping[str, Any]) -> None:
        """Notes attributes that nobody noted."""
        for name, value in values.items():
            if value is not None:
                self.attributes.setdefault(name, value)

    def use(self, attributes: Mapping[str, Any], prefixes: Iterable[str]) -> None:
        """Marks all attributes below the prefixes, and these themselves, as used."""
        starts = tuple(prefixes)
        below = tuple(start + "." for start in starts)
        self.used.update(name for name in attributes if name in starts or name.startswith(below))
