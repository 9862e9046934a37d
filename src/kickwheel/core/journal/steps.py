"""Finished steps of turns and other computing, by run id and input hash.

A step that is found here is not run again; its result is read back. A run that is started with
other inputs starts over from the first step whose inputs changed, since each step's inputs hold
the results of those before.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from kickwheel.records import wire

if TYPE_CHECKING:
    from kickwheel.core.store.database import Connection, Database

T = TypeVar("T")


class Journal:
    """What was finished, in the store's database."""

    def __init__(self, database: "Database") -> None:
        self._database = database

    def step(self, run: str, name: str, inputs: Any, do: Callable[[], T], kind: type[T]) -> T:
        """The result of `do`, run at most once for this run, name and inputs.

        Args:
            run: what the step belongs to, for example `turn/concierge`.
            name: the step.
            inputs: all that the result depends on, as records or plain values.
            do: the work; its result must be a small record or plain value.
            kind: type of the result, to read it back.
        """
        key = wire.digest(inputs)
        found = self._database.read(
            "SELECT result FROM journal WHERE run = ? AND step = ? AND inputs = ?",
            (run, name, key),
        )
        if found:
            return wire.from_bytes(found[0][0], kind)
        started = time.time()
        result = do()
        row = (run, name, key, wire.to_bytes(result), started, time.time())

        def write(connection: "Connection") -> None:
            connection.execute(
                "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (run, step, inputs) "
                "DO UPDATE SET result = excluded.result, started = excluded.started, "
                "ended = excluded.ended",
                row,
            )

        self._database.write(write)
        return result

    def seconds(self, run: str, name: str, inputs: Any) -> float:
        """How long the finished step took when it ran."""
        rows = self._database.read(
            "SELECT ended - started FROM journal WHERE run = ? AND step = ? AND inputs = ?",
            (run, name, wire.digest(inputs)),
        )
        return float(rows[0][0])
