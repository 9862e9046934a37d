"""What leaves as OTLP comes back as it was, through either encoding and through a store."""

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from kickwheel.core.store import open_store
from kickwheel.records import Feedback, Message, Span, SpanKind, ToolCall, ToolSpec, Trace, genai
from kickwheel.trace.otlp import plain, protobuf
from kickwheel.trace.otlp.observed import Unreadable
from kickwheel.trace.otlp.read import read
from kickwheel.trace.otlp.write import write
from kickwheel.trace.store import Traces

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text("abcdefgh_", min_size=1, max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
arguments = (
    texts
    | json_values.map(json.dumps)
    | json_values.map(lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")))
)
calls = st.builds(ToolCall, id=texts.filter(bool), name=names, arguments=arguments)
messages = st.builds(
    Message,
    role=st.sampled_from(["system", "developer", "user", "assistant"]),
    content=st.none() | texts,
    tool_calls=st.lists(calls, max_size=2).map(tuple),
) | st.builds(
    Message, role=st.just("tool"), content=st.none() | texts, tool_call_id=st.none() | texts
)
several = st.lists(messages, max_size=3).map(tuple)
attributes = st.dictionaries(
    names | st.sampled_from([genai.AGENT_NAME, genai.OPERATION, genai.FINISH_REASONS]),
    texts
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.lists(texts, max_size=3),
    max_size=4,
)
kinds: st.SearchStrategy[SpanKind] = st.sampled_from(
    ["agent", "model", "tool", "retrieval", "guard", "step"]
)
specs = st.builds(
    ToolSpec, name=names, description=texts, parameters=st.dictionaries(names, json_values)
)
said = st.builds(
    Feedback,
    verdict=st.sampled_from(["good", "bad"]),
    note=texts,
    answer=st.none() | messages,
    time_ns=st.integers(0, 2**62),
)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    count = draw(st.integers(1, 5))
    starts = sorted(draw(st.sets(st.integers(1, 2**62), min_size=count, max_size=count)))
    spans: list[Span] = []
    for number, start_ns in enumerate(starts):
        above = draw(st.sampled_from(spans)).id if spans else None
        spans.append(
            Span(
                id=f"{number + 1:016x}",
                parent=above,
                kind=draw(kinds),
                name=draw(texts),
                start_ns=start_ns,
                end_ns=start_ns + draw(st.integers(0, 10**12)),
                attributes=draw(attributes),
                error=draw(st.none() | texts),
                input=draw(several),
                output=draw(several),
                tools=tuple(draw(st.lists(specs, max_size=2))),
            )
        )
    return Trace(
        id=f"{draw(st.integers(1, 2**128 - 1)):032x}",
        workload=draw(names),
        source=draw(texts.filter(bool)),
        spans=tuple(spans),
        feedback=tuple(draw(st.lists(said, max_size=2))),
        tenant=draw(names | st.just("")),
        user=draw(names | st.just("")),
    )


@given(traces())
@pytest.mark.parametrize("encoding", [protobuf, plain])
def test_a_trace_comes_back_as_it_left(encoding: object, trace: Trace) -> None:
    arrived = read(encoding.read(encoding.write(write([trace]))))  # type: ignore[attr-defined]
    (arrival,) = arrived.arrivals
    assert arrived.rejected == 0
    assert arrival.spans == trace.spans
    assert (arrival.id, arrival.workload, arrival.source) == (
        trace.id,
        trace.workload,
        trace.source,
    )
    assert arrival.feedback.get(trace.spans[0].id, ()) == trace.feedback
    assert (arrival.tenant, arrival.user) == (trace.tenant, trace.user)


@given(traces())
@settings(max_examples=15)
def test_a_trace_is_the_same_in_the_store_that_it_was_exported_to(trace: Trace) -> None:
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder)) as store:
        kept = Traces(store)
        kept.add([trace])
        clean = kept.get(trace.id)
        with open_store(Path(folder) / "other") as other:
            there = Traces(other)
            for _ in range(2):
                there.join(read(protobuf.read(protobuf.write(write([clean])))).arrivals)
            assert there.get(trace.id) == clean
            # Where it came from, nothing changes.
            before = kept.fingerprint()
            assert kept.join(read(plain.read(plain.write(write([clean])))).arrivals).new == 0
            assert (kept.get(trace.id), kept.fingerprint()) == (clean, before)


@given(traces())
def test_the_real_classes_read_what_leaves(trace: Trace) -> None:
    request = ExportTraceServiceRequest.FromString(protobuf.write(write([trace])))
    (of_resource,) = request.resource_spans
    told = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
    spans = of_resource.scope_spans[0].spans
    assert told["service.name"] == trace.workload
    assert [span.span_id.hex() for span in spans] == [span.id for span in trace.spans]
    assert [span.trace_id.hex() for span in spans] == [trace.id] * len(trace.spans)
    for span, ours in zip(spans, trace.spans, strict=True):
        said = {pair.key: pair.value.string_value for pair in span.attributes}
        messages = json.loads(said.get(genai.INPUT_MESSAGES, "[]"))
        assert [message["role"] for message in messages] == [m.role for m in ours.input]


@given(st.binary(max_size=200))
@pytest.mark.parametrize("encoding", [protobuf, plain])
def test_any_bytes_are_read_or_refused(encoding: object, body: bytes) -> None:
    with contextlib.suppress(Unreadable):
        read(encoding.read(body))  # type: ignore[attr-defined]


def test_bytes_are_kept_as_base64_from_either_encoding() -> None:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.attributes.add(key="raw").value.bytes_value = b"\x00\xff"
    value = {"key": "raw", "value": {"bytesValue": "AP8="}}
    same = {"resourceSpans": [{"scopeSpans": [{"spans": [{"attributes": [value]}]}]}]}
    for groups in (
        protobuf.read(request.SerializeToString()),
        plain.read(json.dumps(same).encode()),
    ):
        (group,) = groups
        assert group.spans[0].attributes == {"raw": "AP8="}
