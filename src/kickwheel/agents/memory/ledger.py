"""All facts of a store: learned, superseded, never rewritten; forgotten only when asked to.

A fact that no longer holds is closed, not deleted, so that «what did we believe in May» has an
answer. Whoever reads gives a scope, and nothing outside it is looked at.
"""

import hashlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kickwheel.agents.memory.alike import near, plain
from kickwheel.agents.memory.fact import Candidate, Change, Fact, Scope, Turn
from kickwheel.agents.memory.tables import prepare, wipe
from kickwheel.core.errors import UsageError
from kickwheel.core.store import Database
from kickwheel.core.store.database import Connection
from kickwheel.models import embedding
from kickwheel.records import wire

SAID_CHARS = 2_000
"""Characters of the message that a fact was learned from which are kept with it."""

COLUMNS = (
    "id, tenant, person, agent, session, subject, kind, slot, text, valid_from, valid_to, "
    "source_trace, source_span, origin, said"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was deleted of a person, and what was not."""

    facts: int
    turns: int
    """Messages that windows had kept, and cuts."""
    traces: tuple[str, ...]
    """Ids of traces that the facts were learned from. Traces are records of what happened and stay
    as they are, with what the person said in them; so do datasets that were made of them."""


class Ledger:
    """The facts of one store; every method may be called from any thread."""

    def __init__(self, database: Database) -> None:
        prepare(database)
        self._database = database

    @property
    def database(self) -> Database:
        """Where they stand."""
        return self._database

    def note(
        self,
        candidates: Sequence[Candidate],
        turns: Sequence[Turn],
        scope: Scope,
        *,
        trace: str = "",
        span: str = "",
    ) -> list[Change]:
        """Adds what is new, supersedes what no longer holds, ignores what is known; all or nothing.

        Args:
            turns: what the candidates' `turn` counts in.
            trace, span: where they were learned.
        """
        vectors = _embedded([candidate.text for candidate in candidates])
        now = time.time_ns()

        def write(connection: Connection) -> list[Change]:
            changes = []
            for position, candidate in enumerate(candidates):
                turn = turns[candidate.turn]
                fact = Fact(
                    id=uuid.uuid4().hex[:12],
                    scope=scope,
                    subject=candidate.subject,
                    kind=candidate.kind,
                    text=candidate.text,
                    slot=candidate.slot,
                    # Later than the one before it, whatever the clock's grain is.
                    valid_from=now + position,
                    trace=trace,
                    span=span,
                    origin=turn.role,
                    said=turn.text[:SAID_CHARS],
                )
                changes.append(_noted(connection, fact, candidate.replaces, vectors[position]))
            return changes

        return list(self._database.write(write)) if candidates else []

    def of(self, tenant: str, user: str) -> list[Fact]:
        """Every fact of one person, of all agents and sessions, past ones too; oldest first."""
        return self._facts("f.tenant = ? AND f.person = ? ORDER BY f.seq", (tenant, user))

    def why(self, identity: str) -> Fact:
        """The fact with this id, or the only one whose id begins so: its `said`, `trace`, `span`
        and `origin` tell where it came from.

        Raises:
            UsageError: there is none, or several begin so.
        """
        low = identity.strip().lower()
        found = self._facts("f.id >= ? AND f.id < ? ORDER BY f.id LIMIT 2", (low, f"{low}~"))
        if not low or not found:
            raise UsageError(
                f'no fact "{identity}" in this store: `kickwheel memory list` shows those of a user'
            )
        if len(found) > 1:
            raise UsageError(f'several facts begin with "{identity}". Give more of the id.')
        return found[0]

    def export(self, user: str, *, tenant: str = "") -> dict[str, Any]:
        """All that is known of a person, as plain values: facts, past ones too, and kept turns."""
        turns = self._database.read(
            "SELECT role, text, time_ns FROM memory_turn WHERE tenant = ? AND person = ? "
            "ORDER BY time_ns, id",
            (tenant, user),
        )
        return {
            "tenant": tenant,
            "user": user,
            "facts": [wire.to_plain(fact) for fact in self.of(tenant, user)],
            "turns": [
                {"role": role, "text": text, "time_ns": time_ns} for role, text, time_ns in turns
            ],
        }

    def state(self, scope: Scope) -> str:
        """A word that changes with the facts of a scope."""
        where, values = within(scope)
        told = "COUNT(*), COUNT(f.valid_to), COALESCE(MAX(f.valid_from), 0)"
        (row,) = self._database.read(f"SELECT {told} FROM memory_fact AS f WHERE {where}", values)
        return " ".join(map(str, row))

    def by_number(self, numbers: Sequence[int]) -> dict[int, Fact]:
        """Facts by their number in the table."""
        if not numbers:
            return {}
        marks = ", ".join("?" * len(numbers))
        sql = f"SELECT f.seq, {_named()} FROM memory_fact AS f WHERE f.seq IN ({marks})"
        return {row[0]: _fact(row[1:]) for row in self._database.read(sql, tuple(numbers))}

    def forget(self, user: str, *, tenant: str = "", fact: str | None = None) -> Forgotten:
        """Deletes what is known of a person: facts with words and vectors, and kept turns.

        Args:
            fact: the id of the one fact to delete; by default all, and the kept turns.
        Raises:
            UsageError: the person has no such fact.
        """
        found = self.of(tenant, user)
        where, values = "tenant = ? AND person = ?", [tenant, user]
        turns = 0
        if fact is not None:
            found = [known for known in found if known.id == self.why(fact).id]
            if not found:
                raise UsageError(
                    f'"{user}" has no fact "{fact}": `kickwheel memory list` shows theirs'
                )
            where, values = f"{where} AND id = ?", [*values, found[0].id]
        else:
            turns = wipe(self._database, "memory_turn", where, values)
            turns += wipe(self._database, "memory_cut", where, values)
        gone = wipe(self._database, "memory_fact", where, values)
        traces = tuple(dict.fromkeys(known.trace for known in found if known.trace))
        return Forgotten(facts=gone, turns=turns, traces=traces)

    def _facts(self, where: str, values: Sequence[Any]) -> list[Fact]:
        sql = f"SELECT {_named()} FROM memory_fact AS f WHERE {where}"
        return [_fact(row) for row in self._database.read(sql, values)]


def within(scope: Scope) -> tuple[str, tuple[str, ...]]:
    """The condition on `memory_fact AS f` that only what may be seen meets, with its values."""
    return (
        "f.tenant = ? AND f.person = ? AND f.agent IN ('', ?) AND f.session IN ('', ?)",
        (scope.tenant, scope.user, scope.agent, scope.session),
    )


def _noted(connection: Connection, fact: Fact, replaces: str, vector: bytes | None) -> Change:
    scope = fact.scope
    rows = connection.execute(
        "SELECT id, slot, text, subject FROM memory_fact WHERE tenant = ? AND person = ? "
        "AND agent = ? AND session = ? AND valid_to IS NULL",
        (scope.tenant, scope.user, scope.agent, scope.session),
    ).fetchall()
    for identity, _, text, subject in rows:
        if subject == fact.subject and near(text, fact.text):
            return Change(op="ignore", text=fact.text, id=identity, why="known already")
    old = next((row[0] for row in rows if row[0] == replaces), "") or next(
        (row[0] for row in rows if fact.slot and row[1] == fact.slot and row[3] == fact.subject), ""
    )
    if old:
        connection.execute(
            "UPDATE memory_fact SET valid_to = ? WHERE id = ?", (fact.valid_from, old)
        )
    connection.execute(
        f"INSERT INTO memory_fact ({COLUMNS}, embedding, hash) "
        f"VALUES ({', '.join('?' * 17)})",
        (
            fact.id, scope.tenant, scope.user, scope.agent, scope.session, fact.subject, fact.kind,
            fact.slot, fact.text, fact.valid_from, None, fact.trace, fact.span, fact.origin,
            fact.said, vector, hashlib.sha256(plain(fact.text).encode()).hexdigest(),
        ),
    )  # fmt: skip
    return Change(op="supersede" if old else "add", text=fact.text, id=fact.id, replaced=old)


def _embedded(texts: Sequence[str]) -> list[bytes | None]:
    """A vector for each text, as float32; none where no embedding model is installed."""
    vectors = embedding.embed(texts) if texts else None
    if vectors is None:
        return [None] * len(texts)
    return [vector.tobytes() for vector in vectors]


def _named() -> str:
    return ", ".join(f"f.{column}" for column in COLUMNS.split(", "))


def _fact(row: Sequence[Any]) -> Fact:
    return Fact(
        id=row[0],
        scope=Scope(tenant=row[1], user=row[2], agent=row[3], session=row[4]),
        subject=row[5],
        kind=row[6],
        slot=row[7],
        text=row[8],
        valid_from=row[9],
        valid_to=row[10],
        trace=row[11],
        span=row[12],
        origin=row[13],
        said=row[14],
    )
