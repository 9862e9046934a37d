"""Spans in OpenInference's terms, written to a file by OpenTelemetry:

    {"name", "context": {"trace_id", "span_id"}, "attributes", …}   a span, as the SDK's `to_json`
                                                                    and its console exporter write
    {"resourceSpans": [{"scopeSpans": [{"spans": […]}]}]}           OTLP JSON, as the collector's
                                                                    file exporter writes
    {"trace_id", "span_id", "attributes": [{"key", "value"}], …}    a span of it alone

Source: OpenTelemetry's protocol, `opentelemetry-proto` (JSON encoding: ids in hex, 64-bit numbers
as texts); `opentelemetry-sdk`, `ReadableSpan.to_json`; for the attributes `trace.openinference`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kickwheel.records import Span
from kickwheel.trace import openinference
from kickwheel.trace.forms.form import (
    Piece,
    mapping,
    sequence,
    span_id,
    text,
    time_ns,
    trace_id,
)
from kickwheel.trace.forms.rows import Row

_PLAIN = ("stringValue", "boolValue", "doubleValue", "bytesValue")


class OpenInference:
    """Spans in OpenInference's terms, as OpenTelemetry writes them to files."""

    name = "openinference"
    about = "OpenInference spans, as OpenTelemetry writes them to files (also OTLP JSON)"
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
        known = {_camel(key): value for key, value in entry.items()}
        if "resourceSpans" in known:
            return _request(known)
        if "spanId" in known and "traceId" in known:
            return [_otlp(known, "")]
        return [_written(entry)]


def _written(entry: Mapping[str, Any]) -> Piece:
    """A span as OpenTelemetry's SDK writes it."""
    context = mapping(entry.get("context"), "context")
    status = entry.get("status")
    status = status if isinstance(status, Mapping) else {}
    resource = entry.get("resource")
    found = resource.get("attributes") if isinstance(resource, Mapping) else None
    return _piece(
        context,
        entry.get("parent_id"),
        str(entry.get("name") or "span"),
        mapping(entry.get("attributes") or {}, "attributes"),
        (entry.get("start_time"), entry.get("end_time")),
        str(status.get("status_code") or "").upper() == "ERROR",
        str(status.get("description") or ""),
        _service(found if isinstance(found, Mapping) else {}),
    )


def _request(known: Mapping[str, Any]) -> list[Piece]:
    pieces: list[Piece] = []
    for resource in sequence(known, "resourceSpans"):
        told = _under(mapping(resource, "resourceSpans"))
        about = told.get("resource")
        service = _service(_attributes(about) if isinstance(about, Mapping) else {})
        for scope in sequence(told, "scopeSpans"):
            for span in sequence(_under(mapping(scope, "scopeSpans")), "spans"):
                try:
                    pieces.append(_otlp(_under(mapping(span, "a span")), service))
                except ValueError as error:
                    raise ValueError(f"spans[{len(pieces)}]: {error}") from error
    return pieces


def _otlp(known: Mapping[str, Any], service: str) -> Piece:
    status = known.get("status")
    status = status if isinstance(status, Mapping) else {}
    return _piece(
        {"trace_id": known.get("traceId"), "span_id": known.get("spanId")},
        known.get("parentSpanId"),
        str(known.get("name") or "span"),
        _attributes(known),
        (known.get("startTimeUnixNano"), known.get("endTimeUnixNano")),
        status.get("code") in (2, "2", "STATUS_CODE_ERROR"),
        str(status.get("message") or ""),
        service,
    )


def _piece(
    context: Mapping[str, Any],
    parent: object,
    name: str,
    found: Mapping[str, Any],
    times: tuple[object, object],
    failed: bool,
    why: str,
    service: str,
) -> Piece:
    trace, identity = text(context, "trace_id"), text(context, "span_id")
    start_ns = time_ns(times[0], "start_time")
    if not start_ns:
        raise ValueError("start_time is missing")
    told = openinference.told(found, name)
    span = Span(
        id=span_id(identity),
        parent=span_id(parent) if isinstance(parent, str) and parent else None,
        kind=told.kind,
        name=name,
        start_ns=start_ns,
        end_ns=max(start_ns, time_ns(times[1], "end_time")),
        attributes=told.attributes,
        error=(why or "failed") if failed else None,
        input=told.input,
        output=told.output,
        tools=told.tools,
    )
    return Piece(trace=trace_id(trace), spans=(span,), called=service, names=(identity,))


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in sequence(holder, "attributes"):
        one = mapping(entry, "an attribute")
        found[str(one.get("key"))] = _value(one.get("value"))
    return found


def _value(value: object) -> Any:
    """The value that OTLP wraps with its type."""
    if not isinstance(value, Mapping):
        return None
    known = _under(value)
    for key in _PLAIN:
        if key in known:
            return known[key]
    if "intValue" in known:
        return int(known["intValue"])
    if isinstance(known.get("arrayValue"), Mapping):
        return [_value(one) for one in sequence(known["arrayValue"], "values")]
    if isinstance(known.get("kvlistValue"), Mapping):
        return {
            str(one.get("key")): _value(one.get("value"))
            for one in sequence(known["kvlistValue"], "values")
            if isinstance(one, Mapping)
        }
    return None


def _service(resource: Mapping[str, Any]) -> str:
    """Whose spans they are, by what the resource says."""
    name = resource.get("openinference.project.name") or resource.get("service.name") or ""
    return "" if str(name).startswith("unknown_service") else str(name)


def _under(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {_camel(key): value for key, value in entry.items()}


def _camel(key: str) -> str:
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)
