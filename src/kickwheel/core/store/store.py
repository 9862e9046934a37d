"""A store: one database, and one folder with its artifacts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kickwheel.core.journal import Journal, Runs
from kickwheel.core.store.database import Database
from kickwheel.core.store.files import Artifacts
from kickwheel.core.store.postgres import Postgres
from kickwheel.core.store.refs import Refs
from kickwheel.core.store.sqlite import Sqlite


@dataclass(frozen=True, slots=True)
class Store:
    """The open store of one app."""

    folder: Path
    database: Database
    artifacts: Artifacts
    refs: Refs
    journal: Journal
    runs: Runs


@contextmanager
def open_store(folder: Path, url: str | None = None) -> Iterator[Store]:
    """The store in `folder`, made where there is none.

    Args:
        folder: of artifacts and other files, and of the database where that is a file.
        url: of the Postgres database; by default it is the file `store.db` in the folder.
    Raises:
        StoreError: it was written by another version, or cannot be read or written.
        MissingExtra: it is on Postgres, and the package for that is not installed.
    """
    database: Database = Sqlite(folder / "store.db") if url is None else Postgres(url)
    runs = Runs(database, folder / "workers")
    try:
        yield Store(
            folder=folder,
            database=database,
            artifacts=Artifacts(folder / "artifacts"),
            refs=Refs(database),
            journal=Journal(database),
            runs=runs,
        )
    finally:
        runs.close()
        database.close()
