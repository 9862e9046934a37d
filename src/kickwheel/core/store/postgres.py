"""A store's database on Postgres, where the app file says `store: postgresql://user@host/db`.

The tables stand in the schema `kickwheel`, or in the one that the URL names (`?schema=clinic`), so
that several apps can share a database. Writers take turns by an advisory lock, as they do on
SQLite. A connection that broke is opened again; only what was being written when it broke fails.
Workers on several machines call each other by NOTIFY, which carries a worker's name and no more.
"""

import asyncio
import functools
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from kickwheel.core.errors import MissingExtra, StoreError
from kickwheel.core.store.database import Connection
from kickwheel.core.store.schema import VERSION, statements

if TYPE_CHECKING:
    import psycopg

CONNECT_S = 10
"""Seconds until a server that does not answer counts as gone."""
BUSY_S = 10.0
"""Seconds that another program may keep the store busy."""
LOCK = 744_935_201
"""First half of the advisory lock that whoever writes holds; the second is the schema's."""

CALLS = "kickwheel"
"""The channel of calls. One for all schemas: no two workers have the same name."""
AGAIN_S = 1.0
"""Seconds until a connection that listened and broke is tried again."""
ALIVE_S = 30
"""Seconds of silence after which its server must show that it lives: by default it would be two
hours until the end of a server's machine is known."""

_TYPES = {
    "INTEGER PRIMARY KEY": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
    "TEXT": 'TEXT COLLATE "C"',
    " WITHOUT ROWID": "",
}
_NUMBERED = ("job", "file")
"""Tables without a number of their own, of which SQLite keeps one as `rowid`."""
_log = logging.getLogger(__name__)


class Postgres:
    """One connection that writes, and as many as ever read at once; see `Database`."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise MissingExtra("a store on Postgres", "postgres") from error
        self._psycopg = psycopg
        self._url, self._schema = _split(url)
        self.where = told(url)
        """The URL as it may be shown."""
        self._turn = f"SELECT pg_advisory_xact_lock({LOCK}, hashtext('{self._schema}'))"
        self._lock = threading.Lock()
        self._idle: deque[psycopg.Connection[Any]] = deque()
        self._closed = False
        try:
            self._writer = self._connect()
            self._prepare()
        except psycopg.Error as error:
            raise self._told(error) from error

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows that the query finds; see `Database.read`."""
        again = True
        while True:
            if self._closed:
                raise StoreError(f"{self.where}: the store was closed")
            kept = bool(self._idle)
            connection = None
            try:
                connection = self._reader()
                rows: list[Any] = _Open(connection).execute(sql, values).fetchall()
            except BaseException as error:
                if connection is not None:
                    connection.close()
                if not isinstance(error, self._psycopg.Error):
                    raise
                if isinstance(error, self._psycopg.OperationalError) and kept and again:
                    # Kept since the last reader, it may have been broken long ago.
                    self._forget()
                    again = False
                    continue
                raise self._told(error) from error
            if self._closed:
                connection.close()
            else:
                self._idle.append(connection)
            return rows

    def write(self, work: Callable[[Connection], Any], *, sync: bool = False) -> Any:
        """What `work` returns, its statements written together; see `Database.write`."""
        with self._lock:
            try:
                self._begin(sync)
                result = work(_Open(self._writer))
                self._writer.execute("COMMIT")
            except self._psycopg.Error as error:
                self._undo()
                raise self._told(error) from error
            except BaseException:
                self._undo()
                raise
        return result

    def call(self, worker: str) -> None:
        """Calls a worker on whatever machine; see `Database.call`."""
        self.read("SELECT pg_notify(?, ?)", (CALLS, worker))

    async def listen(self, worker: str, called: Callable[[], None]) -> None:
        """Runs `called` whenever the worker may have been called; see `Database.listen`."""
        lost = False
        while True:
            connection = None
            try:
                connection = await self._psycopg.AsyncConnection.connect(
                    self._url,
                    autocommit=True,
                    connect_timeout=CONNECT_S,
                    application_name="kickwheel calls",
                    keepalives_idle=ALIVE_S,
                    keepalives_interval=ALIVE_S // 3,
                    keepalives_count=3,
                )
                await connection.execute(f"LISTEN {CALLS}")
                lost = False
                # Nobody kept the calls that came before.
                called()
                async for call in connection.notifies():
                    if call.payload == worker:
                        called()
            except self._psycopg.Error as error:
                if not lost:
                    _log.warning("calls of other machines are not heard: %s", self._told(error))
                lost = True
            finally:
                if connection is not None:
                    await connection.close()
            await asyncio.sleep(AGAIN_S)

    def close(self) -> None:
        """Closes every connection; the data is whole at any moment anyway."""
        self._closed = True
        self._writer.close()
        self._forget()

    def _begin(self, sync: bool) -> None:
        if self._closed:
            raise StoreError(f"{self.where}: the store was closed")
        begin = (
            f"BEGIN; SET LOCAL synchronous_commit = {'on' if sync else 'off'}; "
            f"SET LOCAL lock_timeout = '{BUSY_S}s'; {self._turn}"
        )
        try:
            self._writer.execute(begin)
        except self._psycopg.OperationalError:
            if not self._writer.closed and not self._writer.broken:
                raise
            # Nothing of this transaction was sent yet, so it may be begun again.
            self._writer = self._connect()
            self._writer.execute(begin)

    def _undo(self) -> None:
        try:
            if not self._writer.closed:
                self._writer.execute("ROLLBACK")
        except self._psycopg.Error:
            self._writer.close()

    def _reader(self) -> "psycopg.Connection[Any]":
        try:
            return self._idle.pop()
        except IndexError:
            connection = self._connect()
            connection.execute("SET default_transaction_read_only = on")
            return connection

    def _forget(self) -> None:
        while self._idle:
            self._idle.popleft().close()

    def _connect(self) -> "psycopg.Connection[Any]":
        try:
            connection = self._psycopg.connect(
                self._url,
                autocommit=True,
                cursor_factory=self._psycopg.RawCursor,
                connect_timeout=CONNECT_S,
                application_name="kickwheel",
            )
        except self._psycopg.ProgrammingError as error:
            raise StoreError(
                f"{self.where}: not a URL that Postgres understands. Write "
                "postgresql://user@host:5432/database."
            ) from error
        connection.execute(f'SET search_path = "{self._schema}"')
        return connection

    def _prepare(self) -> None:
        try:
            self._writer.execute(f"BEGIN; {self._turn}")
            self._writer.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
            self._writer.execute("CREATE TABLE IF NOT EXISTS version (number BIGINT NOT NULL)")
            version = self._version()
            for statement in statements(version):
                self._writer.execute(_as_postgres(statement))
            if version == 0:
                for table in _NUMBERED:
                    number = "rowid BIGINT GENERATED ALWAYS AS IDENTITY"
                    self._writer.execute(f"ALTER TABLE {table} ADD COLUMN {number}")
            if version != VERSION:
                self._writer.execute("DELETE FROM version")
                self._writer.execute(f"INSERT INTO version VALUES ({VERSION})")
            self._writer.execute("COMMIT")
        except BaseException:
            self._undo()
            self.close()
            raise

    def _version(self) -> int:
        row = self._writer.execute("SELECT number FROM version").fetchone()
        version = 0 if row is None else int(row[0])
        if version > VERSION:
            raise StoreError(
                f"{self.where}: written by a newer kickwheel (store version {version}, this one "
                f"reads {VERSION}). Use that version; it was left as it is."
            )
        return version

    def _told(self, error: Exception) -> StoreError:
        text = " ".join(str(error).split())
        for secret in _secrets(self._url):
            text = text.replace(secret, "***")
        state = getattr(error, "sqlstate", None) or ""
        advice = next((words for sign, words in _ADVICE if re.match(sign, state or text)), "")
        if not advice and isinstance(error, self._psycopg.OperationalError):
            advice = "Is the server up? Then run the same again."
        return StoreError(re.sub(r"([.?])\.", r"\1", f"{self.where}: {text}. {advice}").rstrip())


