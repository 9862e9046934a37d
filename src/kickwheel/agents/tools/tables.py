"""The tables of a database, told within a number of characters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA_CHARS = 4_000
"""Characters that tables may take in the description of a tool: about 1,000 tokens in every
request to the model."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column."""

    name: str
    kind: str
    """Its type, as the database writes it."""
    note: str
    """`pk`, what it refers to, `not null`: whatever helps to write a statement."""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view."""

    name: str
    columns: tuple[Column, ...]
    comment: str = ""
    view: bool = False


def tables(connection: "Connection") -> list[Table]:
    """The tables and views of the default schema, by name."""
    from sqlalchemy import inspect
    from sqlalchemy.engine.reflection import ObjectKind

    inspector = inspect(connection)
    views = set(inspector.get_view_names())
    keys = inspector.get_multi_pk_constraint(kind=ObjectKind.ANY)
    foreign = inspector.get_multi_foreign_keys(kind=ObjectKind.ANY)
    comments: Mapping[Any, Any] = {}
    if inspector.dialect.supports_comments:
        comments = inspector.get_multi_table_comment(kind=ObjectKind.ANY)
    found: list[Table] = []
    for where, columns in inspector.get_multi_columns(kind=ObjectKind.ANY).items():
        name = where[1]
        key: Mapping[str, Any] = keys.get(where) or {}
        primary = set(key.get("constrained_columns") or ())
        refers = {
            own: f"→ {link['referred_table']}.{there}"
            for link in foreign.get(where) or ()
            for own, there in zip(
                link["constrained_columns"], link["referred_columns"], strict=False
            )
        }
        comment = (comments.get(where) or {}).get("text") or ""
        read = tuple(_column(column, primary, refers) for column in columns)
        found.append(Table(name, read, comment, name in views))
    return sorted(found, key=lambda table: table.name)


def summary(known: Sequence[Table], most: int) -> str:
    """The tables in at most `most` characters: with types if they fit, else without, else names."""
    if not known:
        return "There are no tables yet."
    typed = [
        f"{t.name}({', '.join(' '.join(filter(None, _typed(c))) for c in t.columns)})"
        for t in known
    ]
    named = [f"{t.name}({', '.join(c.name for c in t.columns)})" for t in known]
    for lines in (typed, named):
        text = "Tables:\n" + "\n".join(lines)
        if len(text) <= most:
            return text
    names = [table.name for table in known]
    text = f"Tables: {', '.join(names)}"
    while len(text) > most and names:
        names.pop()
        text = f"Tables: {', '.join(names)} and {len(known) - len(names)} more"
    return text


def described(table: Table) -> str:
    """A table with all that is known of it, a line a column."""
    lines = [
        f"  {column.name} {column.kind} {column.note}".rstrip()
        + (f"  -- {column.comment}" if column.comment else "")
        for column in table.columns
    ]
    kind = "view" if table.view else "table"
    about = f"  -- {table.comment}" if table.comment else ""
    return "\n".join([f"{kind} {table.name}{about}", *lines])


def _typed(column: Column) -> tuple[str, str, str]:
    return column.name, column.kind.lower(), column.note.replace("not null", "").strip()


def _column(said: Any, primary: set[str], refers: dict[str, str]) -> Column:
    name = said["name"]
    notes = ["pk" if name in primary else "", refers.get(name, "")]
    if not said.get("nullable", True) and name not in primary:
        notes.append("not null")
    comment = said.get("comment") or ""
    return Column(name, _kind(said["type"]), " ".join(filter(None, notes)), comment)


def _kind(kind: Any) -> str:
    """The type as the database writes it; SQLAlchemy cannot write those that it does not know."""
    try:
        return "" if str(kind) == "NULL" else str(kind)
    except Exception:
        return type(kind).__name__
