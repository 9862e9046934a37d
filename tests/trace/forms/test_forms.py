"""Exports of other programs, in their true shape (`golden/`), into a real store."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.core.errors import DataError, UsageError
from kickwheel.core.store import open_store
from kickwheel.flywheel.curate.extract import extract
from kickwheel.records import Feedback, Message, ToolCall, Trace, genai
from kickwheel.trace import chatlog
from kickwheel.trace.store import Traces

GOLDEN = Path(__file__).parent / "golden"
CALL = ToolCall(id="call_1", name="find", arguments='{"city": "Napa"}')
CALLED = (Message(role="assistant", tool_calls=(CALL,)),)
FOUND = (Message(role="tool", content="one tonight", tool_call_id="call_1"),)
ASKED = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Find jazz in Napa"),
)
SAID = (Message(role="assistant", content="There is one tonight."),)


@pytest.fixture
def traces(tmp_path: Path) -> Iterator[Traces]:
    with open_store(tmp_path / "store") as store:
        yield Traces(store)


def landed(name: str, traces: Traces) -> chatlog.Landed:
    return chatlog.import_(GOLDEN / name, traces)


def shape(trace: Trace) -> list[tuple[str, str, str | None]]:
    names = {span.id: span.name for span in trace.spans}
    return [(span.kind, span.name, names.get(span.parent or "")) for span in trace.spans]


EVERY = [
    ("atif.json", "atif", 1, 1),
    ("flywheel-elasticsearch.jsonl", "chat", 2, 2),
    ("flywheel-search.json", "chat", 2, 2),
    ("langfuse-all.jsonl", "langfuse", 9, 2),
    ("langfuse-download.json", "langfuse", 2, 1),
    ("langfuse-observations.csv", "langfuse", 5, 2),
    ("langfuse-observations.jsonl", "langfuse", 5, 2),
    ("langfuse-traces.json", "langfuse", 1, 1),
    ("openinference-otlp.jsonl", "opentelemetry", 2, 1),
    ("openinference-sdk.json", "opentelemetry", 4, 1),
    ("phoenix-dataframe.jsonl", "phoenix", 4, 1),
    ("phoenix-spans.jsonl", "phoenix", 6, 1),
    ("tensorzero.jsonl", "tensorzero", 11, 4),
]


@pytest.mark.parametrize(("name", "form", "entries", "new"), EVERY)
def test_every_entry_of_an_export_is_kept_and_the_same_again_adds_nothing(
    name: str, form: str, entries: int, new: int, traces: Traces
) -> None:
    first = landed(name, traces)
    assert (first.form, first.lines, first.new, first.broken) == (form, entries, new, ())
    before = list(traces.all())
    again = landed(name, traces)
    assert (again.new, again.known, again.said) == (0, new, 0)
    assert list(traces.all()) == before


def test_an_agents_spans_keep_their_places_whoever_exported_them(traces: Traces) -> None:
    one = {
        "langfuse-observations.jsonl": ("plan", "answer"),
        "phoenix-spans.jsonl": ("ChatCompletion",),
        "openinference-otlp.jsonl": ("ChatCompletion",),
        "atif.json": ("gpt-5-mini", "gpt-5-mini"),
    }
    for name, models in one.items():
        with open_store(traces.folder / name) as store:
            mine = Traces(store)
            landed(name, mine)
            trace = next(mine.all("concierge"))
            assert shape(trace)[0] == ("agent", "concierge", None)
            asked = [span for span in trace.spans if span.kind == "model"]
            named = {span.name for span in asked if span.parent == trace.spans[0].id}
            assert named == set(models)
            (tool,) = [span for span in trace.spans if span.kind == "tool"]
            assert tool.parent == trace.spans[0].id
            assert [call.arguments for said in tool.input for call in said.tool_calls] == [
                '{"city": "Napa"}'
            ]
            assert [said.content for said in tool.output] == ["one tonight"]
            assert asked[0].input == ASKED
            assert asked[0].output == CALLED
            assert [spec.name for spec in asked[0].tools] == ["find"]
            learned = extract(trace)
            assert not isinstance(learned, str)
            assert learned[0].answer == CALLED[0]


def test_a_generation_of_langfuse_brings_tokens_times_and_cost(traces: Traces) -> None:
    landed("langfuse-observations.jsonl", traces)
    trace = next(traces.all("concierge"))
    assert trace.id == "a1b2c3d4e5f60718293a4b5c6d7e8f90"
    assert trace.source == "langfuse-observations.jsonl:1"
    plan = trace.spans[1]
    assert plan.start_ns == 1_780_062_379_100_000_000
    assert plan.attributes[genai.INPUT_TOKENS] == 120
    assert plan.attributes[genai.CACHED_TOKENS] == 20
    assert plan.attributes[genai.COST_USD] == 0.0015
    assert plan.attributes[genai.TIME_TO_FIRST_CHUNK_S] == 0.5
    failed = next(traces.all("support"))
    assert failed.spans[0].error == "overloaded"


def test_scores_that_come_later_are_said_of_the_traces_that_the_store_has(traces: Traces) -> None:
    with pytest.raises(DataError, match="neither in the file nor the store"):
        landed("langfuse-scores.jsonl", traces)
    landed("langfuse-observations.jsonl", traces)
    assert landed("langfuse-scores.jsonl", traces).said == 2
    assert landed("langfuse-scores.jsonl", traces).said == 0
    helpful, corrected = traces.get("a1b2c3d4").feedback
    assert (helpful.verdict, helpful.note) == ("good", "helpful: quick")
    assert corrected.verdict == "bad"
    assert corrected.answer == Message(role="assistant", content="There is one tonight, at nine.")


def test_a_downloaded_trace_brings_its_correction(traces: Traces) -> None:
    landed("langfuse-download.json", traces)
    (trace,) = traces.all("concierge")
    assert trace.feedback[0].answer == Message(role="assistant", content="At nine.")


def test_what_is_no_verdict_is_kept_beside_the_trace_not_turned_into_one(traces: Traces) -> None:
    landed("langfuse-all.jsonl", traces)
    trace = traces.get("a1b2c3d4")
    assert [said.verdict for said in trace.feedback] == ["bad"]
    about = trace.spans[0].attributes
    assert about["langfuse.score.accuracy"] == 0.8
    assert about["langfuse.score.tone"] == "friendly"


def test_tensorzeros_feedback_reaches_its_inferences(traces: Traces) -> None:
    landed("tensorzero.jsonl", traces)
    said = {t.source.split(":")[1]: t.feedback for t in traces.all()}
    when = 1_752_062_700_000_000_000
    solved = Feedback(verdict="good", note="solved", time_ns=when)
    assert said["1"] == (solved,)
    # A demonstration that is the answer given says that it was good.
    assert [(one.verdict, one.answer) for one in said["2"]] == [("good", None), ("good", None)]
    (right,) = said["4"]
    assert right.answer == Message(role="assistant", content='{"person": ["Ann", "Bob"]}')
    assert [one.verdict for one in said["5"]] == ["bad"]
    first = next(traces.all("extract_entities"))
    assert first.spans[0].attributes["tensorzero.metric.exact_match"] == 0.5
    assert first.spans[0].attributes["tensorzero.comment"] == "Bob is missing"


def test_a_model_inference_is_the_inference_that_it_was_asked_for(traces: Traces) -> None:
    landed("tensorzero.jsonl", traces)
    trace = next(t for t in traces.all() if t.source == "tensorzero.jsonl:2")
    (span,) = trace.spans
    assert (span.kind, span.name) == ("model", "gpt-5-mini")
    assert span.attributes[genai.INPUT_TOKENS] == 210
    assert span.attributes["tensorzero.function"] == "weather_helper"
    assert [said.role for said in span.input] == ["system", "user", "assistant", "tool"]


def test_a_subagent_stands_below_the_call_that_handed_it_work(traces: Traces) -> None:
    landed("atif.json", traces)
    (trace,) = traces.all()
    assert ("agent", "finder", "find") in shape(trace)
    assert ("model", "small", "finder") in shape(trace)
    usage = [span.attributes.get(genai.INPUT_TOKENS) for span in trace.spans]
    assert usage.count(120) == usage.count(140) == 1


def test_labels_of_phoenix_are_verdicts_where_they_are_plain(traces: Traces) -> None:
    landed("phoenix-spans.jsonl", traces)
    (trace,) = traces.all()
    assert [(said.verdict, said.note) for said in trace.feedback] == [
        ("good", "user_feedback: quick")
    ]
    assert trace.spans[0].attributes["phoenix.annotation.relevance.score"] == 0.7


def test_a_form_can_be_named_and_an_unknown_one_is_told(tmp_path: Path, traces: Traces) -> None:
    assert chatlog.import_(GOLDEN / "atif.json", traces, form="atif").new == 1
    with pytest.raises(UsageError, match='Did you mean "langfuse"'):
        chatlog.import_(GOLDEN / "atif.json", traces, form="langfuze")
    with pytest.raises(DataError, match="no observation, trace or score of Langfuse"):
        chatlog.import_(GOLDEN / "atif.json", traces, form="langfuse")


@pytest.mark.parametrize("name", [name for name, *_ in EVERY])
def test_half_a_file_says_that_it_was_cut(name: str, tmp_path: Path, traces: Traces) -> None:
    whole = (GOLDEN / name).read_bytes()
    file = tmp_path / name
    file.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(DataError, match=r"the file was cut|ends in the middle|[Ww]as the file cut"):
        chatlog.import_(file, traces)
    assert traces.count() == 0


def test_a_line_cut_at_the_end_of_a_long_file_is_named_and_the_rest_lands(
    tmp_path: Path, traces: Traces
) -> None:
    rows = (GOLDEN / "langfuse-observations.jsonl").read_text().splitlines()
    many = [
        json.dumps({**json.loads(rows[4]), "id": f"g{n}", "trace_id": f"t{n}"}) for n in range(30)
    ]
    file = tmp_path / "observations.jsonl"
    file.write_text("\n".join(many)[:-40])
    done = chatlog.import_(file, traces)
    assert done.new == 29
    (broken,) = done.broken
    assert broken.line == 30
    assert broken.why.endswith("the file ends in the middle of this line")


def test_spans_whose_root_is_missing_get_one(tmp_path: Path, traces: Traces) -> None:
    rows = (GOLDEN / "phoenix-spans.jsonl").read_text().splitlines()[1:4]
    file = tmp_path / "spans.jsonl"
    file.write_text("\n".join(rows) + "\n")
    chatlog.import_(file, traces)
    (trace,) = traces.all()
    assert len(trace.spans) == 4
    assert {span.parent for span in trace.spans[1:]} == {trace.spans[0].id}


def test_rows_of_one_trace_may_stand_apart(tmp_path: Path, traces: Traces) -> None:
    rows = (GOLDEN / "langfuse-observations.jsonl").read_text().splitlines()
    file = tmp_path / "observations.jsonl"
    file.write_text("\n".join([rows[4], *reversed(rows[:4])]) + "\n")
    chatlog.import_(file, traces)
    trace = traces.get("a1b2c3d4")
    assert [span.name for span in trace.spans] == ["concierge", "plan", "find", "answer"]


keys = st.sampled_from(
    ["id", "trace_id", "traceId", "type", "start_time", "startTime", "input", "output", "name",
     "context", "span_id", "span_kind", "attributes", "llm.input_messages.0.message.role",
     "llm.input_messages", "message.content", "function_name", "episode_id", "messages", "content",
     "role", "steps", "agent", "schema_version", "tool_calls", "observation", "results", "value",
     "target_id", "metric_name", "data_type", "annotator_kind", "result", "label", "resourceSpans",
     "scopeSpans", "spans", "key", "stringValue", "timestamp", "source", "message", "usage_details"]
)  # fmt: skip
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2_000_000_000_000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([2**63, -(2**63) - 1, 10**19, 10**30, 10**400, 1e308, "\ud800", "\x00"])
    | st.sampled_from(["user", "GENERATION", "LLM", "2026-01-01", "agent", "[{", '{"a": 1}', ""])
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=15,
)


def _damaged(entry: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**entry, key: value}


wholes = [
    json.loads(line)
    for name, *_ in EVERY
    if name.endswith(".jsonl")
    for line in (GOLDEN / name).read_text().splitlines()
] + [json.loads((GOLDEN / "atif.json").read_text())]


@given(
    st.builds(_damaged, st.sampled_from(wholes), keys, values)
    | st.dictionaries(keys, values, min_size=1),
    st.sampled_from(chatlog.FORMS),
)
@settings(max_examples=400, deadline=None)
def test_any_entry_is_read_or_says_what_is_wrong(entry: dict[str, Any], form: Any) -> None:
    from kickwheel.trace.forms.gather import Gathered
    from kickwheel.trace.forms.rows import Row

    row = Row(line=1, raw=json.dumps(entry).encode(), value=entry, done=1, total=1)
    Gathered().take(row, form)


def _inside(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values that hold no others."""
    if isinstance(value, dict | list) and value:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _inside(value[key], (*place, key))
    else:
        yield place


