"""Where traces, artifacts and refs live: by default a folder `.kickwheel` beside the app.

sqlite  the one database file: its schema, its one writer
files   artifacts: folders named by the hash of their bytes
refs    named pointers that move, and remember where they pointed

`open_store` opens all of it.
"""

from kickwheel.core.store.files import Artifacts
from kickwheel.core.store.refs import Move, Refs
from kickwheel.core.store.sqlite import Database
from kickwheel.core.store.store import Store, open_store

__all__ = ["Artifacts", "Database", "Move", "Refs", "Store", "open_store"]
