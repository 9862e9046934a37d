"""Responses as the store keeps them, each with what it was given.

A row belongs to the caller who made it; nobody else sees that it is there.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kickwheel.core.store import Store
from kickwheel.models.caller import Caller
from kickwheel.records import wire
from kickwheel.serve.errors import Refused

KEPT_DAYS = 30
"""Days for which responses can be fetched and gone on from."""

Response = dict[str, Any]
Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """A response in the store."""

    response: Response
    items: Sequence[Item]
    """Its own input, without that of the responses before it."""
    events: Sequence[Item] | None
    """Events of its stream, where somebody may read them again."""


class KeptResponses:
    """The responses of one store; every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._database = store.database

    def add(self, response: Response, items: Sequence[Item], who: Caller) -> None:
        """Keeps a new response, and forgets those that are too old.

        Raises:
            StoreError: the disk is full; nothing was kept.
        """
        row = (
            response["id"],
            who.tenant,
            who.user,
            response["previous_response_id"],
            response["status"],
            response["created_at"],
            wire.to_bytes(response),
            wire.to_bytes(items),
        )
        too_old = int(time.time()) - KEPT_DAYS * 86_400

        def write(connection: Any) -> None:
            connection.execute("DELETE FROM response WHERE created_at < ?", (too_old,))
            connection.execute("INSERT INTO response VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)

        self._database.write(write)

    def settle(self, response: Response, events: Sequence[Item] = ()) -> None:
        """Keeps how the response ended; the first end is the one that counts."""
        row = (
            response["status"],
            wire.to_bytes(response),
            wire.to_bytes(events) if events else None,
            response["id"],
        )
        self._database.write(
            lambda c: c.execute(
                "UPDATE response SET status = ?, body = ?, events = ? "
                "WHERE id = ? AND status = 'in_progress'",
                row,
            )
        )

    def get(self, identity: str, who: Caller) -> KeptResponse:
        """The response of that id.

        Raises:
            Refused: the caller has none of that id (404).
        """
        rows = self._database.read(
            "SELECT body, input, events FROM response WHERE id = ? AND tenant = ? AND asker = ?",
            (identity, who.tenant, who.user),
        )
        if not rows:
            what = f"no response {identity} here: it was not stored, or deleted, or is too old"
            raise Refused(404, what, param="response_id", code="response_not_found")
        body, items, events = rows[0]
        return KeptResponse(
            response=wire.from_bytes(body, dict),
            items=wire.from_bytes(items, list),
            events=None if events is None else wire.from_bytes(events, list),
        )

    def open(self) -> list[Response]:
        """All responses that have not ended, anybody's."""
        rows = self._database.read("SELECT body FROM response WHERE status = 'in_progress'")
        return [wire.from_bytes(body, dict) for (body,) in rows]

    def conversation(self, identity: str, who: Caller) -> list[Item]:
        """All items up to and with the output of that response, oldest first.

        Raises:
            Refused: the caller has none of that id, or one before it was deleted, with
                OpenAI's code, or it still goes on (400).
        """
        rows = self._database.read(
            "WITH RECURSIVE chain (id, previous, status, body, input, depth) AS ("
            "SELECT id, previous, status, body, input, 0 FROM response "
            "WHERE id = ? AND tenant = ? AND asker = ? UNION ALL "
            "SELECT r.id, r.previous, r.status, r.body, r.input, c.depth + 1 "
            "FROM response AS r JOIN chain AS c ON r.id = c.previous "
            "WHERE r.tenant = ? AND r.asker = ?) "
            "SELECT id, previous, status, body, input FROM chain ORDER BY depth DESC",
            (identity, who.tenant, who.user, who.tenant, who.user),
        )
        missing = rows[0][1] if rows else identity
        if missing is not None:
            what = f"no response {missing} here: it was not stored, or deleted, or is too old"
            raise Refused(
                400, what, param="previous_response_id", code="previous_response_not_found"
            )
        items: list[Item] = []
        for name, _, status, body, given in rows:
            if status == "in_progress":
                what = f"response {name} is still in progress; go on from it when it has ended"
                raise Refused(400, what, param="previous_response_id")
            items += wire.from_bytes(given, list)
            items += wire.from_bytes(body, dict)["output"]
        return items

    def delete(self, identity: str, who: Caller) -> None:
        """Forgets the response with its input.

        Raises:
            Refused: the caller has none of that id (404).
        """
        self.get(identity, who)
        self._database.write(lambda c: c.execute("DELETE FROM response WHERE id = ?", (identity,)))
