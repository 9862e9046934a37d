"""`kind: sql`: questions to a database, reading only unless the app says otherwise.

The model writes SQL, with what a user said as values beside it, never in it. It is told what tables
there are as far as the room goes, and asks for the rest.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
from pydantic import Field, SecretStr

from kickwheel.agents.tools.database import Answer, Database, database_url
from kickwheel.agents.tools.statement import changing, reading
from kickwheel.agents.tools.tables import SCHEMA_CHARS, Table, described, summary, tables
from kickwheel.agents.tools.tool import (
    InvalidArguments,
    Limits,
    Tool,
    Toolbox,
    ToolPart,
    safe,
    takes,
)
from kickwheel.core.errors import KickwheelError
from kickwheel.core.plugins import Context, nearest
from kickwheel.records import ToolSpec

VALUE_CHARS = 2_000
"""Characters of one value that are shown."""

_VALUES = {
    "type": "object",
    "description": "Values for places written `:name` in the statement; put whatever a user said "
    "here, not into the statement.",
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}


class Sql(ToolPart):
    """Questions to a database."""

    url: SecretStr
    """SQLAlchemy URL, for example `sqlite:///clinic.db` (from the app's folder) or
    `postgresql://desk:${DESK_PASSWORD}@db/clinic`."""
    rows: Annotated[int, Field(ge=1, le=10_000)] = 200
    """Rows in one answer at most; the agent pages through the rest."""
    write: bool = False
    """Whether rows may be changed, by a tool of its own."""

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """A file of SQLite's that is not there."""
        written = self.url.get_secret_value()
        if written.startswith("sqlite:"):
            try:
                database_url(written, folder)
            except KickwheelError as error:
                yield "url", str(error)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """`<name>_query` and `<name>_tables`, and where the app allows it `<name>_change`."""
        database = Database(
            database_url(self.url.get_secret_value(), context.folder), write=self.write
        )
        try:
            known = await database.inspect(tables)
            yield self._tools(context.name, database, known)
        finally:
            database.close()

    def _tools(self, name: str, database: Database, known: Sequence[Table]) -> list[Tool]:
        page = int(self.result_chars * 0.9)
        reads = self.limits("none")
        told = summary(known, SCHEMA_CHARS)
        query = _Query(f"{name}_query", database, reads, self.rows, page, told)
        tools: list[Tool] = [query, _Tables(f"{name}_tables", database, reads)]
        if self.write:
            changes = self.limits("once")
            tools.append(_Change(f"{name}_change", database, changes, self.rows, page, told))
        return tools


class _Query:
    """Asks."""

    def __init__(
        self, name: str, database: Database, limits: Limits, rows: int, page: int, told: str
    ) -> None:
        self.spec = ToolSpec(
            name=safe(name),
            description=f"Asks the database ({database.dialect}) one reading SQL statement. Rows "
            f"come as JSON lists, at most {rows} at once.\n{told}",
            parameters=takes(
                "statement",
                statement={"type": "string", "description": "The SQL statement."},
                parameters=_VALUES,
                start={
                    "type": "integer",
                    "minimum": 0,
                    "default": 0,
                    "description": "Row to start from, to read on in a longer answer.",
                },
            ),
        )
        self.limits = limits
        self._database, self._rows, self._page = database, rows, page

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The rows, as lines of JSON.

        Raises:
            InvalidArguments: the statement does not only read, or the database faults it.
            ToolError: the database does not answer in time.
        """
        values = arguments.get("parameters") or {}
        statement = reading(arguments["statement"], values, self._database.dialect)
        start = arguments.get("start") or 0
        answer = await self._database.ask(
            statement,
            write=False,
            start=start,
            most=self._rows,
            timeout_s=self.limits.timeout_s,
        )
        return _shown(answer, start, self._page)


class _Change:
    """Changes rows."""

    def __init__(
        self, name: str, database: Database, limits: Limits, rows: int, page: int, told: str
    ) -> None:
        self.spec = ToolSpec(
            name=safe(name),
            description="Changes rows of the database by one INSERT, UPDATE, DELETE or MERGE.",
            parameters=takes(
                "statement",
                statement={"type": "string", "description": "The SQL statement."},
                parameters=_VALUES,
            ),
        )
        self.limits = limits
        self._database, self._rows, self._page = database, rows, page

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """How many rows were changed, and what they return.

        Raises:
            InvalidArguments: the statement does something else, or the database faults it.
            ToolError: the database does not answer in time; then nothing was changed.
        """
        values = arguments.get("parameters") or {}
        statement = changing(arguments["statement"], values, self._database.dialect)
        answer = await self._database.ask(
            statement, write=True, start=0, most=self._rows, timeout_s=self.limits.timeout_s
        )
        rows = f"\n{_shown(answer, 0, self._page)}" if answer.columns else ""
        return f"{answer.changed} {'row' if answer.changed == 1 else 'rows'} changed{rows}"


class _Tables:
    """Tells what there is."""

    def __init__(self, name: str, database: Database, limits: Limits) -> None:
        self.spec = ToolSpec(
            name=safe(name),
            description="The tables of the database with their columns, keys and comments.",
            parameters=takes(
                names={
                    "type": "array",
                    "items": {"type": "string"},
                    "description": "Tables to describe; by default a list of all.",
                }
            ),
        )
        self.limits = limits
        self._database = database

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The tables that are asked for, or all their names.

        Raises:
            InvalidArguments: there is no such table.
        """
        known: list[Table] = await self._database.inspect(tables)
        by_name = {table.name: table for table in known}
        wanted = arguments.get("names") or ()
        for name in wanted:
            if name not in by_name:
                raise InvalidArguments(f'there is no table "{name}". {nearest(name, by_name)}')
        if wanted:
            return "\n\n".join(described(by_name[name]) for name in wanted)
        return summary(known, max(SCHEMA_CHARS, self.limits.result_chars - 1000))


def _shown(answer: Answer, start: int, page: int) -> str:
    """The rows as lines of JSON, as many as go on a page."""
    lines = [_line(answer.columns)]
    room = page - len(lines[0])
    for row in answer.rows:
        line = _line(row)
        if len(line) > room and len(lines) > 1:
            break
        room -= len(line) + 1
        lines.append(line)
    shown = len(lines) - 1
    if shown < len(answer.rows) or answer.more:
        last = start + shown
        lines.append(f"(rows {start + 1} to {last}; there are more: ask again with start={last})")
    elif not answer.rows:
        lines.append("(no rows)" if start == 0 else f"(no rows after row {start})")
    return "\n".join(lines)


def _line(row: Sequence[Any]) -> str:
    return _ENCODER.encode([_value(value) for value in row]).decode()


_ENCODER = msgspec.json.Encoder(enc_hook=str, decimal_format="number")


def _value(value: Any) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            return f"<{len(value):,} bytes>"
        case str() if len(value) > VALUE_CHARS:
            return f"{value[:VALUE_CHARS]}… ({len(value) - VALUE_CHARS:,} more characters)"
        case int() if not -(2**63) <= value < 2**64:
            return str(value)
    return value
