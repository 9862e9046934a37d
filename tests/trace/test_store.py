import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.core.errors import StoreError, UsageError
from kickwheel.core.store import EVERYTHING, Sight, Store, open_store
from kickwheel.records import AcceptedCall, Feedback, Message, Span, Trace, genai
from kickwheel.trace.store import BATCH, Traces


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    with open_store(tmp_path / "store", database) as opened:
        yield opened


@pytest.fixture
def traces(store: Store) -> Traces:
    return Traces(store)


def a_trace(number: int, *, workload: str = "concierge", start_ns: int | None = None) -> Trace:
    start = 1_000 + number if start_ns is None else start_ns
    question = (Message(role="user", content=f"question\n {number}"),)
    root = Span(
        id=f"{number:016x}",
        kind="agent",
        name="concierge",
        start_ns=start,
        end_ns=start + 90,
        input=question,
        attributes={genai.INPUT_TOKENS: 999},
    )
    asked = replace(
        root,
        id=f"{number + 2**32:016x}",
        parent=root.id,
        kind="model",
        end_ns=start + 50,
        attributes={
            genai.REQUEST_MODEL: "specialist",
            genai.INPUT_TOKENS: 20,
            genai.OUTPUT_TOKENS: 7,
        },
    )
    again = replace(asked, id=f"{number + 2**33:016x}", error="ModelError: busy")
    return Trace(
        id=f"{number:032x}", workload=workload, spans=(root, asked, again), source=f"a:{number}"
    )


def test_a_trace_is_found_among_those_of_its_tenant(traces: Traces) -> None:
    ours = a_trace(1)
    theirs = replace(a_trace(2), tenant="clinic", user="bob")
    traces.add([ours, theirs])
    assert traces.get(theirs.id, Sight("clinic")) == theirs
    assert traces.get(theirs.id) == theirs
    assert (traces.get(ours.id).tenant, traces.get(ours.id).user) == ("", "")
    for identity, tenant in ((theirs.id, "bank"), (ours.id, "clinic")):
        with pytest.raises(UsageError, match="no trace"):
            traces.get(identity, Sight(tenant))
    line = traces.summary(theirs.id, Sight("clinic"))
    assert (line.tenant, line.user) == ("clinic", "bob")


def test_lists_hold_what_the_reader_sees_page_by_page(traces: Traces) -> None:
    whose = [("clinic", "bob"), ("bank", "eve"), ("", "ann"), ("", "tom"), ("clinic", "sue")] * 3
    kept = [replace(a_trace(n), tenant=t, user=u) for n, (t, u) in enumerate(whose)]
    traces.add(kept)
    for sight in (EVERYTHING, Sight("clinic"), Sight("bank"), Sight("", "ann"), Sight("", "eve")):
        seen = [one.id for one in kept if sight.sees(one.tenant, one.user)]
        assert [one.id for one in traces.all(sight=sight)] == seen
        assert traces.count(sight=sight) == len(seen)
        listed: list[str] = []
        before = None
        while page := traces.list(sight=sight, limit=2, before=before):
            listed += [line.id for line in page]
            before = page[-1].cursor
        assert listed == seen[::-1]


def test_what_was_added_comes_back_as_it_was(traces: Traces) -> None:
    trace = a_trace(1)
    assert traces.add([trace]) == 1
    assert traces.get(trace.id) == trace


def test_adding_the_same_traces_again_changes_nothing(traces: Traces) -> None:
    said = Feedback(verdict="good")
    kept = [replace(a_trace(n), feedback=(said,)) for n in range(3)]
    assert traces.add(kept) == 3
    assert traces.add([*kept, a_trace(3)]) == 1
    assert traces.count() == 4
    assert traces.get(kept[0].id).feedback == (said,)


def test_feedback_is_joined_in_the_order_in_which_it_was_given(traces: Traces) -> None:
    traces.add([a_trace(1), a_trace(2)])
    bad = Feedback(
        verdict="bad",
        answer=Message(role="assistant", content="Rome"),
        accepted=(AcceptedCall(name="go", arguments={"to": ("Rome", "Roma")}),),
        note="wrong town",
    )
    good = Feedback(verdict="good")
    assert traces.feedback(a_trace(1).id, bad) == a_trace(1).id
    traces.feedback(a_trace(1).id, good)
    assert traces.get(a_trace(1).id).feedback == (bad, good)
    assert [t.feedback for t in traces.all()] == [(bad, good), ()]
    assert [line.verdict for line in traces.list()] == [None, "good"]


