"""Refs move after the gate, and back."""

from pathlib import Path

import pytest

from kickwheel import promote, rollback, why
from kickwheel.core.errors import NotPromoted, UsageError
from kickwheel.core.store import open_store
from kickwheel.flywheel.why import said_in
from kickwheel.records import Message, Span, SpanKind, ToolCall, Trace
from tests.flywheel import made

Said = tuple[Message, ...]


def test_a_promotion_needs_the_gates_word(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        first = made.adapter(store, dataset, 1)
        with pytest.raises(UsageError, match="no report yet"):
            promote(app)
        made.report(store, dataset, first, promoted=False)
        with pytest.raises(NotPromoted, match="better by 10 points"):
            promote(app)
        assert store.refs.read("mine/specialist") is None


def test_promotions_and_rollbacks_move_the_ref_there_and_back(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        first, second = (made.adapter(store, dataset, seed) for seed in (1, 2))
        made.report(store, dataset, first, promoted=True)
        assert promote(app) == f"adapter/{first}"
        made.report(store, dataset, second, promoted=True, incumbent=f"adapter/{first}")
        assert promote(app) == f"adapter/{second}"
        assert promote(app) == f"adapter/{second}"
        assert rollback(app) == ("mine/specialist", f"adapter/{first}")
        assert rollback(app) == ("mine/specialist", None)
        with pytest.raises(UsageError, match="nothing before"):
            rollback(app)
        assert len(store.refs.history("mine/specialist")) == 4


def test_what_was_rolled_back_is_put_back_only_by_its_name(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        first, second = (made.adapter(store, dataset, seed) for seed in (1, 2))
        made.report(store, dataset, first, promoted=True)
        promote(app)
        made.report(store, dataset, second, promoted=True, incumbent=f"adapter/{first}")
        promote(app)
        rollback(app, why="it calls the wrong tool")
        with pytest.raises(UsageError, match=f"calls the wrong tool.*--adapter {second}"):
            promote(app)
        assert store.refs.read("mine/specialist") == f"adapter/{first}"
        assert promote(app, second[:6]) == f"adapter/{second}"
        assert promote(app) == f"adapter/{second}"


def test_who_was_compared_with_another_incumbent_is_not_promoted(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        first, second = (made.adapter(store, dataset, seed) for seed in (1, 2))
        made.report(store, dataset, first, promoted=True)
        promote(app)
        made.report(store, dataset, second, promoted=True)
        with pytest.raises(UsageError, match="Compare again"):
            promote(app)
        assert store.refs.read("mine/specialist") == f"adapter/{first}"


def test_why_leads_from_an_example_to_its_trace_and_on_to_the_verdict(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        adapter = made.adapter(store, dataset, 1)
        report = made.report(store, dataset, adapter, promoted=True)
        promote(app)
    way = why("e1", app)
    assert way.trace.id == made.trace(1).id
    assert way.trace.feedback[0].note == "yes"
    (stay,) = way.stays
    assert (stay.dataset, stay.adapters) == (dataset, (adapter,))
    assert stay.outcomes[0][0] == report
    assert stay.verdicts == ((report, "better by 10 points"),)
    assert way.refs == (("mine/specialist", f"adapter/{adapter}"),)


def test_what_was_said_in_a_trace_is_told_once_and_in_its_order() -> None:
    asked, answer = made.QUESTION, Message(role="assistant", content="It is on its way.")
    called = Message(role="assistant", tool_calls=(ToolCall(id="1", name="find", arguments="{}"),))
    result = Message(role="tool", content="at the border", tool_call_id="1")

    def span(kind: SpanKind, start: int, end: int, said: Said, came: Said) -> Span:
        return Span(
            id=f"{start:016x}",
            kind=kind,
            name="x",
            start_ns=start,
            end_ns=end,
            input=said,
            output=came,
        )

    spans = (
        span("agent", 1, 9, (asked,), (answer,)),
        span("model", 2, 3, (asked,), (called,)),
        span("tool", 4, 5, (called,), (result,)),
        span("model", 6, 8, (asked, called, result), (answer,)),
    )
    trace = Trace(id="1" * 32, workload="w", spans=spans)
    assert said_in(trace) == [asked, called, result, answer]


def test_why_says_where_a_trace_was_dropped(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
    way = why(made.trace(2).id, app)
    assert [(name, drop.reason) for name, drop in way.dropped] == [(dataset, "stands twice")]
    with pytest.raises(UsageError, match='no trace "zz"'):
        why("zz", app)
