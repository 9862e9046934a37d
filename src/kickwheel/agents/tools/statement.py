"""What an SQL statement may do, seen before it reaches a database.

The first of several fences: what is only here is what databases themselves cannot forbid, as
functions that leave the transaction. The others are the database's own (`database`).
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kickwheel.agents.tools.tool import InvalidArguments
from kickwheel.core.errors import MissingExtra

_DIALECTS = {"postgresql": "postgres", "mssql": "tsql", "mariadb": "mysql"}
# They read and write the server's files, end other sessions, take locks that outlive the
# transaction, change settings, or run text as a statement of its own.
_OUTSIDE = re.compile(
    r"pg_(read_|ls_|stat_file|terminate|cancel|reload|rotate|promote|advisory|try_advisory|switch|"
    r"create_|drop_|replication|logical|notify|file_|import)|lo_|dblink|set_config|nextval|setval|"
    r"(query|cursor|table|schema|database)_to_xml|load_extension|readfile|writefile|edit$|"
    r"load_file|sys_exec|sys_eval|xp_|openrowset|opendatasource|fts3_tokenizer",
    re.IGNORECASE,
)

# MySQL runs what stands in such a comment; Postgres reads such a name with its escapes. The parser
# does neither, so it would judge another statement than the one that runs.
_READ_OTHERWISE = re.compile(r"/\*M?!|\bU&[\"']", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that may be run."""

    text: str
    """As SQLAlchemy's `text()` takes it: values as `:name`, any other colon escaped."""
    values: Mapping[str, Any]


def reading(sql: str, values: Mapping[str, Any], dialect: str) -> Statement:
    """The statement, if all it does is to read.

    Args:
        values: of the places that are written `:name`.
        dialect: as SQLAlchemy names it, `postgresql`.
    Raises:
        InvalidArguments: it does more, is several, is no SQL, or its places and values differ.
    """
    from sqlglot import exp

    root = _parsed(sql, dialect)
    if not isinstance(root, exp.Query | exp.Values):
        raise InvalidArguments("only reading statements can be asked: SELECT, WITH, VALUES")
    _check_inside(root, (exp.DML, exp.DDL, exp.Command, exp.Into, exp.Lock))
    return Statement(_bound(sql, values, dialect), values)


def changing(sql: str, values: Mapping[str, Any], dialect: str) -> Statement:
    """The statement, if it changes rows and nothing else.

    Raises:
        InvalidArguments: as `reading`.
    """
    from sqlglot import exp

    root = _parsed(sql, dialect)
    if not isinstance(root, exp.Insert | exp.Update | exp.Delete | exp.Merge):
        raise InvalidArguments("only rows can be changed: INSERT, UPDATE, DELETE, MERGE")
    _check_inside(root, (exp.Create, exp.Drop, exp.Alter, exp.Command, exp.Into))
    return Statement(_bound(sql, values, dialect), values)


def _parsed(sql: str, dialect: str) -> Any:
    try:
        import sqlglot
        from sqlglot.errors import SqlglotError
    except ImportError as error:
        raise MissingExtra("asking a database", "sql") from error
    if hidden := _READ_OTHERWISE.search(sql):
        raise InvalidArguments(f"the statement must not hold {hidden[0]}")
    # It warns of what it does not know; we refuse that, and say so.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        found = [s for s in sqlglot.parse(sql, read=_dialect(dialect)) if s is not None]
    except (SqlglotError, RecursionError) as error:
        why = re.sub(r"\x1b\[\d*m", "", str(error)).partition("\n")[0]
        raise InvalidArguments(f"this is no SQL as {dialect} takes it: {why[:300]}") from error
    if len(found) != 1:
        raise InvalidArguments(f"one statement at a time, not {len(found)}")
    return found[0]


def _check_inside(root: Any, forbidden: tuple[Any, ...]) -> None:
    from sqlglot import exp

    for node in root.walk():
        if node is not root and isinstance(node, forbidden):
            raise InvalidArguments(f"the statement must not hold {node.key.upper()}")
        if isinstance(node, exp.Func):
            name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
            if _OUTSIDE.match(name):
                raise InvalidArguments(f"the function {name} may not be used")


def _bound(sql: str, values: Mapping[str, Any], dialect: str) -> str:
    """The text with each `:name` a place for a value, wherever one stands outside of literals."""
    import sqlglot

    places: dict[int, str] = {}
    for colon, name in pairwise(sqlglot.tokenize(sql, read=_dialect(dialect))):
        starts = colon.end + 1 == name.start
        if colon.text == ":" == sql[colon.start] and starts and name.text.isidentifier():
            before = sql[colon.start - 1 : colon.start]
            if not before or not (before.isalnum() or before in '_])"'):  # No slice of an array.
                places[colon.start] = name.text
    for place in places.values():
        if place not in values:
            raise InvalidArguments(f'there is no value for ":{place}" in `parameters`')
    for given in values:
        if given not in places.values():
            raise InvalidArguments(f'the value "{given}" stands nowhere: write `:{given}` for it')
    return "".join(
        "\\:" if sign == ":" and position not in places else sign
        for position, sign in enumerate(sql)
    )


def _dialect(name: str) -> str | None:
    from sqlglot.dialects.dialect import Dialect

    found = _DIALECTS.get(name, name)
    return found if Dialect.get(found) is not None else None
