"""What is still to be told to those who gave a URL, in the store until they have heard it.

A notice is owed from the write that changes its task. Who delivers it takes it for a while: if that
program is killed, another one takes it again, so it comes at least once and, but for such a moment,
only once. Notices for one URL come in the order of what they tell.
"""

from dataclasses import dataclass

from a2a.types import TaskPushNotificationConfig

from kickwheel.core.store.database import Connection, Database

_DUE = (
    "SELECT o.seq, o.task, o.body, o.tries, p.body FROM task_owed AS o "
    "JOIN task_push AS p ON p.task = o.task AND p.id = o.push "
    "WHERE o.due <= ? AND NOT EXISTS (SELECT 1 FROM task_owed AS b "
    "WHERE b.task = o.task AND b.push = o.push AND b.seq < o.seq) ORDER BY o.seq LIMIT ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """How a task stood, for one who wants to know."""

    number: int
    task: str
    """The task's id."""
    config: TaskPushNotificationConfig
    """Where it goes."""
    body: bytes
    """What is sent: JSON."""
    tries: int
    """How often it was taken, this time included."""


class Owed:
    """The notices of one store; every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, now: float, until: float, most: int) -> list[Notice]:
        """Notices that are due, oldest first; nobody else gets them before `until`.

        Args:
            now: Unix time, as `until` is.
            most: how many at most.
        """
        if not self._database.read(_DUE, (now, 1)):
            return []

        def write(connection: Connection) -> list[tuple[int, str, bytes, int, bytes]]:
            rows = connection.execute(_DUE, (now, most)).fetchall()
            connection.executemany(
                "UPDATE task_owed SET due = ?, tries = tries + 1 WHERE seq = ?",
                [(until, row[0]) for row in rows],
            )
            return rows

        return [
            Notice(
                number=number,
                task=task,
                config=TaskPushNotificationConfig.FromString(bytes(config)),
                body=bytes(body),
                tries=tries + 1,
            )
            for number, task, body, tries, config in self._database.write(write)
        ]

    def settle(self, notice: Notice) -> None:
        """It was heard, or is given up."""
        sql = "DELETE FROM task_owed WHERE seq = ?"
        self._database.write(lambda c: c.execute(sql, (notice.number,)))

    def later(self, notice: Notice, due: float) -> None:
        """It is to be sent again, from this Unix time on."""
        sql = "UPDATE task_owed SET due = ? WHERE seq = ?"
        self._database.write(lambda c: c.execute(sql, (due, notice.number)))
