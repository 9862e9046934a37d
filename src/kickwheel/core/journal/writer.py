"""The rows of many runs, written together by one thread.

Whoever puts rows here goes on at once; `written` waits until they are in the database. They arrive
in the order in which they were put, so that the journal is at any moment the beginning of what
happened. Of a run whose rows could not be written nothing more is written either: its later puts
raise what went wrong.
"""

import asyncio
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kickwheel.core.errors import KickwheelError, RunLost, StoreError
from kickwheel.core.journal.run import KeptRun, KeptStep, RunState
from kickwheel.records import wire

if TYPE_CHECKING:
    from kickwheel.core.store.database import Connection, Database

PAUSE_S = 0.02
"""How long rows that nobody waits for are gathered; what they tell is lost if the program is killed
meanwhile, and done again."""

_BEGIN = (
    "INSERT INTO run (id, agent, asked, tenant, asker, state, owner, result, error, created, "
    "updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_STEP = (
    "INSERT INTO run_step (run, path, name, arguments, state, result, started, ended) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, path) DO UPDATE SET "
    "name = excluded.name, arguments = excluded.arguments, state = excluded.state, "
    "result = excluded.result, ended = excluded.ended"
)
_ASK = (
    "INSERT INTO run_question (run, path, question, choices, asked) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO NOTHING"
)
_END = "UPDATE run SET state = ?, result = ?, error = ?, updated = ?, owner = ? WHERE id = ?"


@dataclass(slots=True)
class _Pending:
    """What is to be written of one run."""

    owner: str
    begin: KeptRun | None = None
    steps: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    end: tuple[RunState, bytes | None, str | None] | None = None


@dataclass(slots=True)
class _Batch:
    runs: dict[str, _Pending] = field(default_factory=dict)
    waiters: list[tuple[str, asyncio.Future[None]]] = field(default_factory=list)
    sync: bool = False


