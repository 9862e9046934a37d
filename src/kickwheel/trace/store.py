"""Traces and what people said of them, in the store's database.

A trace that is added whole never changes; one that comes in pieces grows (`pieces`). Feedback is
written beside it and joined when a trace is read. Lists are read from columns, never from the
traces' bytes. What is written passes `core.redact` here, so that no way into the store goes around
it.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from kickwheel.core import redact
from kickwheel.core.errors import UsageError
from kickwheel.core.store import EVERYTHING, Sight, Store
from kickwheel.core.store.database import Connection, Database
from kickwheel.records import Feedback, Trace, genai, wire
from kickwheel.trace import pieces
from kickwheel.trace.gathered import LATEST_NS, Arrival, named, question, tokens

BATCH = 500
"""Traces in one transaction, and in one reading, at most."""
REMEMBERED = 1000
"""Traces that come in pieces of which the placeholders are known by heart: later spans give the
same value the same one. In others, what comes later gets new ones."""

_SUMMARY = (
    "id, workload, source, start_ns, duration_ns, model, error, spans, input_tokens, "
    "output_tokens, question, tenant, asker"
)
_WHOLE = "id, body, seq, start_ns, tenant, asker"
_ADD = f"INSERT INTO trace ({_SUMMARY}, body) VALUES ({', '.join('?' * 14)}) ON CONFLICT DO NOTHING"
_LAST = "SELECT body FROM feedback WHERE trace = t.id ORDER BY seq DESC LIMIT 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A line of a list of traces."""

    id: str
    workload: str
    source: str
    start_ns: int
    """Unix time, nanoseconds."""
    duration_ns: int
    model: str
    """What answered, as it names itself; empty where no model was asked."""
    error: str | None
    spans: int
    input_tokens: int
    output_tokens: int
    question: str
    """The beginning of the last thing that the user said."""
    verdict: str | None
    """The last verdict, `good` or `bad`."""
    tenant: str
    """Whose it is; empty where it is the house's own."""
    user: str
    """Who asked; empty where that is not known."""
    cursor: str
    """`list(before=…)` with it goes on behind this line."""


