"""Old traces deleted, or all that a store keeps of one person.

A person is a user of one tenant: somebody of the same name elsewhere is somebody else.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from kickwheel.agents.memory import Ledger
from kickwheel.agents.memory.tables import wipe
from kickwheel.core.errors import UsageError
from kickwheel.core.store import Store, open_store
from kickwheel.flywheel.traffic import plan_of
from kickwheel.trace.forget import drop_pictures
from kickwheel.trace.forget import forget as forget_traces

JUST_S = 3600.0
"""Age below which a picture stays where a person is forgotten: the same one may have come from
somebody else, in a request whose trace is not written yet."""

_MINE = "tenant = ? AND asker = ?"
_TABLES = (
    ("span", f"trace IN (SELECT seq FROM trace WHERE {_MINE})"),
    ("gathered", f"trace IN (SELECT seq FROM trace WHERE {_MINE})"),
    ("feedback", f"trace IN (SELECT id FROM trace WHERE {_MINE})"),
    ("took_part", f"trace IN (SELECT id FROM trace WHERE {_MINE})"),
    ("trace", _MINE),
    ("run_step", f"run IN (SELECT id FROM run WHERE {_MINE})"),
    ("run_question", f"run IN (SELECT id FROM run WHERE {_MINE})"),
    ("run", _MINE),
    ("task_owed", f"task IN (SELECT id FROM task WHERE {_MINE})"),
    ("task_push", f"task IN (SELECT id FROM task WHERE {_MINE})"),
    ("task", _MINE),
    ("response", _MINE),
    ("file", _MINE),
)
"""What is a person's, each table after those that hang on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What was deleted."""

    traces: int = 0
    runs: int = 0
    responses: int = 0
    tasks: int = 0
    """Of A2A."""
    files: int = 0
    facts: int = 0
    turns: int = 0
    """Messages that a window left out, and where it was cut."""
    pictures: int = 0
    bytes: int = 0
    """Of the pictures."""


def forget(
    app: Path, *, days: float | None = None, tenant: str | None = None, user: str | None = None
) -> Gone:
    """Deletes the traces that are older than `days`, or all that there is of a person. Pictures
    that nothing names any more go with them.

    Args:
        days: traces that are older go, and nothing else does.
        tenant: only what is this one's; by default everybody's.
        user: only what this user of the tenant made; without a tenant, of none.
    Raises:
        UsageError: it would be all of everybody: neither days nor a user is given.
    """
    plan = plan_of(app)
    with open_store(plan.store, plan.database) as store:
        if days is not None:
            before_ns = time.time_ns() - int(days * 86_400e9)
            old = forget_traces(store, before_ns, tenant=tenant, user=user)
            return Gone(traces=old.traces, pictures=old.pictures, bytes=old.bytes)
        if not user:
            raise UsageError("say how old the traces are that go (--days), or whose (--user)")
        return _person(store, tenant or "", user)


def _person(store: Store, tenant: str, user: str) -> Gone:
    whose, read = (tenant, user), store.database.read
    for (run,) in read(f"SELECT id FROM run WHERE {_MINE}", whose):
        store.runs.cancel(run)  # Whoever works on it stops.
    files = [identity for (identity,) in read(f"SELECT id FROM file WHERE {_MINE}", whose)]
    for identity in files:
        (store.folder / "files" / identity).unlink(missing_ok=True)
    gone = {table: wipe(store.database, table, where, whose) for table, where in _TABLES}
    known = Ledger(store.database).forget(user, tenant=tenant)
    pictures, size = drop_pictures(store, JUST_S)
    return Gone(
        traces=gone["trace"],
        runs=gone["run"],
        responses=gone["response"],
        tasks=gone["task"],
        files=len(files),
        facts=known.facts,
        turns=known.turns,
        pictures=pictures,
        bytes=size,
    )
