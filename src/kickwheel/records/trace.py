"""All that one request did: spans of agent, model, tool, retrieval and guard calls.

Scalars are attributes under OpenTelemetry's GenAI names (`records.genai` lists those that we
write); messages stay typed and become `gen_ai.input.messages` only where a trace leaves the house.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kickwheel.records.message import AcceptedCall, Message, ToolSpec

SpanKind = Literal["agent", "model", "tool", "retrieval", "guard", "step"]
"""`step`: whatever else other programs watch, such as a chain or an HTTP request."""
Value = str | int | float | bool | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One step of a request."""

    id: str
    """16 hex digits, as OpenTelemetry's span id."""
    parent: str | None = None
    kind: SpanKind
    name: str
    start_ns: int
    """Unix time, nanoseconds."""
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str | None = None
    """What went wrong, redacted; `None` where nothing did."""
    input: tuple[Message, ...] = ()
    """What was asked, oldest first."""
    output: tuple[Message, ...] = ()
    """What came back."""
    tools: tuple[ToolSpec, ...] = ()
    """The tools that were offered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What somebody said of an answer."""

    verdict: Literal["good", "bad"]
    answer: Message | None = None
    """The answer that would have been right; it replaces the given one when a model is tuned."""
    accepted: tuple[AcceptedCall, ...] = ()
    """Calls that count as right besides the answer's own."""
    note: str = ""
    time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One request, from the question to the answer."""

    id: str
    """32 hex digits, as OpenTelemetry's trace id."""
    workload: str
    """Whose work it was: the agent's or the model's name, or `workload_id` of imported traffic."""
    source: str = "served"
    """`served`, `otlp`, or for imported traffic its file and line, `chats.jsonl:212`."""
    spans: tuple[Span, ...]
    """In the order of their start; the first is the root."""
    feedback: tuple[Feedback, ...] = ()
    """Oldest first; the last one with a verdict counts."""
    tenant: str = ""
    """Whose data it is; empty where it is the house's own."""
    user: str = ""
    """Who asked; empty where that is not known."""
    version: int = 1
