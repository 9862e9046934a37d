"""The one database file of a store: its schema and its connections.

Write-ahead log, so that readers never wait; every write goes through `write`, one at a time in
this process, and waits up to `BUSY_S` for other processes. Whatever SQLite has to say comes as a
`StoreError`.
"""

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kickwheel.core.errors import StoreError
from kickwheel.core.files import storage_error

VERSION = 1
BUSY_S = 10.0

SCHEMA = """
CREATE TABLE trace (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    workload TEXT NOT NULL,
    source TEXT NOT NULL,
    start_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    model TEXT NOT NULL,
    error TEXT,
    spans INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    question TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX trace_by_time ON trace (start_ns);
CREATE INDEX trace_by_workload ON trace (workload, start_ns);
CREATE TABLE feedback (
    seq INTEGER PRIMARY KEY,
    trace TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX feedback_by_trace ON feedback (trace);
CREATE TABLE move (
    seq INTEGER PRIMARY KEY,
    ref TEXT NOT NULL,
    target TEXT,
    why TEXT NOT NULL,
    time_ns INTEGER NOT NULL
);
CREATE INDEX move_by_ref ON move (ref, seq DESC);
CREATE TABLE journal (
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    inputs TEXT NOT NULL,
    result BLOB NOT NULL,
    started REAL NOT NULL,
    ended REAL NOT NULL,
    PRIMARY KEY (run, step, inputs)
) WITHOUT ROWID;
CREATE TABLE job (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE job_event (
    seq INTEGER PRIMARY KEY,
    job TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX job_event_by_job ON job_event (job, seq);
CREATE TABLE file (
    id TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL,
    body BLOB NOT NULL
);
"""


class Database:
    """The open database: one connection that writes, and as many as ever read at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._prepare()
        except OSError as error:
            raise storage_error(error, path) from error
        except sqlite3.Error as error:
            raise _told(error, path) from error

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows that the query finds, as tuples; from any thread, without waiting for writers.

        Raises:
            StoreError: the file is damaged, cannot be read, or the store was closed.
        """
        if self._closed:
            raise StoreError(f"{self.path}: the store was closed")
        try:
            connection = self._reader()
            try:
                rows = connection.execute(query, values).fetchall()
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise _told(error, self.path) from error
        # For the next reader in whatever thread: one kept for a thread would outlive it.
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)
        return rows

    def write(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """What `work` returns, its statements written together or not at all.

        Raises:
            StoreError: the disk is full, the file is damaged, or another process held it for more
                than `BUSY_S` seconds. Nothing was written.
        """
        with self._lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                result = work(self._writer)
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise _told(error, self.path) from error
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
        return result

    def close(self) -> None:
        """Closes every connection; the file is whole at any moment anyway."""
        self._closed = True
        self._writer.close()
        while self._idle:
            self._idle.popleft().close()

    def _reader(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _prepare(self) -> None:
        try:
            self._version()
            self._writer.execute("PRAGMA journal_mode = WAL")
            # Two processes may open a new store at once: look again inside the transaction.
            self._writer.execute("BEGIN IMMEDIATE")
            if self._version() == 0:
                for statement in SCHEMA.split(";"):
                    self._writer.execute(statement)
                self._writer.execute(f"PRAGMA user_version = {VERSION}")
            self._writer.execute("COMMIT")
        except BaseException:
            self.close()
            raise

    def _version(self) -> int:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            age = "an older" if version < VERSION else "a newer"
            raise StoreError(
                f"{self.path}: written by {age} kickwheel (store version {version}, this one reads "
                f"{VERSION}). Use that version, or move the folder away to start anew; it was left "
                "as it is."
            )
        return int(version)


def _told(error: sqlite3.Error, path: Path) -> StoreError:
    text = str(error)
    if "full" in text:
        return StoreError(f"{path}: the disk is full. Free some space and run the same again.")
    if "locked" in text:
        return StoreError(
            f"{path}: another process kept the store busy for {BUSY_S:.0f} s. Run the same again."
        )
    if "malformed" in text or "not a database" in text:
        return StoreError(f"{path}: damaged ({text}). Move it away, or bring back a copy.")
    return StoreError(f"{path}: {text}")
