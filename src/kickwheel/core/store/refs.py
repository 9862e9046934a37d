"""Refs: named pointers such as `concierge/specialist` → `adapter/3f2a…`.

Every move is kept, so that a rollback knows the way back.
"""

import time
from dataclasses import dataclass

from kickwheel.core.errors import UsageError
from kickwheel.core.store.database import Connection, Database

_BACK = "rollback: "


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a ref."""

    ref: str
    target: str | None
    """`kind/id`; `None` where the ref was taken back to nothing."""
    why: str
    time_ns: int

    @property
    def is_rollback(self) -> bool:
        """Whether it took a promotion back."""
        return self.why.startswith(_BACK)


class Refs:
    """The refs of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, ref: str) -> str | None:
        """Where the ref points, `kind/id`; `None` where nothing was promoted yet."""
        found = self._database.read(
            "SELECT target FROM move WHERE ref = ? ORDER BY seq DESC LIMIT 1", (ref,)
        )
        return found[0][0] if found else None

    def move(self, ref: str, target: str | None, *, expected: str | None, why: str) -> None:
        """Points the ref at `target`, if it still points at `expected`.

        Raises:
            UsageError: somebody moved it in between; nothing was changed.
        """

        def write(connection: Connection) -> None:
            found = connection.execute(
                "SELECT target FROM move WHERE ref = ? ORDER BY seq DESC LIMIT 1", (ref,)
            ).fetchone()
            current = None if found is None else found[0]
            if current != expected:
                raise UsageError(
                    f"{ref} now points at {current or 'nothing'}, not at {expected or 'nothing'}: "
                    "it was moved meanwhile. Compare again."
                )
            connection.execute(
                "INSERT INTO move (ref, target, why, time_ns) VALUES (?, ?, ?, ?)",
                (ref, target, why, time.time_ns()),
            )

        self._database.write(write)

    def back(self, ref: str, *, why: str) -> str | None:
        """Takes the last promotion back, and returns where the ref points now.

        Rollbacks one after another go further back; `None` is the time before the first.

        Raises:
            UsageError: there is nothing before.
        """
        stack: list[str | None] = [None]
        for move in self.history(ref):
            if len(stack) > 1 and move.is_rollback:
                stack.pop()
            else:
                stack.append(move.target)
        if len(stack) == 1:
            raise UsageError(
                f"{ref}: there is nothing before where it points now, so nothing to go back to. "
                "`kickwheel promote` moves it on"
            )
        self.move(ref, stack[-2], expected=stack[-1], why=f"{_BACK}{why}")
        return stack[-2]

    def history(self, ref: str) -> list[Move]:
        """Every move of the ref, oldest first."""
        rows = self._database.read(
            "SELECT ref, target, why, time_ns FROM move WHERE ref = ? ORDER BY seq", (ref,)
        )
        return [Move(*row) for row in rows]

    def names(self) -> list[str]:
        """Every ref that ever pointed somewhere."""
        rows = self._database.read("SELECT DISTINCT ref FROM move ORDER BY ref")
        return [row[0] for row in rows]
