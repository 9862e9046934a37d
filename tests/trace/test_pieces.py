"""Traces whose spans come in pieces, late, twice and in any order."""

import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.core.errors import UsageError
from kickwheel.core.store import Store, open_store
from kickwheel.records import Feedback, Message, Span, Trace, genai
from kickwheel.trace import pieces
from kickwheel.trace.gathered import Arrival
from kickwheel.trace.store import Summary, Traces

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    with open_store(tmp_path / "store", database) as opened:
        yield opened


@pytest.fixture
def traces(store: Store) -> Traces:
    return Traces(store)


def a_span(number: int, parent: int | None = 1, **more: object) -> Span:
    span = Span(
        id=f"{number:016x}",
        parent=None if parent is None else f"{parent:016x}",
        kind="model",
        name="gpt",
        start_ns=1000 + number,
        end_ns=2000 + number,
        attributes={genai.REQUEST_MODEL: f"m{number}", genai.INPUT_TOKENS: number},
        input=(Message(role="user", content=f"question {number}"),),
    )
    return replace(span, **more)  # type: ignore[arg-type]


def an_arrival(*spans: Span, workload: str = "shop", **more: object) -> Arrival:
    arrival = Arrival(id=TRACE, workload=workload, source="otlp", spans=spans)
    return replace(arrival, **more)  # type: ignore[arg-type]


ROOT = a_span(1, None, kind="agent", name="concierge", attributes={genai.INPUT_TOKENS: 999})


