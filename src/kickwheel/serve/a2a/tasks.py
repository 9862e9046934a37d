"""Tasks in the store: what was asked, how it stands, and who wants to be told.

A task has the id of the run that does it. The journal says how an open one stands; what is written
here is the caller's view of it, and what stays when the journal has forgotten the run.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from a2a.types import Task, TaskPushNotificationConfig, TaskState

from kickwheel.core.store.database import Connection, Database
from kickwheel.models.caller import Caller
from kickwheel.records import Message, wire

KEPT_S = 30 * 86_400.0
"""How long a task that ended is kept."""
ENDED = (
    TaskState.TASK_STATE_COMPLETED,
    TaskState.TASK_STATE_FAILED,
    TaskState.TASK_STATE_CANCELED,
    TaskState.TASK_STATE_REJECTED,
)
_COLUMNS = "agent, tenant, asker, asked, body"
_MINE = "agent = ? AND tenant = ? AND asker = ?"


@dataclass(frozen=True, slots=True)
class Kept:
    """A task of a caller."""

    agent: str
    tenant: str
    asker: str
    asked: bytes
    """The conversation that the agent works on."""
    task: Task
    """As the caller sees it; changes as the work goes on."""

    @property
    def conversation(self) -> tuple[Message, ...]:
        """What the agent works on."""
        return wire.from_bytes(self.asked, tuple[Message, ...])

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.task.status.state in ENDED


class Tasks:
    """All tasks of one store; every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, kept: Kept) -> bool:
        """Keeps a new task; `False` where there is one of this id."""

        def write(connection: Connection) -> bool:
            done = connection.execute(
                "INSERT INTO task (id, agent, tenant, asker, context, state, ended, asked, body, "
                "updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    kept.task.id, kept.agent, kept.tenant, kept.asker, kept.task.context_id,
                    *_state(kept), kept.asked, kept.task.SerializeToString(), time.time(),
                ),
            )  # fmt: skip
            return bool(done.rowcount)

        return bool(self._database.write(write))

    def save(self, kept: Kept, notice: Callable[[], bytes] | None = None) -> bool:
        """Keeps the task as it is now; `False` where it had ended already.

        Args:
            notice: makes what is owed from now on to those who want to be told, if it stands
                otherwise than before; see `owed`.
        """

        def write(connection: Connection) -> bool:
            found = connection.execute("SELECT state FROM task WHERE id = ?", (kept.task.id,))
            before = found.fetchone()
            done = connection.execute(
                "UPDATE task SET state = ?, ended = ?, body = ?, updated = ? "
                "WHERE id = ? AND ended = 0",
                (*_state(kept), kept.task.SerializeToString(), time.time(), kept.task.id),
            )
            if done.rowcount and notice is not None and before[0] != _state(kept)[0]:
                _owe(connection, kept.task.id, notice)
            return bool(done.rowcount)

        return bool(self._database.write(write))

    def find(self, identity: str, agent: str, who: Caller) -> Kept | None:
        """The caller's task of this id."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM task WHERE id = ? AND {_MINE}",
            (identity, agent, who.tenant, who.user),
        )
        return _kept(rows[0]) if rows else None

    def of_context(self, context: str, agent: str, who: Caller) -> list[Kept]:
        """The caller's tasks of one conversation, oldest first."""
        rows = self._database.read(
            f"SELECT {_COLUMNS} FROM task WHERE context = ? AND {_MINE} ORDER BY updated, id",
            (context, agent, who.tenant, who.user),
        )
        return [_kept(row) for row in rows]

    def page(
        self,
        agent: str,
        who: Caller,
        *,
        context: str = "",
        state: str = "",
        after: float = 0.0,
        before: tuple[float, str] | None = None,
        limit: int,
    ) -> tuple[list[tuple[float, Kept]], int]:
        """The caller's tasks, each with when it last changed, newest first; and how many there are.

        Args:
            context: only those of this conversation.
            state: only those that stand so, by the protocol's name.
            after: only those that changed since; Unix time, seconds.
            before: the place in the list, time and id, to go on from.
        """
        where, values = [_MINE, "updated >= ?"], [agent, who.tenant, who.user, after]
        for column, value in (("context", context), ("state", state)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        counted = f"SELECT COUNT(*) FROM task WHERE {' AND '.join(where)}"
        (total,) = self._database.read(counted, values)[0]
        if before is not None:
            where.append("(updated < ? OR (updated = ? AND id < ?))")
            values += [before[0], before[0], before[1]]
        rows = self._database.read(
            f"SELECT updated, {_COLUMNS} FROM task WHERE {' AND '.join(where)} "
            "ORDER BY updated DESC, id DESC LIMIT ?",
            [*values, limit],
        )
        return [(row[0], _kept(row[1:])) for row in rows], total

    def moving(self, worker: str, since: float) -> list[Kept]:
        """Open tasks that somebody here should go on with: their run ended, is this worker's, was
        answered, or was never begun.

        Args:
            since: Unix time before which a run that was to begin should have begun.
        """
        columns = ", ".join(f"t.{name}" for name in _COLUMNS.split(", "))
        rows = self._database.read(
            f"SELECT {columns} FROM task AS t LEFT JOIN run AS r ON r.id = t.id "
            "WHERE t.ended = 0 AND ((r.id IS NULL AND t.updated < ?) OR "
            "(r.state = 'running' AND r.owner = ?) OR r.state IN ('done', 'failed', 'cancelled'))",
            (since, worker),
        )
        return [_kept(row) for row in rows]

    def forget(self, before: float) -> None:
        """Drops tasks that ended before this Unix time."""

        def write(connection: Connection) -> None:
            old = "SELECT id FROM task WHERE ended = 1 AND updated < ?"
            for table in ("task_owed", "task_push"):
                connection.execute(f"DELETE FROM {table} WHERE task IN ({old})", (before,))
            connection.execute("DELETE FROM task WHERE ended = 1 AND updated < ?", (before,))

        self._database.write(write)

    def pushes(self, task: str) -> list[TaskPushNotificationConfig]:
        """Who is told of the task."""
        sql = "SELECT body FROM task_push WHERE task = ? ORDER BY id"
        rows = self._database.read(sql, (task,))
        return [TaskPushNotificationConfig.FromString(body) for (body,) in rows]

    def add_push(self, config: TaskPushNotificationConfig) -> None:
        """Keeps who is told of a task, in place of what was kept under the same id."""
        sql = (
            "INSERT INTO task_push (task, id, body) VALUES (?, ?, ?) "
            "ON CONFLICT (task, id) DO UPDATE SET body = excluded.body"
        )
        values = (config.task_id, config.id, config.SerializeToString())
        self._database.write(lambda c: c.execute(sql, values))

    def drop_push(self, task: str, identity: str) -> None:
        """Tells them no more, also not what is owed to them."""

        def write(connection: Connection) -> None:
            connection.execute("DELETE FROM task_push WHERE task = ? AND id = ?", (task, identity))
            connection.execute(
                "DELETE FROM task_owed WHERE task = ? AND push = ?", (task, identity)
            )

        self._database.write(write)


def _owe(connection: Connection, task: str, notice: Callable[[], bytes]) -> None:
    pushes = connection.execute("SELECT id FROM task_push WHERE task = ? ORDER BY id", (task,))
    found = pushes.fetchall()
    if not found:
        return
    body, now = notice(), time.time()
    connection.executemany(
        "INSERT INTO task_owed (task, push, body, tries, due) VALUES (?, ?, ?, 0, ?)",
        [(task, push, body, now) for (push,) in found],
    )


def _state(kept: Kept) -> tuple[str, int]:
    return TaskState.Name(kept.task.status.state), int(kept.ended)


def _kept(row: Sequence[object]) -> Kept:
    agent, tenant, asker, asked, body = row
    return Kept(agent, tenant, asker, bytes(asked), Task.FromString(bytes(body)))  # type: ignore[arg-type, call-overload]
