"""A database that is asked one statement at a time, behind fences of its own.

                SQLite                              Postgres               others
only reading    `query_only`; an authorizer lets    a read-only            the statement, as
                reading through, no other file      transaction            it was read
time            a handler that looks all along      `statement_timeout`    the caller's waiting
cancelling      the same handler                    a cancel request       the driver's, if any
size            values of 10 MB at most             rows through a cursor

Nothing is kept unless the statement was meant to change rows: every other transaction is rolled
back. Drivers block, so all of it runs in threads.
"""

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kickwheel.agents.tools.statement import Statement
from kickwheel.agents.tools.threads import in_thread
from kickwheel.agents.tools.tool import InvalidArguments
from kickwheel.core.config import key_from
from kickwheel.core.errors import MissingExtra, ToolError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

LONGEST_VALUE = 10_000_000
"""Bytes of one value in SQLite."""
_LOOK = 5_000
"""SQLite looks whether it shall stop every so many of its instructions: under a millisecond."""
_AT_ONCE = 500

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


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    columns: tuple[str, ...]
    """Empty where the statement gives no rows."""
    rows: tuple[tuple[Any, ...], ...]
    more: bool
    """Whether there are further rows."""
    changed: int
    """How many rows were changed, where the database says so."""


class Database:
    """An engine for reading, and one for changing where that is allowed."""

    def __init__(self, url: "URL", *, write: bool) -> None:
        self.dialect: str = url.get_backend_name()
        self._reader = _engine(url, write=False)
        self._writer = _engine(url, write=True) if write else None

    async def inspect(self, look: "Callable[[Connection], Any]") -> Any:
        """What `look` finds, in a thread.

        Raises:
            UsageError: the database cannot be asked.
        """
        from sqlalchemy.exc import SQLAlchemyError

        def run() -> Any:
            with self._reader.connect() as connection:
                return look(connection)

        try:
            return await in_thread(run)
        except SQLAlchemyError as error:
            raise UsageError(f"the database cannot be asked: {_told(error)}") from error

    async def ask(
        self, statement: Statement, *, write: bool, start: int, most: int, timeout_s: float
    ) -> Answer:
        """The statement's rows from `start` on, at most `most` of them.

        Raises:
            InvalidArguments: the database finds fault with the statement.
            ToolError: it does not answer, or not in time; then nothing was changed.
        """
        engine = self._writer if write else self._reader
        assert engine is not None
        running = _Running(timeout_s)

        def run() -> Answer:
            with engine.connect() as connection, _fenced(connection, running, write=write):
                return _rows(connection, statement, running, write, start, most)

        try:
            return await in_thread(lambda: _as_tool_errors(run, running))
        except BaseException:
            running.stop()
            raise

    def close(self) -> None:
        """Closes what is open and idle."""
        for engine in (self._reader, self._writer):
            if engine is not None:
                engine.dispose()


def database_url(written: str, folder: Path) -> "URL":
    """The URL that the app names, with its variables, and a file's path from the app's folder on.

    Raises:
        UsageError: it is none, a variable is not set, or SQLite's file is not there.
        MissingExtra: SQLAlchemy is not installed.
    """
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise MissingExtra("asking a database", "sql") from error

    def value(variable: re.Match[str]) -> str:
        found = key_from(variable[0])
        if found is None:
            raise UsageError(f"{variable[0]} in the database's URL is not set or empty")
        return found

    try:
        url = make_url(re.sub(r"\$\{\w+\}", value, written))
    except ArgumentError as error:
        raise UsageError(
            "the database's URL cannot be read: it is `dialect://user:password@host/name`, or "
            "`sqlite:///file.db`"
        ) from error
    if url.get_backend_name() != "sqlite":
        return url
    file = folder / (url.database or "")
    if not file.is_file():
        raise UsageError(f"there is no SQLite file {file}")
    return url.set(database=str(file))


def _engine(url: "URL", *, write: bool) -> "Engine":
    from sqlalchemy import create_engine, event
    from sqlalchemy.exc import NoSuchModuleError

    try:
        engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
    except NoSuchModuleError as error:
        raise UsageError(f'SQLAlchemy knows no database "{url.drivername}"') from error
    except ImportError as error:
        raise UsageError(
            f"{url.drivername} needs its driver: pip install {error.name or url.drivername}"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda opened, _: _fence_sqlite(opened, write=write))
    return engine


def _fence_sqlite(opened: sqlite3.Connection, *, write: bool) -> None:
    allowed = _CHANGING if write else _READING

    def judge(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_PRAGMA:
            return sqlite3.SQLITE_OK if first in _PRAGMAS else sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in _REFUSED_FUNCTIONS:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

    if not write:
        opened.execute("PRAGMA query_only = ON")
    opened.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    opened.set_authorizer(judge)


class _Running:
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
def _fenced(connection: "Connection", running: _Running, *, write: bool) -> Iterator[None]:
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


def _rows(
    connection: "Connection",
    statement: Statement,
    running: _Running,
    write: bool,
    start: int,
    most: int,
) -> Answer:
    from sqlalchemy import text

    asked = text(statement.text)
    if not write:
        # Otherwise drivers fetch all rows, however many, before they give the first.
        asked = asked.execution_options(stream_results=True, max_row_buffer=_AT_ONCE)
    result = connection.execute(asked, dict(statement.values))
    try:
        columns = tuple(result.keys()) if result.returns_rows else ()
        rows: list[tuple[Any, ...]] = []
        if result.returns_rows:
            skip = start
            while skip > 0 and not running.over:
                skipped = result.fetchmany(min(skip, _AT_ONCE))
                skip -= len(skipped) or skip
            rows = [tuple(row) for row in result.fetchmany(most + 1)]
        changed = result.rowcount if write else 0
    finally:
        result.close()
    if running.over:
        raise TimeoutError
    if write:
        connection.commit()
    return Answer(columns, tuple(rows[:most]), len(rows) > most, max(changed, 0))


def _as_tool_errors(run: Callable[[], Answer], running: _Running) -> Answer:
    """What `run` gives, with the errors that an agent can do something about."""
    from sqlalchemy import exc

    try:
        return run()
    except (exc.SQLAlchemyError, TimeoutError, sqlite3.Error) as error:
        told = _told(error)
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        if running.over or isinstance(error, TimeoutError) or state == "57014":
            raise ToolError(
                f"the database was stopped after {running.timeout_s:g} s. Ask for less: fewer "
                "rows, an indexed column, no cross joins",
                lasting=True,
            ) from error
        if _is_statements_fault(error, told):
            raise InvalidArguments(f"the database says: {told}") from error
        raise ToolError(f"the database does not answer: {told}") from error


def _is_statements_fault(error: Exception, told: str) -> bool:
    from sqlalchemy import exc

    if isinstance(error, exc.OperationalError):
        # SQLite has one class for what is wrong with a statement and with the world.
        sqlite = isinstance(error.orig, sqlite3.Error)
        return sqlite and not re.search(r"locked|busy|disk|unable to open|malformed", told)
    return isinstance(error, exc.StatementError) and not getattr(
        error, "connection_invalidated", False
    )


def _told(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split())[:400]