@given(st.permutations(range(1, 7)), st.lists(st.integers(1, 6), max_size=5), st.integers(1, 3))
@settings(max_examples=20)
def test_a_trace_is_the_same_however_its_spans_come(
    order: list[int], again: list[int], size: int
) -> None:
    spans = {1: ROOT} | {n: a_span(n, max(1, n // 2)) for n in range(2, 7)}
    spans[4] = replace(spans[4], error="busy")
    wanted = Trace(id=TRACE, workload="root's", source="otlp", spans=tuple(spans.values()))
    coming = [*order, *again]
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder)) as store:
        traces = Traces(store)
        for first in range(0, len(coming), size):
            some = [spans[n] for n in coming[first : first + size]]
            whose = "root's" if ROOT in some else "other"
            traces.join([an_arrival(*some, workload=whose)])
        assert traces.get(TRACE) == wanted
        assert traces.count() == 1
        (line,) = traces.list()
        with open_store(Path(folder) / "whole") as other:
            whole = Traces(other)
            whole.add([wanted])
            assert alike(line) == alike(whole.list()[0])


def alike(line: Summary) -> Summary:
    return replace(line, cursor="")


def test_spans_that_come_a_year_later_belong_to_their_trace(traces: Traces) -> None:
    year_ns = 365 * 24 * 3600 * 10**9
    now = time.time_ns()
    traces.join([an_arrival(replace(ROOT, start_ns=now - year_ns, end_ns=now - year_ns + 5))])
    before = traces.fingerprint()
    late = a_span(2, start_ns=now - year_ns + 1, end_ns=now)
    assert traces.join([an_arrival(late)]).new == 1
    assert traces.get(TRACE).spans[1] == late
    assert traces.list()[0].duration_ns == year_ns
    assert traces.fingerprint() != before


def test_a_root_that_never_comes_is_stood_in_for_by_the_earliest(traces: Traces) -> None:
    traces.join([an_arrival(a_span(5, 99), a_span(4, 98), a_span(6, 4))])
    assert [span.id[-1] for span in traces.get(TRACE).spans] == ["4", "5", "6"]
    assert [step.span.id[-1] for step in traces.steps(TRACE)] == ["4", "5"]


def test_spans_that_come_after_a_whole_trace_grow_it_and_known_ones_change_nothing(
    traces: Traces,
) -> None:
    whole = Trace(id=TRACE, workload="desk", source="served", spans=(ROOT, a_span(2)))
    traces.add([whole])
    before = traces.fingerprint()
    assert traces.join([an_arrival(replace(ROOT, name="changed"))]).new == 0
    assert (traces.get(TRACE), traces.fingerprint()) == (whole, before)
    assert traces.join([an_arrival(a_span(3), a_span(2))]).new == 1
    assert traces.get(TRACE) == replace(whole, spans=(ROOT, a_span(2), a_span(3)))
    assert traces.add([whole]) == 0
    assert traces.list()[0].spans == 3


def test_the_same_address_is_the_same_placeholder_in_every_piece_and_no_other_is(
    store: Store,
) -> None:
    traces = Traces(store)
    traces.join([an_arrival(asking(2, "Mail ann@shop.io"))])
    traces.join([an_arrival(asking(3, "Or bob@shop.io, ann@shop.io"))])
    # A program that knows neither by heart, as after a restart, confuses nobody with anybody.
    Traces(store).join([an_arrival(asking(4, "And eve@shop.io"))])
    said = [span.input[0].content for span in traces.get(TRACE).spans]
    assert said == ["Mail <email_1>", "Or <email_2>, <email_1>", "And <email_3>"]
    traces.join([an_arrival(asking(5, "Not joe@shop.io"))])
    assert traces.get(TRACE).spans[-1].input[0].content == "Not <email_4>"


def asking(number: int, text: str) -> Span:
    return a_span(number, input=(Message(role="user", content=text),))


AUTOGEN = """{"messages": ["source='user' content='Oslo?' type='TextMessage'"], "token": "<…>"}"""
LLAMAINDEX = """{"ctx": "<Context>", "ev": "AgentInput(blocks=[TextBlock(text='Oslo?')])"}"""
DSPY = """{"question": "Oslo?", "trajectory": ""}"""


@pytest.mark.parametrize("given", [AUTOGEN, LLAMAINDEX, DSPY])
@pytest.mark.parametrize("late", [False, True])
def test_what_a_function_was_given_is_no_question_where_somebody_said_one(
    traces: Traces, given: str, late: bool
) -> None:
    spans = [
        a_span(1, None, kind="step", input=(Message(role="user", content=given),)),
        a_span(2, input=(Message(role="system", content="Be brief."),)),
        a_span(3, input=(Message(role="user", content="Oslo?"),)),
        a_span(4, input=(Message(role="user", content="And Rome?"),)),
    ]
    traces.add([Trace(id="1" * 32, workload="shop", spans=tuple(spans))])
    for span in reversed(spans) if late else spans:
        traces.join([an_arrival(span)])
    assert [line.question for line in traces.list()] == ["Oslo?", "Oslo?"]


def test_a_question_that_is_json_is_shown_where_there_is_no_other(traces: Traces) -> None:
    asked = """{"lines": ["two parcels", "one letter"]}"""
    traces.join([an_arrival(a_span(1, None, input=(Message(role="user", content=asked),)))])
    assert traces.list()[0].question == asked


def test_feedback_comes_with_its_span_once(traces: Traces) -> None:
    said = Feedback(verdict="bad", note="ask ann@shop.io")
    for _ in range(2):
        traces.join([an_arrival(ROOT, feedback={ROOT.id: (said,)})])
    assert [f.note for f in traces.get(TRACE).feedback] == ["ask <email_1>"]


def test_an_agent_that_took_part_finds_its_trace(traces: Traces) -> None:
    traces.join([an_arrival(a_span(7, kind="agent", name="helper"))])
    assert [trace.id for trace in traces.all("helper")] == [TRACE]


def test_text_that_postgres_has_no_place_for_is_kept(traces: Traces) -> None:
    odd = a_span(2, kind="agent", name="a\x00b", error="x\x00y")
    traces.join([an_arrival(odd, workload="shop\x00")])
    assert traces.get(TRACE).spans == (odd,)


@pytest.mark.parametrize("whole", [True, False])
def test_a_large_trace_is_opened_level_by_level(traces: Traces, whole: bool) -> None:
    count = pieces.LARGE + 200 if whole else 300
    rest = [a_span(n, 1 if n < count // 2 else 2) for n in range(2, count)]
    random.Random(1).shuffle(rest)
    spans = (ROOT, *sorted(rest, key=lambda span: span.start_ns))
    if whole:
        traces.add([Trace(id=TRACE, workload="shop", source="otlp", spans=spans)])
    else:
        traces.join([an_arrival(*rest)])
        traces.join([an_arrival(ROOT)])
    assert traces.get(TRACE).spans == spans
    (top,) = traces.steps(TRACE)
    assert (top.span, top.children) == (ROOT, count // 2 - 2)
    seen, after = [], None
    while page := traces.steps(TRACE, ROOT.id, limit=100, after=after):
        seen += [step.span for step in page]
        after = page[-1].cursor
    assert seen == [span for span in spans if span.parent == ROOT.id]
    assert traces.steps(TRACE, ROOT.id, limit=1)[0].children == count - count // 2
    with pytest.raises(UsageError, match="no cursor"):
        traces.steps(TRACE, after="here")