class Traces:
    """The traces of one store; every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self.folder = store.folder
        """The store's folder."""
        self._database = store.database
        self._joining = threading.Lock()
        self._redactions: OrderedDict[str, redact.Redaction] = OrderedDict()

    def add(self, traces: Iterable[Trace]) -> int:
        """Keeps the traces with the feedback that they bring, and says how many were new.

        A trace whose id is known is left as it is, so adding the same again changes nothing.
        Written in transactions of up to `BATCH`.

        Raises:
            StoreError: the disk is full, or another process held the store for too long; the
                batches before are kept, and adding all again goes on.
        """
        added = 0
        source = iter(traces)
        while batch := [_row(redact.trace(trace)) for trace in islice(source, BATCH)]:
            added += self._database.write(partial(_insert, batch=batch))
        return added

    def join(self, arrivals: Sequence[Arrival]) -> pieces.Joined:
        """Puts spans to their traces, known or new.

        Spans may come in any order, late, and again: a span whose id is known in its trace is left
        as it is. A tenant's spans are not put to a trace of others. All are written together or not
        at all.

        Raises:
            StoreError: the disk is full, or another process held the store for too long; nothing
                was written.
        """
        with self._joining:
            while True:
                given = pieces.given(self._database, [arrival.id for arrival in arrivals])
                clean = [self._clean(arrival, given.get(arrival.id, {})) for arrival in arrivals]
                try:
                    done: pieces.Joined = self._database.write(partial(pieces.add, arrivals=clean))
                    return done
                except pieces.Meanwhile:
                    continue

    def get(self, identity: str, sight: Sight = EVERYTHING) -> Trace:
        """The trace with this id, or the only one whose id begins so, with its feedback.

        Args:
            sight: only among those that it shows.
        Raises:
            UsageError: there is none, or several begin so.
        """
        return next(_joined(self._database, [self._row(identity, _WHOLE, sight)]))

    def summary(self, identity: str, sight: Sight = EVERYTHING) -> Summary:
        """The trace's line in a list, found as `get` finds it, without reading its spans.

        Raises:
            UsageError: there is none, or several begin so.
        """
        return _summary(self._row(identity, f"{_SUMMARY}, ({_LAST}), seq", sight))

    def steps(
        self,
        identity: str,
        parent: str | None = None,
        *,
        limit: int = 100,
        after: str | None = None,
    ) -> list[pieces.Step]:
        """A level of a trace, by start: of one with many spans only these are read.

        Args:
            identity: the trace's whole id.
            parent: the spans right below this one; by default the root, and spans whose parent
                is not there.
            after: the `cursor` of the last step of the page before.
        Raises:
            UsageError: there is no such trace, or `after` is no cursor.
        """
        position = (-(2**63), 0) if after is None else _position(after)
        body, seq = self._row(identity, "body, seq")
        trace = wire.from_bytes(body, Trace)
        if trace.spans:
            return pieces.steps_of(trace, parent, limit, position)
        return pieces.steps(self._database, seq, parent, limit, position)

    def list(
        self,
        workload: str | None = None,
        *,
        sight: Sight = EVERYTHING,
        limit: int = 50,
        before: str | None = None,
    ) -> list[Summary]:
        """The newest traces, newest first.

        Args:
            workload: only this one's; `None` for all.
            sight: only those that it shows.
            before: the `cursor` of the last line of the page before.
        Raises:
            UsageError: `before` is no cursor.
        """
        position = None if before is None else _position(before)
        where, values = _conditions(workload, sight, "<", position)
        rows = self._database.read(
            f"SELECT {_SUMMARY}, ({_LAST}), seq FROM trace AS t{where} "
            "ORDER BY start_ns DESC, seq DESC LIMIT ?",
            (*values, limit),
        )
        return [_summary(row) for row in rows]

    def all(self, workload: str | None = None, *, sight: Sight = EVERYTHING) -> Iterator[Trace]:
        """Every trace that `sight` shows with its feedback, oldest first; those of one moment as
        they were added.

        Of a workload that is an agent's name, also those in which the agent worked for another one.

        Traces that are added meanwhile may or may not be among them.
        """
        position: tuple[int, int] | None = None
        while True:
            where, values = _conditions(workload, sight, ">", position, inside=True)
            rows = self._database.read(
                f"SELECT {_WHOLE} FROM trace{where} ORDER BY start_ns, seq LIMIT ?",
                (*values, BATCH),
            )
            yield from _joined(self._database, rows)
            if len(rows) < BATCH:
                return
            position = (rows[-1][3], rows[-1][2])

    def feedback(self, identity: str, feedback: Feedback) -> str:
        """Keeps what somebody said of a trace, and returns the trace's whole id.

        Raises:
            UsageError: there is no such trace, or several begin so.
        """
        trace = self.get(identity).id
        said = redact.Redaction().feedback(feedback)
        self._database.write(lambda connection: pieces.say(connection, trace, [said]))
        return trace

    def count(self, workload: str | None = None, *, sight: Sight = EVERYTHING) -> int:
        """How many traces there are."""
        where, values = _conditions(workload, sight, ">", None)
        query = f"SELECT COUNT(*) FROM trace{where}"
        return int(self._database.read(query, values)[0][0])

    def fingerprint(self, workload: str | None = None) -> str:
        """Other than before, once a trace, a span or feedback was added."""
        where, values = _conditions(workload, EVERYTHING, ">", None, inside=True)
        last = ", ".join(f"(SELECT MAX(seq) FROM {table})" for table in ("feedback", "span"))
        query = f"SELECT COUNT(*), MAX(seq), {last} FROM trace{where}"
        return "-".join(str(n or 0) for n in self._database.read(query, values)[0])

    def _row(self, identity: str, columns: str, sight: Sight = EVERYTHING) -> tuple[Any, ...]:
        wanted = identity.strip().lower()
        theirs, values = sight.where()
        rows: list[tuple[Any, ...]] = self._database.read(
            f"SELECT id, {columns} FROM trace AS t WHERE id >= ? AND id < ? AND {theirs} "
            "ORDER BY id LIMIT 2",
            (wanted, wanted + "~", *values),
        )
        if not wanted or not rows:
            raise UsageError(f'no trace "{identity}" in this store: `kickwheel traces` lists them')
        if len(rows) > 1 and rows[0][0] != wanted:
            raise UsageError(f'several traces begin with "{identity}". Give more of the id.')
        return rows[0][1:]

    def _clean(self, arrival: Arrival, given: Mapping[str, int]) -> pieces.Clean:
        redaction = self._redactions.setdefault(arrival.id, redact.Redaction())
        self._redactions.move_to_end(arrival.id)
        if len(self._redactions) > REMEMBERED:
            self._redactions.popitem(last=False)
        redaction.names.after(given)
        said = tuple(one for several in arrival.feedback.values() for one in several)
        trace = redaction.trace(
            Trace(id=arrival.id, workload="", spans=arrival.spans, feedback=said)
        )
        redaction.rest()
        left = iter(trace.feedback)
        feedback = {
            span: tuple(next(left) for _ in several) for span, several in arrival.feedback.items()
        }
        return pieces.Clean(
            arrival=replace(arrival, spans=trace.spans, feedback=feedback),
            before=given,
            after=redaction.names.given,
        )


