"""OTLP by the real OpenTelemetry SDK and its exporter, and by hand where no SDK would do it."""

import base64
import gzip
import http.client
import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, Parse
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode

from kickwheel.models.caller import Caller
from kickwheel.records import Message, ToolCall, genai
from kickwheel.serve import otlp
from tests.serve.conftest import Rooms, Served, running

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def served(tmp_path: Path, rooms: Rooms) -> Iterator[Served]:
    with running(tmp_path / "store", rooms) as running_server:
        yield running_server


def traced(exporter: SpanExporter, service: str = "shop") -> None:
    """What an instrumented agent does: it asks a model, runs a tool, and fails at the end."""
    provider = TracerProvider(resource=Resource({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    call = {"type": "tool_call", "id": "call_7", "name": "find", "arguments": {"city": "Rome"}}
    with tracer.start_as_current_span("invoke_agent concierge") as agent:
        agent.set_attributes(
            {genai.OPERATION: "invoke_agent", genai.AGENT_NAME: "concierge", "team": "blue"}
        )
        with tracer.start_as_current_span("chat gpt-5-mini") as chat:
            asked = [{"role": "user", "parts": [{"type": "text", "content": "Mail ann@shop.io"}]}]
            answered = [{"role": "assistant", "parts": [call], "finish_reason": "tool_call"}]
            tool = {"type": "function", "name": "find", "parameters": {"type": "object"}}
            chat.set_attributes(
                {
                    genai.OPERATION: "chat",
                    genai.REQUEST_MODEL: "gpt-5-mini",
                    genai.INPUT_TOKENS: 20,
                    genai.OUTPUT_TOKENS: 7,
                    genai.SYSTEM_INSTRUCTIONS: json.dumps([{"type": "text", "content": "Be kind"}]),
                    genai.INPUT_MESSAGES: json.dumps(asked),
                    genai.OUTPUT_MESSAGES: json.dumps(answered),
                    genai.TOOL_DEFINITIONS: json.dumps([tool]),
                }
            )
        with tracer.start_as_current_span("execute_tool find") as ran:
            ran.set_attributes(
                {
                    genai.OPERATION: "execute_tool",
                    genai.TOOL_NAME: "find",
                    genai.TOOL_CALL_ID: "call_7",
                    genai.TOOL_ARGUMENTS: '{"city": "Rome"}',
                    genai.TOOL_RESULT: "nothing",
                }
            )
            ran.set_status(Status(StatusCode.ERROR, "no table left"))
    provider.shutdown()


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_what_the_real_exporter_sends_span_by_span_is_one_trace(
    served: Served, compression: Compression
) -> None:
    # A simple processor sends each span as it ends: children come before their root.
    traced(OTLPSpanExporter(f"{served.url}/v1/traces", compression=compression))
    (line,) = served.traces.list()
    trace = served.traces.get(line.id)
    agent, chat, tool = trace.spans
    assert (trace.workload, trace.source, line.spans) == ("shop", "otlp", 3)
    assert (line.input_tokens, line.output_tokens, line.model) == (20, 7, "gpt-5-mini")
    assert line.question == "Mail <email_1>"
    assert line.error == tool.error == "no table left"
    assert (agent.kind, agent.name, agent.parent) == ("agent", "concierge", None)
    assert agent.attributes["team"] == "blue"
    assert chat.parent == tool.parent == agent.id
    called = ToolCall(id="call_7", name="find", arguments='{"city": "Rome"}')
    assert chat.input == (
        Message(role="system", content="Be kind"),
        Message(role="user", content="Mail <email_1>"),
    )
    assert chat.output == (Message(role="assistant", tool_calls=(called,)),)
    assert chat.attributes[genai.FINISH_REASONS] == ["tool_calls"]
    assert [spec.name for spec in chat.tools] == ["find"]
    assert tool.input == (Message(role="assistant", tool_calls=(called,)),)
    assert tool.output == (Message(role="tool", content="nothing", tool_call_id="call_7"),)


class Twice(SpanExporter):
    """Sends what the real exporter sends as it does, and the same in the JSON that Google's own
    classes make of it, with hex ids, as OTLP wants.

    Source: opentelemetry.io/docs/specs/otlp, JSON Protobuf Encoding.
    """

    def __init__(self, binary: Served, text: Served, *, numbers: bool) -> None:
        self.binary, self.text, self.numbers = binary, text, numbers

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        request = encode_spans(spans)
        status, answer, _ = post(self.binary, request.SerializeToString(), kind=BINARY)
        assert (status, ExportTraceServiceResponse.FromString(answer)) == (200, ALL_TAKEN)
        told = MessageToDict(request, use_integers_for_enums=self.numbers)
        for of_resource in told["resourceSpans"]:
            for of_scope in of_resource["scopeSpans"]:
                for span in of_scope["spans"]:
                    for name in ("traceId", "spanId", "parentSpanId"):
                        if name in span:
                            span[name] = base64.b64decode(span[name]).hex()
        status, answer, _ = post(self.text, json.dumps(told).encode())
        assert (status, Parse(answer, ExportTraceServiceResponse())) == (200, ALL_TAKEN)
        return SpanExportResult.SUCCESS


BINARY = "application/x-protobuf"
ALL_TAKEN = ExportTraceServiceResponse()


@pytest.mark.parametrize("numbers", [True, False])
def test_googles_json_of_what_the_real_exporter_sends_is_the_same_trace(
    tmp_path: Path, rooms: Rooms, numbers: bool
) -> None:
    with (
        running(tmp_path / "binary", rooms) as binary,
        running(tmp_path / "text", rooms) as text,
    ):
        traced(Twice(binary, text, numbers=numbers))
        provider = TracerProvider(resource=Resource({"service.name": "shop", "pods": [1, 2]}))
        provider.add_span_processor(SimpleSpanProcessor(Twice(binary, text, numbers=numbers)))
        with provider.get_tracer("tests").start_as_current_span("odd", kind=SpanKind.CLIENT) as odd:
            odd.set_attributes({"share": 0.1, "on": True, "large": 2**62, "each": ["a", "b"]})
            odd.set_attributes({"whole": 1.0, "raw": b"\x00\xff", "none": [], "sizes": [1.5, 2.5]})
            odd.add_event("exception", {"exception.type": "Late", "exception.message": "é \u2028"})
            odd.set_status(Status(StatusCode.ERROR))
        provider.shutdown()
        of_binary, of_text = (list(served.traces.all()) for served in (binary, text))
    assert len(of_binary) == 2
    assert of_text == of_binary
    assert of_text[1].spans[0].error == "Late: é \u2028"


def test_the_path_or_a_header_says_whose_traffic_it_is(served: Served) -> None:
    traced(OTLPSpanExporter(f"{served.url}/t/desk/v1/traces"))
    traced(OTLPSpanExporter(f"{served.url}/v1/traces", headers={otlp.WORKLOAD: "triage"}))
    assert {line.workload for line in served.traces.list()} == {"desk", "triage"}


def test_spans_a_year_old_out_of_order_and_twice_are_one_trace(served: Served) -> None:
    year_ns = 365 * 86_400 * 10**9
    now = 1_790_000_000_000_000_000
    old = {"startTimeUnixNano": str(now - year_ns), "endTimeUnixNano": str(now - year_ns + 5)}
    root, child, late = "1" * 16, "2" * 16, "3" * 16
    for span in (
        a_span(late, child),
        a_span(child, root, **old),
        a_span(root, **old),
        a_span(child, root, **old),
    ):
        status, answer, _ = post(served, json.dumps(a_request(span)).encode())
        assert (status, answer) == (200, b"{}")
    (line,) = served.traces.list()
    assert (line.spans, line.start_ns, line.duration_ns) == (3, now - year_ns, year_ns + 900)
    assert [s.id for s in served.traces.get(TRACE).spans] == [root, child, late]


def test_spans_of_a_tenants_key_are_that_tenants_and_join_no_trace_of_others(
    tmp_path: Path, rooms: Rooms
) -> None:
    clinic, bank = (Caller(user="bob", tenant="clinic"), Caller(user="eve", tenant="bank"))
    keys = {"house": Caller(), "clinic": clinic, "bank": bank, "ann": Caller(user="ann")}
    with running(tmp_path / "store", rooms, keys=keys) as served:

        def sent(key: str, span: str, trace: str = TRACE) -> Any:
            body = json.dumps(a_request({**a_span(span), "traceId": trace})).encode()
            _, answer, _ = post(served, body, key=key)
            return json.loads(answer).get("partialSuccess", {})

        assert sent("clinic", "1" * 16) == {}
        foreign = sent("bank", "2" * 16)
        assert foreign["rejectedSpans"] == "1"
        assert "belongs to somebody else" in foreign["errorMessage"]
        assert sent("house", "3" * 16) == sent("clinic", "1" * 16) == {}
        assert sent("house", "4" * 16, "b" * 32) == {}
        for key in ("clinic", "ann"):
            assert sent(key, "5" * 16, "b" * 32)["rejectedSpans"] == "1"
        assert sent("ann", "6" * 16)["rejectedSpans"] == "1"
        theirs, ours = served.traces.get(TRACE), served.traces.get("b" * 32)
        assert (theirs.tenant, theirs.user) == ("clinic", "bob")
        assert {span.id[0] for span in theirs.spans} == {"1", "3"}
        assert (ours.tenant, ours.user[:4], len(ours.spans)) == ("", "key-", 1)


def test_the_house_alone_may_say_whose_a_trace_is(tmp_path: Path, rooms: Rooms) -> None:
    keys = {"house": Caller(), "bank": Caller(user="eve", tenant="bank"), "ann": Caller(user="ann")}
    with running(tmp_path / "store", rooms, keys=keys) as served:
        found = {}
        for number, key in enumerate(keys, 1):
            body = a_request({**a_span("1" * 16), "traceId": f"{number:032x}"})
            body["resourceSpans"][0]["resource"] = {
                "attributes": [
                    {"key": "kickwheel.tenant", "value": {"stringValue": "clinic"}},
                    {"key": "user.id", "value": {"stringValue": "bob\0"}},
                ]
            }
            status, _, _ = post(served, json.dumps(body).encode(), key=key)
            trace = served.traces.get(f"{number:032x}")
            found[key] = (status, trace.tenant, trace.user)
    assert found == {
        "house": (200, "clinic", "bob"),
        "bank": (200, "bank", "eve"),
        "ann": (200, "", "ann"),
    }


def test_json_is_answered_in_json_and_unknown_fields_are_passed_over(served: Served) -> None:
    body = a_request(a_span("00f067aa0ba902b7"))
    body["resourceSpans"][0]["schemaUrl"] = "https://example.com"
    body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["flags"] = 257
    body["tomorrow"] = {"is": ["another", "day"]}
    status, answer, headers = post(served, json.dumps(body).encode())
    assert (status, answer, headers["content-type"]) == (200, b"{}", "application/json")
    assert served.traces.get(TRACE).spans[0].name == "GET /"


def test_spans_that_cannot_be_kept_are_counted_with_the_reason_and_the_others_stay(
    served: Served,
) -> None:
    body = a_request(a_span("00f067aa0ba902b7"), a_span("00"), a_span("0" * 16))
    _, answer, _ = post(served, json.dumps(body).encode())
    told = json.loads(answer)["partialSuccess"]
    assert told["rejectedSpans"] == "2"
    assert "a span id must be 8 bytes" in told["errorMessage"]
    packed = ExportTraceServiceRequest()
    packed.resource_spans.add().scope_spans.add().spans.add(name="lost", trace_id=b"short")
    _, answer, headers = post(served, packed.SerializeToString(), "application/x-protobuf")
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert headers["content-type"] == "application/x-protobuf"
    assert (partial.rejected_spans, "trace id" in partial.error_message) == (1, True)
    assert served.traces.count() == 1


def test_counts_that_are_too_large_to_add_up_lose_no_span(served: Served) -> None:
    most = {"key": genai.INPUT_TOKENS, "value": {"intValue": str(2**63 - 1)}}
    chat = {"key": genai.OPERATION, "value": {"stringValue": "chat"}}
    spans = [a_span(f"00f067aa0ba902b{n}", attributes=[chat, most]) for n in range(3)]
    assert post(served, json.dumps(a_request(*spans)).encode())[0] == 200
    assert len(served.traces.get(TRACE).spans) == 3
    (line,) = served.traces.list()
    assert 2**40 <= line.input_tokens < 2**63


@pytest.mark.parametrize(
    ("body", "kind", "coding"),
    [
        (b"\x0a\xff\xff", "application/x-protobuf", None),
        (b"\x00 no protobuf at all", "application/x-protobuf", None),
        (b'{"resourceSpans": [', "application/json", None),
        (b'{"resourceSpans": "many"}', "application/json", None),
        (b"not gzip", "application/json", "gzip"),
        (gzip.compress(b"{}" * 999, mtime=0)[:-9], "application/json", "gzip"),
        (b"[" * 100_000, "application/json", None),
    ],
)
def test_what_is_no_otlp_is_refused_in_the_encoding_that_it_claims(
    served: Served, body: bytes, kind: str, coding: str | None
) -> None:
    status, answer, headers = post(served, body, kind, coding)
    assert (status, headers["content-type"]) == (400, kind)
    assert b"not an Export" in answer or b"gzip" in answer


def test_what_is_too_large_is_refused_before_it_is_held(served: Served) -> None:
    bomb = gzip.compress(b" " * (100 << 20))
    status, answer, _ = post(served, bomb, "application/json", "gzip")
    assert status == 413
    assert b"Send fewer spans" in answer
    members = gzip.compress(b"") * 100_000
    assert post(served, members + gzip.compress(b"{}"), "application/json", "gzip")[0] == 200
    # Said before a byte of the body is there.
    asking = http.client.HTTPConnection(served.url.removeprefix("http://"))
    asking.putrequest("POST", "/v1/traces")
    asking.putheader("content-length", str(100 << 20))
    asking.endheaders()
    assert asking.getresponse().status == 413
    asking.close()
    status, _, _ = post(served, b"{}" + b" " * (otlp.BYTES - 2))
    assert status == 200


def test_other_encodings_are_refused_with_those_that_are_taken(served: Served) -> None:
    status, answer, _ = post(served, b"", "text/plain")
    assert status == 415
    assert b"application/x-protobuf" in answer
    status, answer, _ = post(served, b"", "application/json", "br")
    assert status == 415


def test_a_locked_store_says_later_and_the_same_again_loses_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = json.dumps(a_request(a_span("00f067aa0ba902b7"))).encode()
    with sqlite3.connect(tmp_path / "store" / "store.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        served.store.database._writer.execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
        status, answer, headers = post(served, body)
        other.execute("ROLLBACK")
    assert status == 503
    assert int(headers["retry-after"]) > 0
    assert b"busy" in answer
    assert served.traces.count() == 0
    for _ in range(2):
        assert post(served, body)[0] == 200
    assert len(served.traces.get(TRACE).spans) == 1


def test_a_full_disk_says_later_too(served: Served) -> None:
    writer = served.store.database._writer  # type: ignore[attr-defined]
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    value = {"stringValue": "x" * (1 << 20)}
    large = a_span("00f067aa0ba902b7", attributes=[{"key": "long", "value": value}])
    body = json.dumps(a_request(large)).encode()
    status, answer, headers = post(served, body)
    assert (status, "retry-after" in headers) == (503, True)
    assert b"disk is full" in answer
    assert served.traces.count() == 0
    writer.execute("PRAGMA max_page_count = 1000000")
    assert post(served, body)[0] == 200
    assert served.traces.list()[0].spans == 1


def test_spans_of_one_trace_from_many_senders_at_once_are_all_there(served: Served) -> None:
    bodies = [
        json.dumps(a_request(*(a_span(f"{n:016x}", "1" * 16) for n in range(first, first + 20))))
        for first in range(1, 201, 10)
    ]
    with ThreadPoolExecutor(8) as several:
        statuses = list(several.map(lambda body: post(served, body.encode())[0], bodies))
    assert set(statuses) == {200}
    assert served.traces.list()[0].spans == 210
    assert len(served.traces.get(TRACE).spans) == 210


def a_span(identity: str, parent: str = "", **more: Any) -> dict[str, Any]:
    return {
        "traceId": TRACE,
        "spanId": identity,
        "parentSpanId": parent,
        "name": "GET /",
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000000000000900",
        "attributes": [],
        **more,
    }


def a_request(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def post(
    served: Served,
    body: bytes,
    kind: str = "application/json",
    coding: str | None = None,
    key: str = "",
) -> tuple[int, bytes, dict[str, str]]:
    headers = {"content-type": kind} | ({"content-encoding": coding} if coding else {})
    if key:
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(f"{served.url}/v1/traces", body, headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}