def test_the_beginning_of_an_id_is_enough_when_only_one_begins_so(traces: Traces) -> None:
    one, two = replace(a_trace(1), id="ab" + 30 * "0"), replace(a_trace(2), id="ac" + 30 * "0")
    traces.add([one, two])
    assert traces.get("AB").id == one.id
    with pytest.raises(UsageError, match="several traces begin"):
        traces.get("a")
    for unknown in ("ff", "", "%"):
        with pytest.raises(UsageError, match="no trace"):
            traces.get(unknown)
    with pytest.raises(UsageError, match="no trace"):
        traces.feedback("ff", Feedback(verdict="good"))


def test_a_list_shows_the_newest_first_and_goes_on_where_it_stopped(traces: Traces) -> None:
    # Five share one moment, as imported traffic without times does.
    traces.add([a_trace(n, start_ns=7) for n in range(5)] + [a_trace(n) for n in range(5, 8)])
    seen, cursor = [], None
    while page := traces.list(limit=3, before=cursor):
        seen += [int(line.id, 16) for line in page]
        cursor = page[-1].cursor
    assert seen == [7, 6, 5, 4, 3, 2, 1, 0]
    with pytest.raises(UsageError, match="no cursor"):
        traces.list(before="yesterday")


@settings(max_examples=25, deadline=None)
@given(
    times=st.lists(st.integers(0, 3), max_size=12),
    size=st.integers(1, 5),
)
def test_pages_hold_every_trace_once_newest_first(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], size: int
) -> None:
    with open_store(tmp_path_factory.mktemp("store")) as store:
        traces = Traces(store)
        traces.add([a_trace(n, start_ns=time) for n, time in enumerate(times)])
        seen: list[tuple[int, int]] = []
        cursor = None
        while page := traces.list(limit=size, before=cursor):
            seen += [(line.start_ns, int(line.id, 16)) for line in page]
            cursor = page[-1].cursor
        assert seen == sorted(((t, n) for n, t in enumerate(times)), reverse=True)
        oldest_first = [(t.spans[0].start_ns, int(t.id, 16)) for t in traces.all()]
        assert oldest_first == seen[::-1]


def test_a_line_of_the_list_tells_what_the_models_used(traces: Traces) -> None:
    traces.add([a_trace(1)])
    (line,) = traces.list()
    assert (line.input_tokens, line.output_tokens, line.spans) == (40, 14, 3)
    assert (line.model, line.error, line.question) == (
        "specialist",
        "ModelError: busy",
        "question 1",
    )
    assert (line.duration_ns, line.verdict, line.source) == (90, None, "a:1")


def test_a_workload_has_its_own_traces(traces: Traces) -> None:
    traces.add([a_trace(1), a_trace(2, workload="desk"), a_trace(3)])
    assert [int(t.id, 16) for t in traces.all("concierge")] == [1, 3]
    assert [int(line.id, 16) for line in traces.list("desk")] == [2]
    assert [traces.count(name) for name in ("concierge", "desk", "nobody")] == [2, 1, 0]


def test_more_traces_than_one_batch_are_all_read_once_in_order(traces: Traces) -> None:
    n = 2 * BATCH + 1
    assert traces.add(a_trace(i, start_ns=i // 3) for i in range(n)) == n
    assert [int(t.id, 16) for t in traces.all()] == list(range(n))


def test_a_store_that_another_process_holds_is_told_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kickwheel.core.store.sqlite.BUSY_S", 0.05)
    with open_store(tmp_path / "store") as store:
        traces = Traces(store)
        other = sqlite3.connect(store.database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="kept the store busy"):
            traces.add([a_trace(1)])
        other.execute("ROLLBACK")
        assert traces.add([a_trace(1)]) == 1


def test_what_is_secret_never_reaches_the_store(store: Store, traces: Traces) -> None:
    key = "sk-" + "a1" * 20
    said = Message(role="user", content=f"mail ann@example.com, my key is {key}")
    trace = a_trace(1)
    root = replace(trace.spans[0], input=(said,), error=f"refused {key}")
    traces.add([replace(trace, spans=(root,), feedback=(Feedback(verdict="bad", note=key),))])
    traces.feedback(trace.id, Feedback(verdict="bad", note="ann@example.com"))
    kept = traces.get(trace.id)
    assert kept.spans[0].input[0].content == "mail <email_1>, my key is <key_1>"
    rows = store.database.read("SELECT * FROM trace")
    rows += store.database.read("SELECT * FROM feedback")
    assert key not in repr(rows)
    assert "ann@" not in repr(rows)


def test_an_agents_traces_are_also_those_in_which_it_worked_for_another_one(
    traces: Traces,
) -> None:
    outer = a_trace(1, workload="desk")
    inner = replace(outer.spans[0], id="f" * 16, parent=outer.spans[0].id, name="route")
    before = traces.fingerprint("route")
    traces.add([replace(outer, spans=(*outer.spans, inner)), a_trace(2)])
    assert [int(t.id, 16) for t in traces.all("route")] == [1]
    assert traces.fingerprint("route") != before
    assert traces.list("route") == []