class Writer:
    """Writes the journal of this process; puts may come from any thread."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._lock = threading.Lock()
        self._batch = _Batch()
        self._refused: dict[str, KickwheelError] = {}
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def begin(self, run: KeptRun) -> None:
        """A new run, which nobody else can know of yet."""
        with self._lock:
            self._pending(run.id, run.owner).begin = run
        self._wake_up()

    def step(
        self, run: str, owner: str, path: str, step: KeptStep, started: float, ended: float | None
    ) -> None:
        """A step as it is now; times in Unix seconds."""
        with self._lock:
            self._pending(run, owner).steps[path] = (
                run, path, step.name, step.arguments, step.state, step.result, started, ended,
            )  # fmt: skip
        self._wake_up()

    def forget(self, run: str, owner: str, paths: Iterable[str]) -> None:
        """These steps were not made: when the run is asked for again, they are made again."""
        with self._lock:
            pending = self._pending(run, owner)
            for path in paths:
                pending.steps.pop(path, None)
                pending.forgotten.append(path)
        self._wake_up()

    def ask(self, run: str, owner: str, path: str, text: str, choices: tuple[str, ...]) -> None:
        """A question to a person."""
        choice = wire.to_bytes(choices).decode()
        with self._lock:
            self._pending(run, owner).asked.append((run, path, text, choice, time.time()))
        self._wake_up()

    def settle(self, run: str, owner: str, path: str) -> None:
        """The question was answered, and the answer is in the journal as a step."""
        with self._lock:
            self._pending(run, owner).settled.append(path)
        self._wake_up()

    def end(
        self, run: str, owner: str, state: RunState, result: bytes | None, error: str | None
    ) -> None:
        """The run ends here, for now or for good."""
        with self._lock:
            self._pending(run, owner).end = (state, result, error)
        self._wake_up()

    async def written(self, run: str, *, sync: bool = False) -> None:
        """Waits until all that was put so far is written.

        Args:
            sync: so that it survives the end of the machine, too.
        Raises:
            StoreError: it cannot be written.
            RunLost: another worker has the run now.
        """
        waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            self._batch.waiters.append((run, waiter))
            self._batch.sync |= sync
        self._wake_up()
        self._hurry.set()
        await waiter

    def welcome(self, run: str) -> None:
        """The run was claimed anew: its rows are taken again."""
        self._refused.pop(run, None)

    def refused(self, run: str) -> KickwheelError | None:
        """Why rows of the run are taken no more."""
        return self._refused.get(run)

    def close(self) -> None:
        """Writes what waits, and ends the thread."""
        self._closing = True
        self._hurry.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _pending(self, run: str, owner: str) -> _Pending:
        error = self._refused.get(run)
        if error is not None:
            raise error
        pending = self._batch.runs.get(run)
        if pending is None:
            pending = self._batch.runs[run] = _Pending(owner)
        return pending

    def _wake_up(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._closing:
                    raise StoreError("the store was closed while a run went on")
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="kickwheel-journal", daemon=True
                    )
                    self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._hurry.wait(PAUSE_S)
            with self._lock:
                batch, self._batch = self._batch, _Batch()
                self._wake.clear()
                self._hurry.clear()
                if self._closing:
                    self._wake.set()
                    self._hurry.set()
            if batch.runs or batch.waiters:
                self._write(batch)
            elif self._closing:
                return

    def _write(self, batch: _Batch) -> None:
        try:
            lost = self._database.write(lambda c: _written(c, batch.runs), sync=batch.sync)
        except StoreError as error:
            self._refuse(batch.runs, error)
        except Exception as error:
            # A row that no database takes, as with half a surrogate pair: the others are not to
            # blame.
            if len(batch.runs) > 1:
                for run, pending in batch.runs.items():
                    self._write(_Batch({run: pending}, sync=batch.sync))
            else:
                text = f"the journal does not take a step of run {{}}: {error}"
                for run in batch.runs:
                    self._refuse([run], StoreError(text.format(run)))
        else:
            for run in lost:
                self._refuse([run], RunLost(run))
        _settle(batch.waiters, self._refused)

    def _refuse(self, runs: Iterable[str], error: KickwheelError) -> None:
        for run in runs:
            self._refused[run] = error


def row(run: KeptRun) -> tuple[Any, ...]:
    """The run as its row in the database."""
    return (
        run.id, run.agent, run.asked, run.tenant, run.asker, run.state, run.owner, run.result,
        run.error, run.created, run.updated,
    )  # fmt: skip


def insert(connection: "Connection", rows: list[tuple[Any, ...]], *, known: bool = False) -> int:
    """How many of the runs were new; one that is there already is an error unless `known`."""
    done = connection.executemany(_BEGIN + (" ON CONFLICT DO NOTHING" if known else ""), rows)
    return done.rowcount


def _written(connection: "Connection", runs: dict[str, _Pending]) -> set[str]:
    """Writes all that is pending, except of runs that others have now: those are returned."""
    lost = _lost(connection, runs)
    mine = {run: pending for run, pending in runs.items() if run not in lost}
    now = time.time()
    begun: list[tuple[Any, ...]] = []
    steps, forgotten, asked, settled, ended, done = ([*begun] for _ in range(6))
    for run, pending in mine.items():
        begin, end = pending.begin, pending.end
        owner = "" if end is not None and end[0] == "waiting" else pending.owner
        if begin is not None:
            if end is not None:
                state, result, error = end
                begin = replace(
                    begin, state=state, owner=owner, result=result, error=error, updated=now
                )
            begun.append(row(begin))
        elif end is not None:
            ended.append((*end, now, owner, run))
        if end is not None and end[0] == "done":
            # The answer is what is asked for again; how it came about is told by the trace.
            if pending.begin is None:
                done.append((run,))
            continue
        steps += pending.steps.values()
        asked += pending.asked
        forgotten += [(run, path) for path in pending.forgotten]
        settled += [(run, path) for path in pending.settled]
    for sql, rows in (
        (_BEGIN, begun),
        (_STEP, steps),
        ("DELETE FROM run_step WHERE run = ? AND path = ?", forgotten),
        # First, since what was not answered well is asked again under the same path.
        ("DELETE FROM run_question WHERE run = ? AND path = ?", settled),
        (_ASK, asked),
        (_END, ended),
        ("DELETE FROM run_step WHERE run = ?", done),
        ("DELETE FROM run_question WHERE run = ?", done),
    ):
        if rows:
            connection.executemany(sql, rows)
    return lost


def _lost(connection: "Connection", runs: dict[str, _Pending]) -> set[str]:
    lost: set[str] = set()
    for owner in {pending.owner for pending in runs.values()}:
        asked = [r for r, p in runs.items() if p.owner == owner and p.begin is None]
        if asked:
            found = connection.execute(
                "SELECT id FROM run WHERE owner = ? AND state = 'running' AND id IN "
                f"({', '.join('?' * len(asked))})",
                [owner, *asked],
            )
            lost |= set(asked) - {identity for (identity,) in found.fetchall()}
    return lost


def _settle(
    waiters: list[tuple[str, asyncio.Future[None]]], refused: dict[str, KickwheelError]
) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[tuple[str, asyncio.Future[None]]]] = {}
    for run, waiter in waiters:
        loops.setdefault(waiter.get_loop(), []).append((run, waiter))

    def tell(settled: list[tuple[str, asyncio.Future[None]]]) -> None:
        for run, waiter in settled:
            if waiter.done():
                continue
            error = refused.get(run)
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    for loop, settled in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, settled)
