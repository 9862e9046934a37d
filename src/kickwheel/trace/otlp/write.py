"""Traces of ours as spans that any OpenTelemetry tool reads, and `read` reads back as they were.

Names are those of the GenAI conventions. Beside them stand a few of our own, so that nothing is
lost on the way: what kind of step it was, its name, and which attributes were only added here.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from kickwheel.records import Span, Trace, genai, wire
from kickwheel.trace.otlp import parts
from kickwheel.trace.otlp.observed import CLIENT, ERROR, INTERNAL, Event, Group, Observed
from kickwheel.trace.otlp.read import EVALUATION, SERVICE

SCOPE = "kickwheel"

_OPERATIONS = {
    "agent": ("invoke_agent", genai.AGENT_NAME),
    "model": ("chat", genai.REQUEST_MODEL),
    "tool": ("execute_tool", genai.TOOL_NAME),
    "retrieval": ("retrieval", None),
}


def write(traces: Iterable[Trace]) -> Iterator[Group]:
    """A group for each trace."""
    for trace in traces:
        yield Group(
            resource={
                SERVICE: trace.workload,
                genai.SOURCE: trace.source,
                "telemetry.sdk.name": SCOPE,
                "telemetry.sdk.language": "python",
                **({genai.TENANT: trace.tenant} if trace.tenant else {}),
                **({genai.USER_ID: trace.user} if trace.user else {}),
            },
            scope=SCOPE,
            spans=tuple(_span(trace, span) for span in trace.spans),
        )


def _span(trace: Trace, span: Span) -> Observed:
    told, added = dict(span.attributes), []
    operation, name_of = _OPERATIONS.get(span.kind, (None, None))
    for name, value in _added(span, operation, name_of):
        if name not in told:
            told[name] = value
            added.append(name)
    told[genai.SPAN_KIND], told[genai.SPAN_NAME] = span.kind, span.name
    if added:
        told[genai.SPAN_ADDED] = added
    if span.input:
        told[genai.INPUT_MESSAGES] = parts.plain(span.input)
    if span.output:
        reasons = span.attributes.get(genai.FINISH_REASONS)
        ended = reasons if isinstance(reasons, list) else []
        told[genai.OUTPUT_MESSAGES] = parts.plain(span.output, ended)
    if span.tools:
        told[genai.TOOL_DEFINITIONS] = parts.plain_tools(span.tools)
    return Observed(
        trace=trace.id,
        id=span.id,
        parent=span.parent or "",
        name=f"{told.get(genai.OPERATION)} {span.name}" if operation else span.name,
        kind=CLIENT if span.kind == "model" else INTERNAL,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        attributes=told,
        events=_said(trace) if span is trace.spans[0] else (),
        status=0 if span.error is None else ERROR,
        status_message=span.error or "",
    )


def _added(span: Span, operation: str | None, name_of: str | None) -> Iterator[tuple[str, Any]]:
    if operation is not None:
        yield genai.OPERATION, operation
    if name_of is not None:
        yield name_of, span.name
    if span.error is not None:
        yield genai.ERROR_TYPE, "_OTHER"
    if span.kind == "tool" and span.input and span.input[-1].tool_calls:
        call = span.input[-1].tool_calls[0]
        yield genai.TOOL_CALL_ID, call.id
        yield genai.TOOL_ARGUMENTS, call.arguments
    if span.kind == "tool" and span.output and span.output[-1].content is not None:
        yield genai.TOOL_RESULT, span.output[-1].content


def _said(trace: Trace) -> tuple[Event, ...]:
    return tuple(
        Event(
            name=EVALUATION,
            time_ns=said.time_ns,
            attributes={
                "gen_ai.evaluation.name": "feedback",
                "gen_ai.evaluation.score.label": said.verdict,
                "gen_ai.evaluation.explanation": said.note,
                genai.FEEDBACK: wire.to_bytes(said).decode(),
            },
        )
        for said in trace.feedback
    )
