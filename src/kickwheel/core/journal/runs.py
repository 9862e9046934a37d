"""The runs of one store: who works on which, what they did, and what a person is asked.

A worker has a run as long as the run's row names it as its owner. It proves that it lives by a
counter that goes up, its beat. Whoever wants a run of another worker must have seen that counter
stand still for a whole lease, by its own clock that only goes forward: the time of day, which may
jump, decides nothing.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kickwheel.core.errors import StoreError, UsageError
from kickwheel.core.journal.presence import call
from kickwheel.core.journal.run import KeptRun, KeptStep, Question
from kickwheel.core.journal.writer import Writer, insert, row
from kickwheel.records import wire

if TYPE_CHECKING:
    from kickwheel.core.store.database import Connection, Database

_RUN = ", ".join(field.name for field in fields(KeptRun))


@dataclass(frozen=True, slots=True)
class Open:
    """A run that is not at its end, and may be taken up."""

    run: KeptRun
    beat: int
    """Of its owner, when this was read."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that is this worker's now, with all that was done in it."""

    run: KeptRun
    steps: dict[str, KeptStep]
    """By path."""
    answers: dict[str, str]
    """What persons answered, by the path of the step that asked."""


class Runs:
    """The runs of one store; every method may be called from any thread."""

    def __init__(self, database: "Database", workers: Path) -> None:
        self.workers = workers
        """Where the workers of this machine have their files; see `presence`."""
        self._database = database
        self.writer = Writer(database)
        """Takes what happens in runs."""

    def close(self) -> None:
        """Writes what is not written yet."""
        self.writer.close()

    def find(self, identity: str) -> KeptRun | None:
        """The run of that id."""
        return self._one(self._database.read(f"SELECT {_RUN} FROM run WHERE id = ?", (identity,)))

    def begin(self, run: KeptRun) -> KeptRun:
        """The run of this id: this one where there was none, else what is there."""

        def write(connection: "Connection") -> list[tuple[object, ...]]:
            if insert(connection, [row(run)], known=True):
                return []
            found = connection.execute(f"SELECT {_RUN} FROM run WHERE id = ?", (run.id,))
            return found.fetchall()

        return self._one(self._database.write(write)) or run

    def beat_of(self, worker: str) -> int:
        """How often the worker showed that it lives."""
        rows = self._database.read("SELECT beat FROM worker WHERE id = ?", (worker,))
        return rows[0][0] if rows else 0

    def claim(self, found: Open, worker: str) -> Claimed | None:
        """The run, if it still is as it was found; `None` where somebody was faster, or its owner
        has shown that it lives."""
        was = found.run

        def write(connection: "Connection") -> Claimed | None:
            if was.state == "running":
                lives = connection.execute("SELECT beat FROM worker WHERE id = ?", (was.owner,))
                if (lives.fetchone() or (0,))[0] != found.beat:
                    return None
            now = time.time()
            done = connection.execute(
                "UPDATE run SET owner = ?, state = 'running', error = NULL, updated = ? "
                "WHERE id = ? AND owner = ? AND state = ?",
                (worker, now, was.id, was.owner, was.state),
            )
            if not done.rowcount:
                return None
            steps = connection.execute(
                "SELECT path, name, arguments, state, result FROM run_step WHERE run = ?", (was.id,)
            ).fetchall()
            answers = connection.execute(
                "SELECT path, answer FROM run_question WHERE run = ? AND answer IS NOT NULL",
                (was.id,),
            ).fetchall()
            mine = replace(was, owner=worker, state="running", error=None, updated=now)
            return Claimed(mine, {path: KeptStep(*rest) for path, *rest in steps}, dict(answers))

        claimed: Claimed | None = self._database.write(write)
        if claimed is not None:
            self.writer.welcome(was.id)
        return claimed

    def open(self) -> list[Open]:
        """Every run that somebody should work on, oldest first: those that go on, and those whose
        question was answered."""
        columns = ", ".join(f"r.{field.name}" for field in fields(KeptRun))
        rows = self._database.read(
            f"SELECT {columns}, COALESCE(w.beat, 0) FROM run AS r "
            "LEFT JOIN worker AS w ON w.id = r.owner "
            "WHERE r.state = 'running' OR (r.state = 'waiting' AND EXISTS (SELECT 1 FROM "
            "run_question AS q WHERE q.run = r.id AND q.answer IS NOT NULL)) ORDER BY r.created"
        )
        return [Open(_run(found[:-1]), found[-1]) for found in rows]

    def named(self, identity: str, asker: str | None = None, tenant: str = "") -> KeptRun:
        """The run of this id, or the only one whose id begins so.

        Args:
            asker: only among those of this caller, of this `tenant`; `None` for all.
        Raises:
            UsageError: there is none, or several begin so.
        """
        wanted = identity.strip()
        rows = self._database.read(
            f"SELECT {_RUN} FROM run WHERE id >= ? AND id < ?{_whose(asker)} ORDER BY id LIMIT 2",
            (wanted, wanted + "~", *(() if asker is None else (asker, tenant))),
        )
        if not wanted or not rows:
            raise UsageError(f'no run "{identity}" in this store: `kickwheel runs` lists them')
        if len(rows) > 1 and rows[0][0] != wanted:
            raise UsageError(f'several runs begin with "{identity}". Give more of the id.')
        return _run(rows[0])

    def recent(self, limit: int = 50, asker: str | None = None, tenant: str = "") -> list[KeptRun]:
        """The runs in which something happened last, newest first.

        Args:
            asker: only those of this caller, of this `tenant`; `None` for all.
        """
        rows = self._database.read(
            f"SELECT {_RUN} FROM run WHERE 1 = 1{_whose(asker)} ORDER BY updated DESC, id LIMIT ?",
            (limit,) if asker is None else (asker, tenant, limit),
        )
        return [_run(found) for found in rows]

    def questions(self, run: str | None = None) -> list[Question]:
        """What persons have not answered yet, oldest first.

        Args:
            run: only this one's.
        """
        return self._questions(run, "q.answer IS NULL")

    def answer(self, run: str, text: str, path: str = "") -> Question:
        """Keeps a person's answer; survives the end of the machine.

        Args:
            path: which question is answered, where the run waits for several.
        Raises:
            UsageError: the run asks nothing, or several things, or this is none of the choices.
        """
        waiting = [q for q in self.questions(run) if path in ("", q.path)]
        if not waiting:
            raise UsageError(f"run {run} waits for no answer" + (f" at {path}" if path else ""))
        if len(waiting) > 1:
            asked = "; ".join(f"{q.path}: «{q.text}»" for q in waiting)
            raise UsageError(f"run {run} asks several things. Say which one you answer: {asked}")
        question = waiting[0]
        if question.choices:
            same = [c for c in question.choices if c.casefold() == text.strip().casefold()]
            if not same:
                choices = ", ".join(question.choices)
                raise UsageError(f'«{question.text}» is answered by one of {choices}, not "{text}"')
            text = same[0]
        given = "UPDATE run_question SET answer = ? WHERE run = ? AND path = ? AND answer IS NULL"
        values = (text, run, question.path)
        done = self._database.write(lambda c: c.execute(given, values).rowcount, sync=True)
        if not done:
            raise UsageError(f"«{question.text}» was answered by somebody else meanwhile")
        return replace(question, answer=text)

    def cancel(self, identity: str) -> bool:
        """Ends the run wherever it goes on; `False` where it had ended.

        Its worker is called; where no call reaches it, it finds out when it looks.
        """

        def write(connection: "Connection") -> str | None:
            found = connection.execute(
                "SELECT owner FROM run WHERE id = ? AND state IN ('running', 'waiting')",
                (identity,),
            ).fetchone()
            if found is None:
                return None
            connection.execute(
                "UPDATE run SET state = 'cancelled', owner = '', updated = ? WHERE id = ?",
                (time.time(), identity),
            )
            return str(found[0])

        owner: str | None = self._database.write(write)
        if owner:
            call(self.workers, owner)
            with contextlib.suppress(StoreError):
                self._database.call(owner)
        return owner is not None

    async def listen(self, worker: str, called: Callable[[], None]) -> None:
        """Runs `called` whenever somebody on another machine may have called the worker, until
        cancelled or, where there can be no other machine, not at all."""
        await self._database.listen(worker, called)

    def beat(self, worker: str) -> set[str]:
        """Shows that the worker lives; returns the runs that are its own."""

        def write(connection: "Connection") -> set[str]:
            connection.execute(
                "INSERT INTO worker (id, beat) VALUES (?, 1) "
                "ON CONFLICT (id) DO UPDATE SET beat = worker.beat + 1",
                (worker,),
            )
            mine = connection.execute(
                "SELECT id FROM run WHERE state = 'running' AND owner = ?", (worker,)
            )
            return {identity for (identity,) in mine.fetchall()}

        owned: set[str] = self._database.write(write)
        return owned

    def leave(self, worker: str) -> None:
        """The worker ends; its open runs are free for others at once."""

        def write(connection: "Connection") -> None:
            connection.execute(
                "UPDATE run SET owner = '' WHERE owner = ? AND state = 'running'", (worker,)
            )
            connection.execute("DELETE FROM worker WHERE id = ?", (worker,))

        self._database.write(write)

    def forget(self, before: float) -> int:
        """Drops runs that ended before this Unix time, and says how many."""

        def write(connection: "Connection") -> int:
            old = "state IN ('done', 'failed', 'cancelled') AND updated < ?"
            for table in ("run_step", "run_question"):
                connection.execute(
                    f"DELETE FROM {table} WHERE run IN (SELECT id FROM run WHERE {old})", (before,)
                )
            return connection.execute(f"DELETE FROM run WHERE {old}", (before,)).rowcount

        return int(self._database.write(write))

    def _questions(self, run: str | None, condition: str) -> list[Question]:
        beside = "" if run is None else " AND q.run = ?"
        rows = self._database.read(
            "SELECT q.run, q.path, q.question, q.choices, q.asked, q.answer FROM run_question AS q "
            f"JOIN run AS r ON r.id = q.run WHERE {condition}{beside} "
            "AND r.state IN ('running', 'waiting') ORDER BY q.asked, q.path",
            () if run is None else (run,),
        )
        return [
            Question(
                run=identity,
                path=path,
                text=text,
                choices=wire.from_bytes(choices, tuple[str, ...]),
                asked=asked,
                answer=answer,
            )
            for identity, path, text, choices, asked, answer in rows
        ]

    def _one(self, rows: list[tuple[object, ...]]) -> KeptRun | None:
        return _run(rows[0]) if rows else None


def _whose(asker: str | None) -> str:
    return "" if asker is None else " AND asker = ? AND tenant = ?"


def _run(values: tuple[object, ...]) -> KeptRun:
    return KeptRun(**dict(zip((f.name for f in fields(KeptRun)), values, strict=True)))  # type: ignore[arg-type]