def _joined(database: Database, rows: Sequence[tuple[Any, ...]]) -> Iterator[Trace]:
    if not rows:
        return
    said: dict[str, list[Feedback]] = {}
    found = database.read(
        f"SELECT trace, body FROM feedback WHERE trace IN ({', '.join('?' * len(rows))}) "
        "ORDER BY seq",
        [row[0] for row in rows],
    )
    for identity, body in found:
        said.setdefault(identity, []).append(wire.from_bytes(body, Feedback))
    for identity, body, seq, _, tenant, user in rows:
        trace = wire.from_bytes(body, Trace)
        spans = trace.spans or pieces.spans(database, seq)
        feedback = tuple(said.get(identity, ()))
        yield replace(trace, spans=spans, feedback=feedback, tenant=tenant, user=user)


def _insert(connection: Connection, batch: list[tuple[tuple[Any, ...], Trace, set[str]]]) -> int:
    added = 0
    for row, trace, agents in batch:
        if connection.execute(_ADD, row).rowcount:
            added += 1
            if trace.feedback:
                pieces.say(connection, row[0], trace.feedback)
            if pieces.is_large(trace):
                pieces.spread(connection, trace)
            for agent in agents:
                connection.execute("INSERT INTO took_part VALUES (?, ?)", (agent, row[0]))
    return added


def _row(trace: Trace) -> tuple[tuple[Any, ...], Trace, set[str]]:
    """The trace's row, the trace, and the agents in it that worked for another one."""
    root = trace.spans[0]
    models = [span for span in trace.spans if span.kind == "model"]
    counted = models or [root]
    bare = replace(trace, feedback=()) if trace.feedback else trace
    row = (
        trace.id,
        trace.workload,
        trace.source,
        root.start_ns,
        max(span.end_ns for span in trace.spans) - root.start_ns,
        named(counted[-1]),
        next((span.error for span in trace.spans if span.error is not None), None),
        len(trace.spans),
        sum(tokens(span, genai.INPUT_TOKENS) for span in counted),
        sum(tokens(span, genai.OUTPUT_TOKENS) for span in counted),
        question(trace.spans),
        trace.tenant,
        trace.user,
        wire.to_bytes(bare),
    )
    agents = {span.name for span in trace.spans[1:] if span.kind == "agent"} - {trace.workload}
    return row, trace, agents


def _conditions(
    workload: str | None,
    sight: Sight,
    beside: str,
    position: tuple[int, int] | None,
    *,
    inside: bool = False,
) -> tuple[str, tuple[Any, ...]]:
    """`inside`: an agent's traces are also those in which it worked for another one."""
    theirs, seen = sight.where()
    conditions: list[str] = [theirs]
    values: list[Any] = [*seen]
    if workload is not None:
        if inside:
            named = "id IN (SELECT trace FROM took_part WHERE agent = ?)"
            conditions.append(f"(workload = ? OR {named})")
            values += [workload, workload]
        else:
            conditions.append("workload = ?")
            values.append(workload)
    if position is not None:
        conditions.append(f"(start_ns, seq) {beside} (?, ?)")
        values.extend(position)
    return " WHERE " + " AND ".join(conditions), tuple(values)


def _position(cursor: str) -> tuple[int, int]:
    start, _, seq = cursor.rpartition("-")
    try:
        position = int(start), int(seq)
    except ValueError:
        position = (LATEST_NS + 1, 0)
    if not all(-LATEST_NS <= number <= LATEST_NS for number in position):
        raise UsageError(f'"{cursor}" is no cursor: take it from the last line of a list')
    return position


def _summary(row: tuple[Any, ...]) -> Summary:
    identity, workload, source, start_ns, duration_ns, model, error, spans = row[:8]
    return Summary(
        id=identity,
        workload=workload,
        source=source,
        start_ns=start_ns,
        duration_ns=duration_ns,
        model=model,
        error=error,
        spans=spans,
        input_tokens=row[8],
        output_tokens=row[9],
        question=row[10],
        tenant=row[11],
        user=row[12],
        verdict=None if row[13] is None else wire.from_bytes(row[13], Feedback).verdict,
        cursor=f"{start_ns}-{row[14]}",
    )