@pytest.mark.parametrize("odd", [10**19, 10**400, "\ud800", [[1]]])
def test_a_value_that_no_column_holds_is_kept_or_named_wherever_it_stands(
    odd: Any, tmp_path: Path, traces: Traces
) -> None:
    for name in ("atif.json", "langfuse-all.jsonl", "phoenix-spans.jsonl", "tensorzero.jsonl"):
        text = (GOLDEN / name).read_text()
        whole = (
            [json.loads(text)]
            if name == "atif.json"
            else list(map(json.loads, text.split("\n")[:-1]))
        )
        file = tmp_path / name
        for number, entry in enumerate(whole):
            for *way, last in _inside(entry):
                changed = json.loads(json.dumps(entry))
                inner = changed
                for key in way:
                    inner = inner[key]
                inner[last] = odd
                rows = [*whole[:number], changed, *whole[number + 1 :]]
                file.write_text("\n".join(json.dumps(row) for row in rows))
                with contextlib.suppress(DataError):  # Above a tenth of so few rows.
                    read = chatlog.import_(file, traces)
                    assert read.lines == len(rows)
                    assert len(read.broken) <= 1


def test_what_models_answer_inside_chains_is_learned(tmp_path: Path, traces: Traces) -> None:
    rows = {
        row["id"]: row for row in map(json.loads, (GOLDEN / "langfuse-observations.jsonl").open())
    }
    plan = rows["0a00000000000002"]
    ways = [("SPAN", "CHAIN"), ("SPAN", "AGENT", "CHAIN"), ("AGENT", "TOOL", "AGENT")]
    lines = []
    for number, way in enumerate(ways):
        parent = ""
        for depth, sort in enumerate(way):
            start = f"2026-05-29 13:46:1{depth}.000000"
            row = {**plan, "id": f"{number}-{depth}", "trace_id": f"way-{number}", "type": sort}
            row |= {"parent_observation_id": parent, "start_time": start, "input": "x"}
            lines.append({**row, "output": "", "name": sort, "tool_calls": []})
            parent = row["id"]
        inner = {**plan, "trace_id": f"way-{number}", "parent_observation_id": parent}
        lines.append({**inner, "id": f"{number}-model", "trace_name": f"way-{number}"})
    file = tmp_path / "observations.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    chatlog.import_(file, traces)
    found = {trace.spans[-1].parent: extract(trace) for trace in traces.all()}
    answers = [len(one) if isinstance(one, list) else one for one in found.values()]
    assert sorted(answers, key=str) == [1, 1, "no answer"]


