"""OTLP as protobuf, by the classes of the package `opentelemetry-proto`.

Fields that these classes do not know are passed over, as protobuf wants it.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kickwheel.core.errors import MissingExtra
from kickwheel.trace.otlp.observed import Event, Group, Observed, Unreadable

CONTENT_TYPE = "application/x-protobuf"
DEPTH = 20
"""How deep lists and mappings of an attribute are read."""


def check() -> None:
    """Returns if the packages for protobuf are there.

    Raises:
        MissingExtra: they are not.
    """
    _service()


def read(body: bytes) -> Iterator[Group]:
    """The spans of an ExportTraceServiceRequest.

    Raises:
        Unreadable: it is none.
        MissingExtra: the packages for protobuf are not there.
    """
    from google.protobuf.message import DecodeError

    service = _service()
    try:
        request = service.ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise Unreadable(f"not an ExportTraceServiceRequest in protobuf: {error}") from error
    for of_resource in request.resource_spans:
        resource = _mapping(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            yield Group(
                resource=resource,
                scope=of_scope.scope.name,
                spans=tuple(_span(span) for span in of_scope.spans),
            )


def write(groups: Iterable[Group]) -> bytes:
    """An ExportTraceServiceRequest with these spans."""
    request = _service().ExportTraceServiceRequest()
    for group in groups:
        of_resource = request.resource_spans.add()
        _fill(of_resource.resource.attributes, group.resource)
        of_scope = of_resource.scope_spans.add()
        of_scope.scope.name = group.scope
        for span in group.spans:
            made = of_scope.spans.add(
                trace_id=bytes.fromhex(span.trace),
                span_id=bytes.fromhex(span.id),
                parent_span_id=bytes.fromhex(span.parent),
                name=_text(span.name),
                kind=span.kind,
                start_time_unix_nano=span.start_ns,
                end_time_unix_nano=span.end_ns,
            )
            if span.status:
                made.status.code = span.status
                made.status.message = _text(span.status_message)
            _fill(made.attributes, span.attributes)
            for event in span.events:
                told = made.events.add(name=event.name, time_unix_nano=event.time_ns)
                _fill(told.attributes, event.attributes)
    return bytes(request.SerializeToString())


def answer(rejected: int, why: str) -> bytes:
    """An ExportTraceServiceResponse."""
    response = _service().ExportTraceServiceResponse()
    if rejected or why:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = _text(why)
    return bytes(response.SerializeToString())


def answered(body: bytes) -> tuple[int, str]:
    """How many spans a collector did not take, and why.

    Raises:
        Unreadable: the body is no ExportTraceServiceResponse.
    """
    from google.protobuf.message import DecodeError

    try:
        told = _service().ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError as error:
        raise Unreadable(f"not an ExportTraceServiceResponse: {error}") from error
    return told.rejected_spans, told.error_message


def status(code: int, message: str) -> bytes:
    """A `google.rpc.Status`, whose class is in a package that nothing else here needs."""
    text = message.encode("utf-8", "replace")
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


def _service() -> Any:
    """The module with the requests and answers of the trace service."""
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
    except ImportError as error:
        raise MissingExtra("OTLP as protobuf", "otel") from error
    return trace_service_pb2


def _span(span: Any) -> Observed:
    return Observed(
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        name=span.name,
        kind=span.kind,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_mapping(span.attributes),
        events=tuple(
            Event(
                name=event.name,
                time_ns=event.time_unix_nano,
                attributes=_mapping(event.attributes),
            )
            for event in span.events
        ),
        status=span.status.code,
        status_message=span.status.message,
    )


def _mapping(pairs: Iterable[Any], depth: int = 0) -> dict[str, Any]:
    return {pair.key: _value(pair.value, depth) for pair in pairs}


def _value(value: Any, depth: int) -> Any:
    kind = value.WhichOneof("value")
    if kind is None or depth > DEPTH:
        return None
    held = getattr(value, kind)
    if kind == "array_value":
        return [_value(one, depth + 1) for one in held.values]
    if kind == "kvlist_value":
        return _mapping(held.values, depth + 1)
    return base64.b64encode(held).decode() if isinstance(held, bytes) else held


def _fill(pairs: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        _set(pairs.add(key=_text(name)).value, value)


def _set(made: Any, value: Any) -> None:
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, Sequence) and not isinstance(value, str):
        made.array_value.SetInParent()
        for one in value:
            _set(made.array_value.values.add(), one)
    else:
        made.string_value = _text(str(value))


def _text(value: str) -> str:
    """Half a surrogate pair, which a model may write, is no character that protobuf takes."""
    return value.encode("utf-8", "replace").decode()


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
