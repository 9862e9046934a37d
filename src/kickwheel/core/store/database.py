"""The one door to a store's database, whatever keeps it.

SQL is written once, in what SQLite and Postgres both understand: `?` for values, `ON CONFLICT`
instead of `OR REPLACE`, no functions of one of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """What a statement came to."""

    @property
    def rowcount(self) -> int:
        """Rows that were changed."""

    def fetchone(self) -> Any:
        """The next row, or `None`."""

    def fetchall(self) -> list[Any]:
        """All rows that are left."""


class Connection(Protocol):
    """A transaction that goes on."""

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows:
        """Runs one statement."""

    def executemany(self, sql: str, values: Sequence[Sequence[Any]], /) -> Rows:
        """Runs one statement with each of the values."""


class Database(Protocol):
    """The open database; every method may be called from any thread."""

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows that the query finds, as tuples, without waiting for writers.

        Raises:
            StoreError: the database is damaged, gone, or cannot be read, or the store was closed.
        """

    def write(self, work: Callable[[Connection], Any], *, sync: bool = False) -> Any:
        """What `work` returns, its statements written together or not at all.

        One at a time in the whole store, so that what `work` reads stays true until it is done.
        What was written survives the end of this program.

        Args:
            sync: waits until it would survive the end of the machine, too.
        Raises:
            StoreError: the disk is full, the database is damaged or gone, or others kept it busy
                for too long. Nothing was written.
        """

    def call(self, worker: str) -> None:
        """Calls a worker, wherever it listens: it should look into the database now.

        Raises:
            StoreError: the database is damaged, gone, or cannot be read, or the store was closed.
        """

    async def listen(self, worker: str, called: Callable[[], None]) -> None:
        """Runs `called` whenever the worker may have been called, until cancelled; returns at once
        where all who share the database are on one machine, and need no database to call."""

    def close(self) -> None:
        """Closes every connection; the data is whole at any moment anyway."""
