import asyncio
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kickwheel.core.store import Store, open_store
from kickwheel.records import Message, Span, ToolSpec, Trace, genai
from kickwheel.trace import record
from kickwheel.trace.record import Recorder, current, span
from kickwheel.trace.store import Traces


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    with open_store(tmp_path / "store", database) as opened:
        yield opened


@pytest.fixture
def traces(store: Store) -> Traces:
    return Traces(store)


def tree(trace: Trace) -> dict[str, str | None]:
    """Each span's name with its parent's."""
    names = {span.id: span.name for span in trace.spans}
    return {span.name: names.get(span.parent or "") for span in trace.spans}


def only(traces: Traces) -> Trace:
    (trace,) = traces.all()
    return trace


def test_spans_nest_and_keep_what_the_body_put_in(traces: Traces) -> None:
    question = (Message(role="user", content="Where is the sun?"),)
    answer = (Message(role="assistant", content="Up."),)
    with Recorder(traces) as recorder, recorder.trace("concierge", "root") as root:
        with span("model", "first") as asked:
            asked.input, asked.output = question, answer
            asked.tools = (ToolSpec(name="look"),)
            asked.attributes[genai.INPUT_TOKENS] = 5
            with span("guard", "inner"):
                pass
        with span("tool", "second"):
            pass
    trace = only(traces)
    assert tree(trace) == {"root": None, "first": "root", "inner": "first", "second": "root"}
    assert trace.id == root.trace_id
    model = trace.spans[1]
    assert (model.input, model.output, model.tools) == (question, answer, (ToolSpec(name="look"),))
    assert model.attributes == {genai.INPUT_TOKENS: 5}
    assert all(span.start_ns <= span.end_ns for span in trace.spans)
    assert trace.spans[0].end_ns >= max(span.end_ns for span in trace.spans)
    assert (recorder.kept, recorder.lost) == (1, 0)


def test_what_is_secret_is_taken_out_on_the_way_to_the_store(traces: Traces) -> None:
    key = "sk-" + "a1" * 20
    said = (Message(role="user", content=f"my key is {key}"),)
    with Recorder(traces) as recorder, recorder.trace("w", "root") as root:
        root.input = said
        root.error = f"refused {key}"
    (kept,) = only(traces).spans
    assert (kept.input[0].content, kept.error) == ("my key is <key_1>", "refused <key_1>")
    assert root.input is said


def test_outside_a_trace_a_span_works_and_is_dropped(traces: Traces) -> None:
    with Recorder(traces) as recorder:
        with span("model", "alone") as alone:
            alone.attributes["a"] = 1
            assert current() is None
        assert alone.trace_id is None
        with recorder.trace("w", "root"):
            pass
        with span("model", "after"):
            pass
    assert tree(only(traces)) == {"root": None}


def test_an_exception_is_noted_and_goes_on(traces: Traces) -> None:
    def request(recorder: Recorder) -> None:
        with recorder.trace("w", "root"):
            with span("tool", "caught") as caught:
                caught.error = "told by hand"
            with span("tool", "broken"):
                raise ValueError("no such thing")

    with Recorder(traces) as recorder, pytest.raises(ValueError, match="no such"):
        request(recorder)
    root, by_hand, broken = only(traces).spans
    assert by_hand.error == "told by hand"
    assert broken.error == root.error == "ValueError: no such thing"
    assert broken.attributes[genai.ERROR_TYPE] == "ValueError"


async def test_tasks_that_run_at_once_keep_their_own_places(traces: Traces) -> None:
    async def work(name: str) -> None:
        with span("tool", name):
            await asyncio.sleep(0.001)
            with span("model", f"{name}-model"):
                await asyncio.sleep(0.001)

    async def request(recorder: Recorder, number: int) -> None:
        with recorder.trace("w", "root"):
            async with asyncio.TaskGroup() as group:
                for letter in "ab":
                    group.create_task(work(f"{letter}{number}"))

    with Recorder(traces) as recorder:
        await asyncio.gather(*(request(recorder, n) for n in range(20)))
    found = list(traces.all())
    assert len(found) == 20
    for trace in found:
        number = next(s.name[1:] for s in trace.spans if s.kind == "tool")
        assert tree(trace) == {
            "root": None,
            f"a{number}": "root",
            f"b{number}": "root",
            f"a{number}-model": f"a{number}",
            f"b{number}-model": f"b{number}",
        }


async def test_a_generator_that_is_closed_late_leaves_nothing_behind(traces: Traces) -> None:
    async def stream() -> AsyncIterator[int]:
        with span("model", "stream"):
            for piece in range(3):
                yield piece

    with Recorder(traces) as recorder:
        with recorder.trace("w", "root"):
            pieces = stream()
            assert await anext(pieces) == 0
        recorder.flush()
        await asyncio.create_task(pieces.aclose())  # type: ignore[attr-defined]
        with recorder.trace("w", "next"):
            pass
    first, second = traces.all()
    assert tree(second) == {"next": None}
    assert first.spans[1].error == "still running when the request ended"
    assert first.spans[1].end_ns == first.spans[0].end_ns


async def test_a_cancelled_step_says_so(traces: Traces) -> None:
    async def request(recorder: Recorder) -> None:
        with recorder.trace("w", "root"):
            await asyncio.sleep(5)

    with Recorder(traces) as recorder, pytest.raises(TimeoutError):
        await asyncio.wait_for(request(recorder), 0.01)
    assert only(traces).spans[0].error == "cancelled"


