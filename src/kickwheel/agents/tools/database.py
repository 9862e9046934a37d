"""A database that is asked one statement at a time, behind fences of its own (`fences`).

Nothing is kept unless the statement was meant to change rows: every other transaction is rolled
back. Drivers block, so all of it runs in threads.
"""

import asyncio
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kickwheel.agents.tools.fences import Running, fence_sqlite, fenced
from kickwheel.agents.tools.statement import Statement
from kickwheel.agents.tools.threads import in_thread
from kickwheel.agents.tools.tool import InvalidArguments
from kickwheel.core.config import key_from
from kickwheel.core.errors import MissingExtra, ToolError, UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

WAIT_S = 30.0
"""For what a database says about its tables."""
_AT_ONCE = 500


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
            async with asyncio.timeout(WAIT_S):
                return await in_thread(run)
        except SQLAlchemyError as error:
            raise UsageError(f"the database cannot be asked: {_told(error)}") from error
        except TimeoutError as error:
            raise UsageError(f"the database does not answer within {WAIT_S:g} s") from error

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
        running = Running(timeout_s)

        def run() -> Answer:
            with engine.connect() as connection, fenced(connection, running, write=write):
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
            f"{url.drivername} needs its driver, the module {error.name}, which is not installed. "
            "Install the package that brings it, or name another: dialect+driver://…"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda opened, _: fence_sqlite(opened, write=write))
    return engine


def _rows(
    connection: "Connection",
    statement: Statement,
    running: Running,
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


def _as_tool_errors(run: Callable[[], Answer], running: Running) -> Answer:
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
