"""OTLP as JSON: names in lowerCamelCase, ids in hex digits, 64-bit numbers as texts.

Fields that nobody here knows are passed over. Source: opentelemetry.io/docs/specs/otlp,
"JSON Protobuf Encoding".
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from kickwheel.trace.otlp.observed import Event, Group, Observed, Unreadable

CONTENT_TYPE = "application/json"

Number = int | str


class _Value(msgspec.Struct, rename="camel", omit_defaults=True):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Number | None = None
    double_value: float | str | None = None
    bytes_value: str | None = None
    array_value: "_Values | None" = None
    kvlist_value: "_Pairs | None" = None


class _Values(msgspec.Struct):
    values: list[_Value] = []


class _Pair(msgspec.Struct):
    key: str = ""
    value: _Value | None = None


class _Pairs(msgspec.Struct):
    values: list[_Pair] = []


class _Event(msgspec.Struct, rename="camel", omit_defaults=True):
    time_unix_nano: Number = 0
    name: str = ""
    attributes: list[_Pair] | None = None


class _Status(msgspec.Struct, omit_defaults=True):
    message: str | None = None
    code: Number | None = None


class _Span(msgspec.Struct, rename="camel", omit_defaults=True):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = None
    name: str = ""
    kind: Number | None = None
    start_time_unix_nano: Number = 0
    end_time_unix_nano: Number = 0
    attributes: list[_Pair] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _Scope(msgspec.Struct):
    name: str = ""


class _ScopeSpans(msgspec.Struct):
    scope: _Scope | None = None
    spans: list[_Span] | None = None


class _Resource(msgspec.Struct):
    attributes: list[_Pair] | None = None


class _ResourceSpans(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] | None = None


class _Partial(msgspec.Struct, rename="camel"):
    rejected_spans: Number = 0
    error_message: str = ""


class _Response(msgspec.Struct, rename="camel", omit_defaults=True):
    partial_success: _Partial | None = None


_KINDS = {"SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2, "SPAN_KIND_CLIENT": 3}
_CODES = {"STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_decoder = msgspec.json.Decoder(_Request)
_encoder = msgspec.json.Encoder()


def read(body: bytes) -> Iterator[Group]:
    """The spans of an ExportTraceServiceRequest.

    Raises:
        Unreadable: it is none.
    """
    try:
        request = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"not an ExportTraceServiceRequest in JSON: {error}") from error
    for of_resource in request.resource_spans or ():
        told = of_resource.resource
        resource = _mapping(told.attributes if told else None)
        for of_scope in of_resource.scope_spans or ():
            yield Group(
                resource=resource,
                scope=of_scope.scope.name if of_scope.scope else "",
                spans=tuple(_span(span) for span in of_scope.spans or ()),
            )


def write(groups: Iterable[Group]) -> bytes:
    """An ExportTraceServiceRequest with these spans, on one line."""
    return _encoder.encode(_Request([_resource_spans(group) for group in groups]))


def answer(rejected: int, why: str) -> bytes:
    """An ExportTraceServiceResponse."""
    partial = _Partial(str(rejected), why) if rejected or why else None
    return _encoder.encode(_Response(partial))


def status(code: int, message: str) -> bytes:
    """A `google.rpc.Status`."""
    return _encoder.encode({"code": code, "message": message})


def _span(span: _Span) -> Observed:
    status = span.status or _Status()
    return Observed(
        trace=span.trace_id.lower(),
        id=span.span_id.lower(),
        parent=(span.parent_span_id or "").lower(),
        name=span.name,
        kind=_number(_KINDS.get(str(span.kind), span.kind)),
        start_ns=_number(span.start_time_unix_nano),
        end_ns=_number(span.end_time_unix_nano),
        attributes=_mapping(span.attributes),
        events=tuple(
            Event(
                name=event.name,
                time_ns=_number(event.time_unix_nano),
                attributes=_mapping(event.attributes),
            )
            for event in span.events or ()
        ),
        status=_number(_CODES.get(str(status.code), status.code)),
        status_message=status.message or "",
    )


def _number(value: Number | None) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return 0


def _mapping(pairs: list[_Pair] | None) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs or ()}


def _value(value: _Value | None) -> Any:
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return _number(value.int_value)
    if value.bool_value is not None:
        return value.bool_value
    if value.double_value is not None:
        return _float(value.double_value)
    if value.array_value is not None:
        return [_value(one) for one in value.array_value.values]
    if value.kvlist_value is not None:
        return _mapping(value.kvlist_value.values)
    return value.bytes_value


def _float(value: float | str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _resource_spans(group: Group) -> _ResourceSpans:
    spans = [
        _Span(
            trace_id=span.trace,
            span_id=span.id,
            parent_span_id=span.parent or None,
            name=_text(span.name),
            kind=span.kind,
            start_time_unix_nano=str(span.start_ns),
            end_time_unix_nano=str(span.end_ns),
            attributes=_pairs(span.attributes),
            events=[
                _Event(str(event.time_ns), event.name, _pairs(event.attributes))
                for event in span.events
            ]
            or None,
            status=_Status(_text(span.status_message), span.status) if span.status else None,
        )
        for span in group.spans
    ]
    return _ResourceSpans(
        _Resource(_pairs(group.resource)), [_ScopeSpans(_Scope(group.scope), spans)]
    )


def _pairs(attributes: Mapping[str, Any]) -> list[_Pair]:
    return [_Pair(_text(name), _wrapped(value)) for name, value in attributes.items()]


def _wrapped(value: Any) -> _Value:
    if isinstance(value, bool):
        return _Value(bool_value=value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return _Value(int_value=str(value))
    if isinstance(value, float):
        named = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, value)
        return _Value(double_value="NaN" if value != value else named)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _Value(array_value=_Values([_wrapped(one) for one in value]))
    return _Value(string_value=_text(str(value)))


def _text(value: str) -> str:
    """Half a surrogate pair, which a model may write, is no character that JSON's bytes hold."""
    return value.encode("utf-8", "replace").decode()
