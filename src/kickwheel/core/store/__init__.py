"""Where traces, artifacts and refs live: by default a folder `.kickwheel` beside the app.

database  the one door to what is kept in rows
schema    its tables, and how an older store becomes a newer one
sqlite    the database as a file, by default
postgres  the database on a server
files     artifacts: folders named by the hash of their bytes
refs      named pointers that move, and remember where they pointed
sight     who sees which rows

`open_store` opens all of it.
"""

from kickwheel.core.store.database import Connection, Database
from kickwheel.core.store.files import Artifacts
from kickwheel.core.store.refs import Move, Refs
from kickwheel.core.store.sight import EVERYTHING, Sight
from kickwheel.core.store.store import Store, open_store

__all__ = [
    "EVERYTHING",
    "Artifacts",
    "Connection",
    "Database",
    "Move",
    "Refs",
    "Sight",
    "Store",
    "open_store",
]
