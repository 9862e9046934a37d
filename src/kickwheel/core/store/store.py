"""A store: one folder with one database, artifacts and refs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kickwheel.core.journal import Journal
from kickwheel.core.store.files import Artifacts
from kickwheel.core.store.refs import Refs
from kickwheel.core.store.sqlite import Database


@dataclass(frozen=True, slots=True)
class Store:
    """The open store of one app."""

    folder: Path
    database: Database
    artifacts: Artifacts
    refs: Refs
    journal: Journal


@contextmanager
def open_store(folder: Path) -> Iterator[Store]:
    """The store in `folder`, made where there is none.

    Raises:
        StoreError: it was written by another version, or cannot be read or written.
    """
    database = Database(folder / "store.db")
    try:
        yield Store(
            folder=folder,
            database=database,
            artifacts=Artifacts(folder / "artifacts"),
            refs=Refs(database),
            journal=Journal(database),
        )
    finally:
        database.close()
