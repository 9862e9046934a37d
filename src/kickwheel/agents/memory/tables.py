"""The tables of memories, on SQLite and on Postgres, and the search for words in them.

The same columns on both. SQLite finds words through FTS5, whose index stands beside the table and
is kept by triggers; Postgres through a tsvector of the same text.
"""

import re
from collections.abc import Sequence
from typing import Any

from kickwheel.core.store import Database
from kickwheel.core.store.database import Connection
from kickwheel.core.store.sqlite import Sqlite

_TABLES = """
CREATE TABLE IF NOT EXISTS memory_fact (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    person TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    slot TEXT NOT NULL,
    text TEXT NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_to INTEGER,
    source_trace TEXT NOT NULL,
    source_span TEXT NOT NULL,
    origin TEXT NOT NULL,
    said TEXT NOT NULL,
    embedding BLOB,
    hash TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS memory_fact_by_scope ON memory_fact (tenant, person, valid_to);
CREATE TABLE IF NOT EXISTS memory_turn (
    tenant TEXT NOT NULL,
    person TEXT NOT NULL,
    id TEXT NOT NULL,
    before TEXT NOT NULL,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    time_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, id)
);
CREATE TABLE IF NOT EXISTS memory_cut (
    tenant TEXT NOT NULL,
    person TEXT NOT NULL,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    time_ns INTEGER NOT NULL,
    PRIMARY KEY (tenant, person, id)
)"""

_WORDS_SQLITE = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS memory_fact_words USING fts5("
    "text, content='memory_fact', content_rowid='seq', "
    "tokenize='porter unicode61 remove_diacritics 2')",
    "CREATE TRIGGER IF NOT EXISTS memory_fact_added AFTER INSERT ON memory_fact BEGIN "
    "INSERT INTO memory_fact_words (rowid, text) VALUES (new.seq, new.text); END",
    "CREATE TRIGGER IF NOT EXISTS memory_fact_gone AFTER DELETE ON memory_fact BEGIN "
    "INSERT INTO memory_fact_words (memory_fact_words, rowid, text) "
    "VALUES ('delete', old.seq, old.text); END",
)
_WORDS_POSTGRES = (
    "CREATE INDEX IF NOT EXISTS memory_fact_words ON memory_fact "
    "USING gin (to_tsvector('english', text))",
)
_POSTGRES = {
    "INTEGER PRIMARY KEY": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "INTEGER": "BIGINT",
    "BLOB": "BYTEA",
}


def prepare(database: Database) -> None:
    """Makes the tables where they are missing.

    Raises:
        StoreError: the store cannot be written.
    """
    tables = [statement.strip() for statement in _TABLES.split(";")]
    if isinstance(database, Sqlite):
        statements = [*tables, *_WORDS_SQLITE]
    else:
        statements = [*map(_as_postgres, tables), *_WORDS_POSTGRES]

    def write(connection: Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    database.write(write)


def ranked_by_words(
    database: Database, words: Sequence[str], where: str, values: Sequence[Any], limit: int
) -> list[int]:
    """The numbers of the facts that hold any of the words, best first.

    Args:
        words: as the user wrote them; whatever stands in them is looked for, never obeyed.
        where: condition on the columns of `memory_fact`, named with `f.` before them.
    """
    if isinstance(database, Sqlite):
        asked = " OR ".join('"' + word.replace('"', '""') + '"' for word in words)
        sql = (
            "SELECT f.seq FROM memory_fact_words AS w JOIN memory_fact AS f ON f.seq = w.rowid "
            f"WHERE memory_fact_words MATCH ? AND {where} ORDER BY bm25(memory_fact_words) LIMIT ?"
        )
    else:
        asked = " | ".join(found for word in words for found in re.findall(r"\w+", word))
        sql = (
            "SELECT f.seq FROM memory_fact AS f, to_tsquery('english', ?) AS q "
            f"WHERE to_tsvector('english', f.text) @@ q AND {where} "
            "ORDER BY ts_rank(to_tsvector('english', f.text), q) DESC LIMIT ?"
        )
    if not asked:
        return []
    return [row[0] for row in database.read(sql, (asked, *values, limit))]


def wipe(database: Database, table: str, where: str, values: Sequence[Any]) -> int:
    """Deletes rows so that nothing of them is left in the file, and says how many there were.

    On SQLite freed pages are overwritten, the index of words is built anew, and the log is emptied
    as far as no other reader is in the middle of it. Postgres overwrites them when it vacuums.
    """

    def write(connection: Connection) -> int:
        if isinstance(database, Sqlite):
            connection.execute("PRAGMA secure_delete = ON")
        gone = connection.execute(f"DELETE FROM {table} WHERE {where}", values).rowcount
        if isinstance(database, Sqlite) and gone:
            if table == "memory_fact":
                connection.execute(
                    "INSERT INTO memory_fact_words (memory_fact_words) VALUES ('rebuild')"
                )
            # The log can be emptied between two transactions only.
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute("BEGIN IMMEDIATE")
        return gone

    gone: int = database.write(write)
    return gone


def _as_postgres(statement: str) -> str:
    for ours, theirs in _POSTGRES.items():
        statement = re.sub(rf"{ours}\b", theirs, statement)
    return statement
