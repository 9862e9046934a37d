"""A store's database as one SQLite file.

Write-ahead log, so that readers never wait; every write goes through `write`, one at a time in
this process, and waits up to `BUSY_S` for other processes. Whatever SQLite has to say comes as a
`StoreError`.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kickwheel.core.errors import StoreError
from kickwheel.core.files import storage_error
from kickwheel.core.store.database import Connection
from kickwheel.core.store.schema import VERSION, statements

BUSY_S = 10.0
AGAIN_S = 0.01


class Sqlite:
    """One connection that writes, and as many as ever read at once; see `Database`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False
        self._synced = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._prepare()
        except OSError as error:
            raise storage_error(error, path) from error
        except sqlite3.Error as error:
            raise _told(error, path) from error

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows that the query finds; see `Database.read`."""
        if self._closed:
            raise StoreError(f"{self.path}: the store was closed")
        try:
            connection = self._reader()
            try:
                rows = connection.execute(sql, values).fetchall()
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

    def write(self, work: Callable[[Connection], Any], *, sync: bool = False) -> Any:
        """What `work` returns, its statements written together; see `Database.write`.

        Another process may hold the file for `BUSY_S` seconds at most.
        """
        with self._lock:
            try:
                if sync != self._synced:
                    self._writer.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
                    self._synced = sync
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

    def call(self, worker: str) -> None:
        """Nothing: who shares the file is on this machine, where `journal.presence` calls."""

    async def listen(self, worker: str, called: Callable[[], None]) -> None:
        """Returns at once; see `call`."""

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
            self._write_ahead()
            # Two processes may open a new store at once: look again inside the transaction.
            self._writer.execute("BEGIN IMMEDIATE")
            version = self._version()
            for statement in statements(version):
                self._writer.execute(statement)
            if version != VERSION:
                self._writer.execute(f"PRAGMA user_version = {VERSION}")
            self._writer.execute("COMMIT")
        except BaseException:
            self.close()
            raise

    def _write_ahead(self) -> None:
        until = time.monotonic() + BUSY_S
        while True:
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # For this one statement SQLite does not wait: of two processes that open a new
                # store at once, one is told at once that it is locked.
                if "locked" not in str(error) or time.monotonic() >= until:
                    raise
                time.sleep(AGAIN_S)

    def _version(self) -> int:
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        if not 0 <= version <= VERSION:
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
    if "I/O" in text:
        return StoreError(f"{path}: {text}. Is the disk full, or not there any more?")
    return StoreError(f"{path}: {text}")
