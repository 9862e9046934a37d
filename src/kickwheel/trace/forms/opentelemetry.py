"""Spans that OpenTelemetry wrote to a file, in OpenInference's terms or the GenAI conventions':

    {"resourceSpans": [{"scopeSpans": [{"spans": […]}]}]}           OTLP JSON, as the collector's
                                                                    file exporter writes
    {"traceId", "spanId", "attributes": [{"key", "value"}], …}      a span of it alone
    {"name", "context": {"trace_id", "span_id"}, "attributes", …}   a span, as the SDK's `to_json`
                                                                    and its console exporter write

What the attributes mean, `trace.otlp.read` knows, which also takes them over HTTP.

Source: OpenTelemetry's protocol, `opentelemetry-proto` 1.9 (JSON encoding); `opentelemetry-sdk`
1.45, `ReadableSpan.to_json`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kickwheel.trace.forms.form import Piece, mapping, sequence, text, time_ns, trace_id
from kickwheel.trace.forms.rows import Row
from kickwheel.trace.otlp import plain
from kickwheel.trace.otlp.observed import ERROR, Event, Group, Observed
from kickwheel.trace.otlp.read import SERVICE, SOURCE, read

_PROJECT = "openinference.project.name"


class OpenTelemetry:
    """Spans that OpenTelemetry wrote to a file."""

    name = "opentelemetry"
    about = "OpenTelemetry's spans in OpenInference's or GenAI terms: OTLP JSON, the SDK's JSON"
    grouped = True

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Whether it is an OTLP request, or a span."""
        keys = {_camel(key) for key in entry}
        return (
            "resourceSpans" in keys
            or {"traceId", "spanId", "startTimeUnixNano"} <= keys
            or {"name", "context", "attributes", "start_time"} <= entry.keys()
        )

    def read(self, row: Row, entry: Mapping[str, Any]) -> Sequence[Piece]:
        """The span, or all spans of the request."""
        if isinstance(entry.get("context"), Mapping):
            return _pieces([_written(entry)])
        known = _camelled(entry)
        if "resourceSpans" not in known:
            known = {"resourceSpans": [{"scopeSpans": [{"spans": [known]}]}]}
        return _pieces(plain.read(json.dumps(known).encode("utf-8", "surrogatepass")))


def _pieces(groups: Iterable[Group]) -> list[Piece]:
    arrived = read(groups)
    if arrived.rejected:
        raise ValueError(arrived.why)
    return [
        Piece(
            trace=one.id,
            spans=one.spans,
            called="" if one.workload == SOURCE else one.workload,
            names=tuple(span.id for span in one.spans),
            feedback=tuple(said for of in one.feedback.values() for said in of),
            tenant=one.tenant,
            user=one.user,
        )
        for one in arrived.arrivals
    ]


def _written(entry: Mapping[str, Any]) -> Group:
    """A span as OpenTelemetry's SDK writes it."""
    context = mapping(entry.get("context"), "context")
    status = entry.get("status")
    status = status if isinstance(status, Mapping) else {}
    resource = entry.get("resource")
    told = resource.get("attributes") if isinstance(resource, Mapping) else None
    told = dict(told) if isinstance(told, Mapping) else {}
    if _PROJECT in told:
        told[SERVICE] = told[_PROJECT]
    parent = entry.get("parent_id")
    span = Observed(
        trace=trace_id(text(context, "trace_id")),
        id=_bare(text(context, "span_id")),
        parent=_bare(parent) if isinstance(parent, str) else "",
        name=str(entry.get("name") or "span"),
        start_ns=time_ns(entry.get("start_time"), "start_time"),
        end_ns=time_ns(entry.get("end_time"), "end_time"),
        attributes=mapping(entry.get("attributes") or {}, "attributes"),
        events=tuple(
            Event(
                name=str(one.get("name")),
                time_ns=time_ns(one.get("timestamp")),
                attributes=mapping(one.get("attributes") or {}, "attributes"),
            )
            for one in sequence(entry, "events")
            if isinstance(one, Mapping)
        ),
        status=ERROR if str(status.get("status_code") or "").upper() == "ERROR" else 0,
        status_message=str(status.get("description") or ""),
    )
    return Group(resource=told, spans=(span,))


def _bare(identity: str) -> str:
    return identity.lower().removeprefix("0x")


def _camelled(value: Any) -> Any:
    """The value under OTLP's names, which some write with underscores."""
    if isinstance(value, Mapping):
        return {_camel(str(key)): _camelled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_camelled(inner) for inner in value]
    return value


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)
