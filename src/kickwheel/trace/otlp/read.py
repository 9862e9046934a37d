"""Spans that other programs sent, as spans of ours, put together by trace.

    arrived = read(plain.read(body))
    traces.join(arrived.arrivals)

Every span that has ids and a time is kept, understood or not; what no dialect understands is a
`step` with its attributes.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from kickwheel.records import Feedback, Span, SpanKind, genai, wire
from kickwheel.records.trace import Value
from kickwheel.trace.forms.form import loaded
from kickwheel.trace.gathered import LATEST_NS, Arrival, ordered
from kickwheel.trace.otlp import current, older, openinference, parts
from kickwheel.trace.otlp.observed import ERROR, Event, Group, Observed
from kickwheel.trace.otlp.understood import Understood

DIALECTS = (current, older, openinference)
"""What a newer one understands, an older one leaves."""
SERVICE = "service.name"
SOURCE = "otlp"
EVALUATION = "gen_ai.evaluation.result"
UNREAD_CHARS = 200

_REASONS = {
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
}
"""Words of others for OpenAI's, by which curation tells a whole answer from a cut one."""
_OWN = (
    genai.SPAN_KIND,
    genai.SPAN_NAME,
    genai.SPAN_ADDED,
    genai.INPUT_MESSAGES,
    genai.OUTPUT_MESSAGES,
    genai.TOOL_DEFINITIONS,
)
_TRACE, _SPAN = re.compile(r"(?!0+$)[0-9a-f]{32}"), re.compile(r"(?!0+$)[0-9a-f]{16}")


@dataclass(slots=True)
class Arrived:
    """What a request brought."""

    arrivals: list[Arrival] = field(default_factory=list)
    rejected: int = 0
    """Spans that cannot be kept."""
    why: str = ""
    """Why the first of them cannot."""


def read(groups: Iterable[Group], workload: str | None = None) -> Arrived:
    """The spans, by trace. Tenant and user are those that the sender names: whoever takes them in
    decides whether that one may.

    Args:
        workload: whose traffic it is; by default the resource's `service.name`, else the agent's.
    """
    arrived = Arrived()
    gathered: dict[str, list[Span]] = {}
    feedback: dict[str, dict[str, tuple[Feedback, ...]]] = {}
    sent: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    for group in groups:
        told = group.resource
        # Postgres has no place for the character NUL.
        tenant, user = (
            str(told.get(name) or "").replace("\0", "") for name in (genai.TENANT, genai.USER_ID)
        )
        source = str(told.get(genai.SOURCE) or SOURCE)
        by = workload or _service(told), source, tenant, user
        for observed in group.spans:
            wrong = _wrong(observed)
            if wrong is not None:
                arrived.rejected += 1
                arrived.why = arrived.why or wrong
                continue
            span = understood(observed)
            gathered.setdefault(observed.trace, []).append(span)
            sent.setdefault((observed.trace, span.id), by)
            said = _feedback(observed.events)
            if said:
                feedback.setdefault(observed.trace, {})[span.id] = said
    for trace, found in gathered.items():
        spans = ordered(found)
        whose, source, tenant, user = sent[trace, spans[0].id]
        arrived.arrivals.append(
            Arrival(
                id=trace,
                workload=whose or next((s.name for s in spans if s.kind == "agent"), SOURCE),
                source=source,
                spans=spans,
                feedback=feedback.get(trace, {}),
                tenant=tenant,
                user=user,
            )
        )
    return arrived


def understood(span: Observed) -> Span:
    """The span in our terms."""
    if genai.SPAN_KIND in span.attributes:
        return _own(span)
    found = Understood()
    for dialect in DIALECTS:
        try:
            dialect.understand(span, found)
        except (ValueError, TypeError, RecursionError) as error:
            found.unread.append(str(error)[:UNREAD_CHARS])
    attributes = _attributes(span, found)
    reasons = loaded(attributes.get(genai.FINISH_REASONS)) or list(found.reasons)
    if isinstance(reasons, list) and reasons:
        attributes[genai.FINISH_REASONS] = [_REASONS.get(str(one), str(one)) for one in reasons]
    if found.unread:
        attributes[genai.UNREAD] = list(dict.fromkeys(found.unread))
    return _span(
        span,
        kind=found.kind or "step",
        name=found.name or span.name,
        attributes=attributes,
        error=_error(span) if span.status == ERROR else None,
        input=found.input,
        output=found.output,
        tools=found.tools,
    )


def _own(span: Observed) -> Span:
    """The span as it was before `write` made this of it."""
    told = span.attributes
    added = told.get(genai.SPAN_ADDED)
    left = {*_OWN, *(added if isinstance(added, list) else ())}
    return _span(
        span,
        kind=next((k for k in get_args(SpanKind) if k == told[genai.SPAN_KIND]), "step"),
        name=str(told.get(genai.SPAN_NAME, span.name)),
        attributes=_values({n: value for n, value in told.items() if n not in left}),
        error=span.status_message if span.status == ERROR else None,
        input=parts.said(told.get(genai.INPUT_MESSAGES) or [], "user").messages,
        output=parts.said(told.get(genai.OUTPUT_MESSAGES) or [], "assistant").messages,
        tools=parts.specs(told.get(genai.TOOL_DEFINITIONS) or []),
    )


def _span(span: Observed, **meant: Any) -> Span:
    return Span(
        id=span.id,
        parent=span.parent if span.parent not in ("", span.id) else None,
        start_ns=span.start_ns,
        end_ns=max(span.start_ns, span.end_ns),
        **meant,
    )


def _service(resource: Mapping[str, Any]) -> str:
    name = str(resource.get(SERVICE) or "")
    return "" if name.startswith("unknown_service") else name


def _wrong(span: Observed) -> str | None:
    if not _TRACE.fullmatch(span.trace):
        return f'"{span.name}": a trace id must be 16 bytes, and not all zero'
    if not _SPAN.fullmatch(span.id):
        return f'"{span.name}": a span id must be 8 bytes, and not all zero'
    if not 0 <= span.start_ns <= LATEST_NS or not 0 <= span.end_ns <= LATEST_NS:
        return f'"{span.name}": it has no time that can be kept'
    return None


def _attributes(span: Observed, found: Understood) -> dict[str, Value]:
    kept = {n: v for n, v in span.attributes.items() if n not in found.used} | found.attributes
    return _values(kept)


def _values(found: Mapping[str, Any]) -> dict[str, Value]:
    return {name: value for name, raw in found.items() if (value := _value(raw)) is not None}


def _value(value: Any) -> Value | None:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _error(span: Observed) -> str:
    if span.status_message:
        return span.status_message
    for event in span.events:
        if event.name == "exception":
            told = event.attributes
            return f"{told.get('exception.type', 'error')}: {told.get('exception.message', '')}"
    return str(span.attributes.get(genai.ERROR_TYPE) or "failed")


def _feedback(events: Iterable[Event]) -> tuple[Feedback, ...]:
    found = []
    for event in events:
        told = event.attributes.get(genai.FEEDBACK) if event.name == EVALUATION else None
        if isinstance(told, str):
            try:
                found.append(wire.from_bytes(told, Feedback))
            except ValueError:
                continue
    return tuple(found)
