"""What a database itself refuses while a statement of an agent runs, and how one is stopped.

                SQLite                              Postgres               others
only reading    `query_only`; an authorizer lets    a read-only            the statement, as
                reading through, no other file      transaction            it was read
time            a handler that looks all along      `statement_timeout`    the caller's waiting
cancelling      the same handler                    a cancel request       the driver's, if any
size            values of 10 MB at most             rows through a cursor
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

LONGEST_VALUE = 10_000_000
"""Bytes of one value in SQLite."""
_LOOK = 5_000
"""SQLite looks whether it shall stop every so many of its instructions: under a millisecond."""

_READING = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION,
}
_CHANGING = _READING | {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
# They only tell what is there; full-text search asks `data_version`.
_PRAGMAS = {
    "data_version",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_list",
    "table_xinfo",
}
_REFUSED_FUNCTIONS = {"load_extension", "readfile", "writefile", "edit"}


def fence_sqlite(opened: sqlite3.Connection, *, write: bool) -> None:
    """Lets nothing but reading, or changing of rows, through this connection."""
    allowed = _CHANGING if write else _READING

    def judge(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_OK if first in _PRAGMAS else sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _REFUSED_FUNCTIONS:
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
            # Asked for when a virtual table is looked at for the first time. A statement that
            # means it fails all the same, as nobody can turn `writable_schema` on.
            return sqlite3.SQLITE_OK
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    if not write:
        opened.execute("PRAGMA query_only = ON")
    opened.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    opened.set_authorizer(judge)


class Running:
    """A statement at work, and how to stop it."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._stopped = False
        self._cancel: Callable[[], object] | None = None

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._stopped or time.monotonic() >= self._deadline

    @contextmanager
    def cancelled_by(self, cancel: Callable[[], object] | None) -> Iterator[None]:
        """While inside, `stop` calls `cancel`."""
        self._cancel = cancel
        try:
            yield
        finally:
            self._cancel = None

    def stop(self) -> None:
        """Ends the statement in the database, without waiting for it."""
        self._stopped = True
        cancel = self._cancel
        if cancel is not None:
            threading.Thread(target=_quietly(cancel), daemon=True).start()


def _quietly(cancel: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        # The connection may be closed, or the statement done, by now.
        with suppress(Exception):
            cancel()

    return run


@contextmanager
def fenced(connection: "Connection", running: Running, *, write: bool) -> Iterator[None]:
    """Inside, the database itself keeps the limits."""
    raw: Any = connection.connection.driver_connection
    match connection.dialect.name:
        case "sqlite":
            raw.set_progress_handler(lambda: running.over, _LOOK)
            try:
                yield
            finally:
                raw.set_progress_handler(None, 0)
            return
        case "postgresql":
            from sqlalchemy import text

            connection.execution_options(postgresql_readonly=not write)
            # After a first query nobody can make the transaction a writing one again.
            wait = text("SELECT set_config('statement_timeout', :ms, true)")
            connection.execute(wait, {"ms": str(max(1, int(running.timeout_s * 1000)))})
    cancel = getattr(raw, "cancel_safe", None) or getattr(raw, "cancel", None)
    with running.cancelled_by(cancel):
        yield