def test_spans_that_opentelemetrys_sdk_writes_are_read(tmp_path: Path, traces: Traces) -> None:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.trace import Status, StatusCode

    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("openinference.instrumentation.openai")
    agent = {"openinference.span.kind": "AGENT", "input.value": "Find jazz", "output.value": "x"}
    new = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Find jazz"}]}])
    with tracer.start_as_current_span("desk", attributes=agent):
        with tracer.start_as_current_span(
            "ChatCompletion",
            attributes={
                "openinference.span.kind": "LLM",
                "llm.model_name": "gpt-5-mini",
                "llm.input_messages.0.message.role": "user",
                "llm.input_messages.0.message.content": "Find jazz",
                "llm.output_messages.0.message.role": "assistant",
                "llm.output_messages.0.message.content": "At nine.",
                "llm.token_count.prompt": 12,
            },
        ):
            pass
        asked = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": new}
        with tracer.start_as_current_span("chat gpt-5-mini", attributes=asked) as span:
            span.set_status(Status(StatusCode.ERROR, "overloaded"))
    provider.shutdown()
    file = tmp_path / "spans.json"
    file.write_text("\n".join(span.to_json() for span in kept.get_finished_spans()))
    assert chatlog.import_(file, traces).form == "opentelemetry"
    (trace,) = traces.all("shop")
    assert shape(trace) == [
        ("agent", "desk", None),
        ("model", "ChatCompletion", "desk"),
        ("model", "chat gpt-5-mini", "desk"),
    ]
    assert trace.spans[1].attributes[genai.INPUT_TOKENS] == 12
    assert trace.spans[1].output[0].content == "At nine."
    assert trace.spans[2].input == (Message(role="user", content="Find jazz"),)
    assert trace.spans[2].error == "overloaded"
    ids = {format(span.context.trace_id, "032x") for span in kept.get_finished_spans()}
    assert ids == {trace.id}


