"""What windows left out, kept whole: messages that can be read again, and the cuts themselves.

A message is named by all that was said up to it (`cut.chain`), and knows the name of the one before
it: so a conversation that was edited in the middle never shows what belongs to another version of
it. Kept as it was said, secrets and all, since an agent works with it; it goes after `DAYS` without
use, and when the person is forgotten.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from kickwheel.agents.caller import caller
from kickwheel.agents.memory.cut import Cut
from kickwheel.agents.memory.tables import prepare
from kickwheel.core.store import Database
from kickwheel.core.store.database import Connection
from kickwheel.records import Message, wire

DAYS = 30
"""Days that a message is kept after it was left out last."""
_ASK = 400
"""Names in one query at most."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that a window left out."""

    role: str
    text: str


class Turns:
    """The kept turns of one store; each caller sees their own."""

    def __init__(self, database: Database) -> None:
        prepare(database)
        self._database = database
        self._sweep()

    def keep(
        self, messages: Sequence[Message], names: Sequence[str], cut: Cut, before: Cut
    ) -> None:
        """Keeps what the cut leaves out, and the cut.

        Args:
            messages: the whole conversation.
            names: their names, `cut.chain`.
            before: the cut that this one takes the place of.
        """
        who = caller()
        now = time.time_ns()
        trimmed = [trim.at for trim in cut.trims]
        rows = [
            (
                who.tenant, who.user, names[i], names[i - 1] if i else "", messages[i].role,
                _whole(text_of(messages[i])), now,
            )
            for i in sorted({*cut.dropped, *trimmed})
        ]  # fmt: skip
        key = (who.tenant, who.user)

        def write(connection: Connection) -> None:
            connection.executemany(
                "INSERT INTO memory_turn (tenant, person, id, before, role, text, time_ns) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (tenant, person, id) DO UPDATE SET time_ns = excluded.time_ns",
                rows,
            )
            connection.execute(
                "INSERT INTO memory_cut (tenant, person, id, body, time_ns) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (tenant, person, id) DO UPDATE SET body = excluded.body, "
                "time_ns = excluded.time_ns",
                (*key, names[cut.covers - 1], wire.to_bytes(cut), now),
            )
            if before.covers and before.covers != cut.covers:
                connection.execute(
                    "DELETE FROM memory_cut WHERE tenant = ? AND person = ? AND id = ?",
                    (*key, names[before.covers - 1]),
                )

        self._database.write(write)

    def cut(self, names: Sequence[str]) -> Cut | None:
        """The cut that was made last of a conversation that this one goes on from."""
        who = caller()
        for stop in range(len(names), 0, -_ASK):
            asked = names[max(0, stop - _ASK) : stop]
            marks = ", ".join("?" * len(asked))
            rows = self._database.read(
                "SELECT id, body FROM memory_cut WHERE tenant = ? AND person = ? "
                f"AND id IN ({marks})",
                (who.tenant, who.user, *asked),
            )
            if rows:
                place = {name: i for i, name in enumerate(asked)}
                latest = max(rows, key=lambda row: place[row[0]])
                return wire.from_bytes(bytes(latest[1]), Cut)
        return None

    def one(self, name: str) -> Kept | None:
        """The kept message of this name; `None` where the caller has none."""
        who = caller()
        rows = self._database.read(
            "SELECT role, text FROM memory_turn WHERE tenant = ? AND person = ? AND id = ?",
            (who.tenant, who.user, name),
        )
        return Kept(*rows[0]) if rows else None

    def until(self, name: str) -> list[Kept]:
        """The kept messages up to the one of this name, oldest first; empty where there is none.

        A message that stayed in the window, as the instructions do, ends the way back, unless
        others before it were left out too.
        """
        who = caller()
        rows = self._database.read(
            "WITH RECURSIVE way (id, before, role, text, depth) AS ("
            "SELECT id, before, role, text, 0 FROM memory_turn "
            "WHERE tenant = ? AND person = ? AND id = ? "
            "UNION ALL SELECT t.id, t.before, t.role, t.text, way.depth + 1 "
            "FROM memory_turn AS t JOIN way ON t.id = way.before "
            "WHERE t.tenant = ? AND t.person = ?) "
            "SELECT role, text FROM way ORDER BY depth DESC",
            (who.tenant, who.user, name, who.tenant, who.user),
        )
        return [Kept(*row) for row in rows]

    def _sweep(self) -> None:
        old = time.time_ns() - DAYS * 86_400 * 1_000_000_000

        def write(connection: Connection) -> None:
            connection.execute("DELETE FROM memory_turn WHERE time_ns < ?", (old,))
            connection.execute("DELETE FROM memory_cut WHERE time_ns < ?", (old,))

        self._database.write(write)


def text_of(message: Message) -> str:
    """What the message says, its calls included."""
    calls = [f"called {call.name}{call.arguments}" for call in message.tool_calls]
    return "\n".join(part for part in (message.content or "", *calls) if part)


def _whole(text: str) -> str:
    """The text without half surrogate pairs, which no database takes."""
    return text.encode("utf-8", "replace").decode()
