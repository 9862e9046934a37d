"""Old traces deleted, and with them the pictures that nothing names any more.

A picture lies among the artifacts, and traces and runs only name it: the same one may stand in
many. It goes once none of them names it. Young ones are left in any case, as what names them may
not be written yet.
"""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kickwheel.core.store import Connection, Database, Store
from kickwheel.core.store.files import MANIFEST, PICTURES

BATCH = 500
"""Traces in one transaction, and rows in one reading, at most."""
SPARED_S = 86_400.0
"""Age below which a picture stays."""

_NAME = re.compile(rb"((?:%s)/[0-9a-f]{16})/" % "|".join(PICTURES).encode())
_NAMING = (
    ("trace", "body", ("seq",)),
    ("span", "body", ("seq",)),
    ("run", "asked", ("id",)),
    ("run", "result", ("id",)),
    ("run_step", "result", ("run", "path")),
)
"""Where names of pictures stand: table, column, and what its rows are ordered by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was deleted."""

    traces: int
    pictures: int
    bytes: int
    """Of the pictures."""


def forget(
    store: Store,
    before_ns: int,
    *,
    tenant: str | None = None,
    user: str | None = None,
    spared_s: float = SPARED_S,
) -> Forgotten:
    """Deletes the traces that began before this Unix time, in nanoseconds, with what was said of
    them, and pictures that nothing names. Stopped, it goes on when it is called again.

    Args:
        tenant: only this one's, empty for those that bear none; by default everybody's.
        user: only those that this user of the tenant made; without a tenant, of none.
        spared_s: age below which a picture stays.
    Raises:
        StoreError: another process held the store for too long, or the database is gone.
    """
    whose, values = "", tuple[str, ...]()
    if user is not None:
        whose, values = " AND tenant = ? AND asker = ?", (tenant or "", user)
    elif tenant is not None:
        whose, values = " AND tenant = ?", (tenant,)
    traces = 0
    while deleted := store.database.write(lambda c: _delete(c, before_ns, whose, values)):
        traces += deleted
    pictures, size = drop_pictures(store, spared_s)
    return Forgotten(traces=traces, pictures=pictures, bytes=size)


def drop_pictures(store: Store, spared_s: float = SPARED_S) -> tuple[int, int]:
    """Deletes the pictures that nothing names: how many, and their bytes.

    Args:
        spared_s: age below which a picture stays.
    """
    pictures = size = 0
    for folder in _unnamed(store, time.time() - spared_s):
        size += sum(file.stat().st_size for file in folder.iterdir())
        pictures += 1
        # Renamed first: whoever looks finds it whole, or not at all.
        gone = folder.rename(folder.with_name(f".gone-{folder.name}"))
        shutil.rmtree(gone, ignore_errors=True)
    return pictures, size


def _delete(connection: Connection, before_ns: int, whose: str, values: tuple[str, ...]) -> int:
    found = connection.execute(
        f"SELECT seq, id FROM trace WHERE start_ns < ?{whose} ORDER BY start_ns, seq LIMIT ?",
        (before_ns, *values, BATCH),
    ).fetchall()
    if not found:
        return 0
    marks = ", ".join("?" * len(found))
    numbers, names = zip(*found, strict=True)
    for table, column, rows in (
        ("span", "trace", numbers),
        ("gathered", "trace", numbers),
        ("feedback", "trace", names),
        ("took_part", "trace", names),
        ("trace", "seq", numbers),
    ):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN ({marks})", rows)
    return len(found)


def _unnamed(store: Store, before: float) -> list[Path]:
    """The pictures kept before this Unix time, in seconds, that nothing names."""
    old = {
        f"{kind}/{manifest.parent.name}".encode(): manifest.parent
        for kind in PICTURES
        for manifest in (store.artifacts.folder / kind).glob(f"[!.]*/{MANIFEST}")
        if manifest.stat().st_mtime < before
    }
    if old:
        for text in _texts(store.database):
            for name in _NAME.findall(text):
                old.pop(name, None)
    return list(old.values())


def _texts(database: Database) -> Iterator[bytes]:
    """All in which a picture may be named."""
    for table, column, key in _NAMING:
        columns, marks = ", ".join(key), ", ".join("?" * len(key))
        last: tuple[object, ...] = ()
        while True:
            behind = f" AND ({columns}) > ({marks})" if last else ""
            rows = database.read(
                f"SELECT {columns}, {column} FROM {table} WHERE {column} IS NOT NULL{behind} "
                f"ORDER BY {columns} LIMIT ?",
                (*last, BATCH),
            )
            yield from (bytes(row[-1]) for row in rows)
            if len(rows) < BATCH:
                break
            last = tuple(rows[-1][:-1])