def test_records_that_nats_exporter_writes_are_the_blueprints(
    tmp_path: Path, traces: Traces
) -> None:
    call = {"type": "function", "function": {"name": "find", "arguments": {"city": "Napa"}}}
    record = {
        "contract_version": "1.1",
        "request": {
            "messages": [
                {"role": "human", "content": "Find jazz"},
                {"role": "ai", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "none", "tool_call_id": "call_0"},
            ],
            "model": "m",
            "tools": None,
        },
        "response": {
            "choices": [
                {
                    "message": {"role": None, "content": "", "tool_calls": [call]},
                    "finish_reason": "tool_calls",
                    "index": 0,
                }
            ],
            "usage": None,
        },
        "client_id": "shop",
        "workload_id": "desk",
        "timestamp": 1760000000,
        "error_details": None,
    }
    failed = {**record, "response": {"choices": None}, "error_details": "timed out"}
    file = tmp_path / "records.jsonl"
    file.write_text(json.dumps({"_source": record}) + "\n" + json.dumps(failed) + "\n")
    assert chatlog.import_(file, traces).broken == ()
    first, second = traces.all("desk")
    assert [said.role for said in first.spans[0].input] == ["user", "assistant", "tool"]
    assert first.spans[0].output[0].tool_calls[0].arguments == '{"city": "Napa"}'
    assert second.spans[0].error == "timed out"