_ADVICE = (
    # What goes wrong while connecting has no code, only words.
    (r".*database .* does not exist", "Create the database, or name another one."),
    (r".*(authentication|role .* does not exist)", "Check user and password."),
    (
        "42501",
        "Grant this user CREATE on the database, or name a schema that it owns by ?schema=NAME.",
    ),
    ("53100", "The server's disk is full. Free some space and run the same again."),
    ("53", "The server is at its limits. Run the same again later."),
    ("55P03", "Another program kept the store busy for too long. Run the same again."),
    ("25006", "It cannot be written here: this is a replica, or a connection for reading."),
)


class _Open:
    """A connection that takes SQL as it is written for SQLite."""

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Any:
        return self._connection.execute(_numbered(sql), _storable(values) or None)

    def executemany(self, sql: str, values: Sequence[Sequence[Any]], /) -> Any:
        cursor = self._connection.cursor()
        if values:
            cursor.executemany(_numbered(sql), [_storable(row) for row in values])
        return cursor


@functools.lru_cache(maxsize=512)
def _numbered(sql: str) -> bytes:
    """The statement with `$1`, `$2`, … for each `?`."""
    parts = sql.split("?")
    text = "".join(f"{part}${n}" for n, part in enumerate(parts[:-1], 1)) + parts[-1]
    return text.encode()


def _storable(values: Sequence[Any]) -> list[Any]:
    # Postgres keeps no NUL in text; bytes may have it.
    return [
        value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value
        for value in values
    ]


def _as_postgres(statement: str) -> bytes:
    for ours, theirs in _TYPES.items():
        statement = re.sub(rf"{ours}\b", theirs, statement)
    return statement.encode()


def told(url: str) -> str:
    """The URL as it may be shown: without password and options."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return f"postgresql://{name + '@' if name else ''}{host}{parts.path}"


def _split(url: str) -> tuple[str, str]:
    """The URL as Postgres takes it, and the schema that it names."""
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    schema = dict(query).get("schema", "kickwheel")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise StoreError(
            f'{told(url)}: schema "{schema}" is none: small letters, digits and _ make its name'
        )
    left = urlencode([(key, value) for key, value in query if key != "schema"])
    return urlunsplit(parts._replace(query=left)), schema


def _secrets(url: str) -> list[str]:
    password = urlsplit(url).netloc.rpartition("@")[0].partition(":")[2]
    return [password] if password else []
