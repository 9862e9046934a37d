"""Old traces deleted, and the pictures that nothing names any more."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import UNSET

from kickwheel.core.errors import UsageError
from kickwheel.core.journal import KeptRun
from kickwheel.core.store import Store, open_store
from kickwheel.models.pictures import keep_as
from kickwheel.records import Feedback, Image, Message, Trace, wire
from kickwheel.trace.forget import BATCH, forget
from kickwheel.trace.store import Traces
from tests.trace.test_store import a_trace

OLD, YOUNG = 1_000, 2_000
MIDDLE = 1_500


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    with open_store(tmp_path / "store", database) as opened:
        yield opened


def kept(store: Store, of: str, age_s: float = 7 * 86_400) -> Image:
    image = keep_as(store.artifacts, "picture", "p.png", "image/png", of.encode())
    then = time.time() - age_s
    os.utime(store.artifacts.folder / image.kept.rpartition("/")[0] / "manifest.json", (then, then))
    return image


def seen(trace: Trace, *images: Image, spans: int = 1) -> Trace:
    """The trace, in which a model saw the pictures; with so many spans in all."""
    shown = Message(role="user", content="Look.", images=images or UNSET)
    root, *rest = trace.spans
    more = [replace(root, id=f"f{n:015x}", parent=root.id) for n in range(spans)]
    return replace(trace, spans=(replace(root, input=(shown,)), *rest, *more))


def lies(store: Store, image: Image) -> bool:
    return (store.artifacts.folder / image.kept).exists()


def test_old_traces_go_with_all_that_was_said_of_them(store: Store) -> None:
    traces = Traces(store)
    # In each the concierge works for another agent.
    old = [seen(a_trace(n, workload="desk", start_ns=OLD)) for n in range(BATCH + 3)]
    inner = seen(a_trace(5_000, workload="desk", start_ns=YOUNG))
    traces.add([*old, inner])
    for one in (old[0], inner):
        traces.feedback(one.id, Feedback(verdict="good", time_ns=1))
    assert forget(store, MIDDLE).traces == BATCH + 3
    assert [trace.id for trace in traces.all()] == [inner.id]
    assert traces.get(inner.id).feedback
    assert [trace.id for trace in traces.all("concierge")] == [inner.id]
    with pytest.raises(UsageError, match="no trace"):
        traces.get(old[0].id)
    left = {
        table: store.database.read(f"SELECT COUNT(*) FROM {table}")[0][0]
        for table in ("feedback", "took_part", "span", "gathered")
    }
    assert left == {"feedback": 1, "took_part": 1, "span": 0, "gathered": 0}
    assert forget(store, MIDDLE).traces == 0


@pytest.mark.parametrize("spans", [1, 3_000])
def test_a_picture_goes_with_the_last_trace_that_names_it(store: Store, spans: int) -> None:
    traces = Traces(store)
    alone, shared = kept(store, "alone"), kept(store, "shared")
    traces.add(
        [
            seen(a_trace(1, start_ns=OLD), alone, shared, spans=spans),
            seen(a_trace(2, start_ns=YOUNG), shared, spans=spans),
        ]
    )
    gone = forget(store, MIDDLE)
    assert (gone.traces, gone.pictures) == (1, 1)
    assert gone.bytes > len("alone")
    assert not lies(store, alone)
    assert lies(store, shared)
    assert forget(store, YOUNG + 1).pictures == 1
    assert not lies(store, shared)
    assert store.artifacts.ids("picture") == []


def test_a_picture_of_a_run_that_waits_stays(store: Store) -> None:
    asked, lost = kept(store, "asked"), kept(store, "lost")
    said = Message(role="user", content="Look.", images=(asked,))
    run = KeptRun(
        id="1" * 32,
        agent="desk",
        asked=wire.to_bytes(said),
        tenant="",
        asker="",
        state="waiting",
        owner="",
        created=0.0,
        updated=0.0,
    )
    store.runs.begin(run)
    assert forget(store, MIDDLE).pictures == 1
    assert lies(store, asked)
    assert not lies(store, lost)


def test_a_picture_that_was_just_kept_stays_though_nothing_names_it_yet(store: Store) -> None:
    first = kept(store, "again")
    # Kept once more, it is young again.
    assert keep_as(store.artifacts, "picture", "p.png", "image/png", b"again") == first
    dataset = store.artifacts.add("dataset", {"a": b"1"})
    assert forget(store, MIDDLE).pictures == 0
    assert lies(store, first)
    assert store.artifacts.ids("dataset") == [dataset]


def test_the_verb_deletes_once_somebody_says_yes(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text("models: {m: {kind: openai, model: x}}\n")
    with open_store(tmp_path / ".kickwheel") as store:
        Traces(store).add([a_trace(1), a_trace(2, start_ns=time.time_ns())])
    command = [sys.executable, "-m", "kickwheel", "forget", str(tmp_path), "--days", "30"]
    done = subprocess.run(command, input="n\n", capture_output=True, text=True)
    assert done.returncode == 130
    assert "older than 30 days? It cannot be taken back." in done.stderr
    done = subprocess.run([*command, "--yes", "--json"], capture_output=True, text=True)
    assert json.loads(done.stdout)["traces"] == 1