def test_a_trace_inside_a_trace_is_a_span_of_it(traces: Traces) -> None:
    with (
        Recorder(traces) as recorder,
        recorder.trace("served", "outer"),
        recorder.trace("concierge", "inner"),
    ):
        pass
    trace = only(traces)
    assert trace.workload == "served"
    assert tree(trace) == {"outer": None, "inner": "outer"}


def test_after_flush_what_ended_before_can_be_read(traces: Traces) -> None:
    with Recorder(traces) as recorder:
        assert recorder.flush()
        for n in range(3):
            with recorder.trace("w", f"{n}"):
                pass
        assert recorder.flush()
        assert traces.count() == 3


def test_many_threads_lose_nothing(traces: Traces) -> None:
    def work(recorder: Recorder) -> None:
        for _ in range(300):
            with recorder.trace("w", "root"), span("model", "m"):
                pass

    with Recorder(traces) as recorder:
        threads = [threading.Thread(target=work, args=(recorder,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert traces.count() == recorder.kept == 1200


def test_a_locked_store_breaks_no_call_and_nothing_is_lost_once_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kickwheel.core.store.sqlite.BUSY_S", 0.02)
    monkeypatch.setattr(record, "RETRY_S", 0.02)
    with open_store(tmp_path / "store") as store, Recorder(Traces(store)) as recorder:
        other = sqlite3.connect(store.database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                with recorder.trace("w", "root"):
                    pass
            assert not recorder.flush(timeout_s=0.2)
        other.execute("ROLLBACK")
        assert recorder.flush()
        assert Traces(store).count() == 5
        assert recorder.lost == 0
    assert sum("cannot be kept" in line for line in caplog.text.splitlines()) == 1


def test_a_store_that_stays_full_costs_traces_not_calls_or_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(record, "WAITING", 10)
    monkeypatch.setattr(record, "RETRY_S", 0.01)
    with open_store(tmp_path / "store") as store:
        # SQLite's own way to be full.
        pages = store.database.read("PRAGMA page_count")[0][0]
        store.database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}"))
        with caplog.at_level(logging.WARNING), Recorder(Traces(store)) as recorder:
            for _ in range(200):
                with recorder.trace("w", "root") as root:
                    root.input = (Message(role="user", content="x" * 5000),)
            recorder.flush(timeout_s=0.1)
        assert recorder.kept + recorder.lost == 200
        assert recorder.lost > 150
        assert Traces(store).count() == recorder.kept
    assert "the disk is full" in caplog.text or "too many traces" in caplog.text


def test_a_trace_that_cannot_be_written_takes_no_other_with_it(traces: Traces) -> None:
    with Recorder(traces) as recorder:
        for text in ("good", "half a pair \ud800", "good"):
            with recorder.trace("w", "root") as root:
                root.input = (Message(role="user", content=text),)
    assert (recorder.kept, recorder.lost, traces.count()) == (2, 1, 2)


def test_a_trace_that_ends_while_the_recorder_closes_is_kept_or_counted(traces: Traces) -> None:
    kept = 0
    for _ in range(20):
        recorder = Recorder(traces)
        together = threading.Barrier(5)

        def work(recorder: Recorder = recorder, together: threading.Barrier = together) -> None:
            together.wait()
            for _ in range(25):
                with recorder.trace("w", "root"):
                    pass

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        together.wait()
        recorder.close()
        for thread in threads:
            thread.join()
        assert recorder.kept + recorder.lost == 100
        kept += recorder.kept
    assert traces.count() == kept


def test_a_trace_that_is_made_later_is_made_by_the_recorders_thread(traces: Traces) -> None:
    makers = []

    def make() -> Trace:
        makers.append(threading.current_thread().name)
        root = Span(id="1" * 16, kind="model", name="m", start_ns=1, end_ns=2)
        return Trace(id="2" * 32, workload="w", spans=(root,))

    def broken() -> Trace:
        raise ValueError("cannot be read")

    with Recorder(traces) as recorder:
        recorder.later(broken, 10)
        recorder.later(make, 10)
    assert makers == ["kickwheel-traces"]
    assert (recorder.kept, recorder.lost, only(traces).id) == (1, 1, "2" * 32)


def test_what_is_to_be_read_later_holds_only_so_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "WAITING_BYTES", 1000)
    monkeypatch.setattr("kickwheel.core.store.sqlite.BUSY_S", 0.02)
    monkeypatch.setattr(record, "RETRY_S", 0.02)
    root = Span(id="1" * 16, kind="model", name="m", start_ns=1, end_ns=2)
    made = iter(Trace(id=f"{n:032x}", workload="w", spans=(root,)) for n in range(20))
    with open_store(tmp_path / "store") as store, Recorder(Traces(store)) as recorder:
        other = sqlite3.connect(store.database.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(10):
            recorder.later(lambda: next(made), 200)
        assert recorder.lost == 5
        other.execute("ROLLBACK")
        assert recorder.flush()
        recorder.later(lambda: next(made), 1000)
        assert recorder.flush()
        assert recorder.kept == 6


def test_a_trace_is_whose_the_work_was_for_when_it_began(traces: Traces) -> None:
    whose = [("clinic", "bob"), ("", "ann")]
    root = Span(id="1" * 16, kind="model", name="m", start_ns=1, end_ns=2)
    made = Trace(id="b" * 32, workload="w", spans=(root,))
    with Recorder(traces, whose=lambda: whose[0]) as recorder:
        with recorder.trace("w", "root"):
            whose.pop(0)
        recorder.later(lambda: made, 9)
    kept = {trace.id: (trace.tenant, trace.user) for trace in traces.all()}
    assert kept.pop(made.id) == ("", "ann")
    assert list(kept.values()) == [("clinic", "bob")]
