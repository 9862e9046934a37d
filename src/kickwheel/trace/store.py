"""Traces and what people said of them, in the store's database.

A trace is written once and never changes; feedback is written beside it and joined when a trace is
read. Lists are read from columns, never from the traces' bytes. What is written passes
`core.redact` here, so that no way into the store goes around it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from kickwheel.core import redact
from kickwheel.core.errors import UsageError
from kickwheel.core.store import Store
from kickwheel.core.store.database import Connection, Database
from kickwheel.records import Feedback, Message, Span, Trace, genai, wire

BATCH = 500
"""Traces in one transaction, and in one reading, at most."""
QUESTION_CHARS = 200

_SUMMARY = (
    "id, workload, source, start_ns, duration_ns, model, error, spans, input_tokens, "
    "output_tokens, question"
)
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
    cursor: str
    """`list(before=…)` with it goes on behind this line."""


class Traces:
    """The traces of one store; every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self.folder = store.folder
        """The store's folder."""
        self._database = store.database

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

    def get(self, identity: str) -> Trace:
        """The trace with this id, or the only one whose id begins so, with its feedback.

        Raises:
            UsageError: there is none, or several begin so.
        """
        wanted = identity.strip().lower()
        rows = self._database.read(
            "SELECT id, body FROM trace WHERE id >= ? AND id < ? ORDER BY id LIMIT 2",
            (wanted, wanted + "~"),
        )
        if not wanted or not rows:
            raise UsageError(f'no trace "{identity}" in this store')
        if len(rows) > 1 and rows[0][0] != wanted:
            raise UsageError(f'several traces begin with "{identity}". Give more of the id.')
        return next(_joined(self._database, rows[:1]))

    def list(
        self, workload: str | None = None, *, limit: int = 50, before: str | None = None
    ) -> list[Summary]:
        """The newest traces, newest first.

        Args:
            workload: only this one's; `None` for all.
            before: the `cursor` of the last line of the page before.
        Raises:
            UsageError: `before` is no cursor.
        """
        where, values = _conditions(workload, "<", None if before is None else _position(before))
        rows = self._database.read(
            f"SELECT seq, {_SUMMARY}, ({_LAST}) FROM trace AS t{where} "
            "ORDER BY start_ns DESC, seq DESC LIMIT ?",
            (*values, limit),
        )
        return [_summary(row) for row in rows]

    def all(self, workload: str | None = None) -> Iterator[Trace]:
        """Every trace with its feedback, oldest first; those of one moment as they were added.

        Of a workload that is an agent's name, also those in which the agent worked for another one.

        Traces that are added meanwhile may or may not be among them.
        """
        position: tuple[int, int] | None = None
        while True:
            where, values = _conditions(workload, ">", position, inside=True)
            rows = self._database.read(
                f"SELECT id, body, start_ns, seq FROM trace{where} ORDER BY start_ns, seq LIMIT ?",
                (*values, BATCH),
            )
            yield from _joined(self._database, rows)
            if len(rows) < BATCH:
                return
            position = rows[-1][2:]

    def feedback(self, identity: str, feedback: Feedback) -> str:
        """Keeps what somebody said of a trace, and returns the trace's whole id.

        Raises:
            UsageError: there is no such trace, or several begin so.
        """
        trace = self.get(identity).id
        said = redact.Redaction().feedback(feedback)
        self._database.write(lambda connection: _say(connection, trace, [said]))
        return trace

    def count(self, workload: str | None = None) -> int:
        """How many traces there are."""
        where, values = _conditions(workload, ">", None)
        query = f"SELECT COUNT(*) FROM trace{where}"
        return int(self._database.read(query, values)[0][0])

    def fingerprint(self, workload: str | None = None) -> str:
        """Other than before, once a trace or feedback was added."""
        where, values = _conditions(workload, ">", None, inside=True)
        query = f"SELECT COUNT(*), MAX(seq), (SELECT MAX(seq) FROM feedback) FROM trace{where}"
        return "-".join(str(n or 0) for n in self._database.read(query, values)[0])


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
    for row in rows:
        trace = wire.from_bytes(row[1], Trace)
        yield replace(trace, feedback=tuple(said.get(row[0], ())))


def _insert(
    connection: Connection, batch: list[tuple[tuple[Any, ...], tuple[Feedback, ...], set[str]]]
) -> int:
    added = 0
    for row, feedback, agents in batch:
        done = connection.execute(
            f"INSERT INTO trace ({_SUMMARY}, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING",
            row,
        )
        if done.rowcount:
            added += 1
            _say(connection, row[0], feedback)
            for agent in agents:
                connection.execute("INSERT INTO took_part VALUES (?, ?)", (agent, row[0]))
    return added


def _say(connection: Connection, trace: str, feedback: Iterable[Feedback]) -> None:
    connection.executemany(
        "INSERT INTO feedback (trace, body) VALUES (?, ?)",
        [(trace, wire.to_bytes(said)) for said in feedback],
    )


def _row(trace: Trace) -> tuple[tuple[Any, ...], tuple[Feedback, ...], set[str]]:
    """The trace's row, what was said of it, and the agents in it that worked for another one."""
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
        _named(counted),
        next((span.error for span in trace.spans if span.error is not None), None),
        len(trace.spans),
        sum(_tokens(span, genai.INPUT_TOKENS) for span in counted),
        sum(_tokens(span, genai.OUTPUT_TOKENS) for span in counted),
        _question(trace.spans),
        wire.to_bytes(bare),
    )
    agents = {span.name for span in trace.spans[1:] if span.kind == "agent"} - {trace.workload}
    return row, trace.feedback, agents


def _named(spans: list[Span]) -> str:
    last = spans[-1].attributes
    return str(last.get(genai.RESPONSE_MODEL) or last.get(genai.REQUEST_MODEL) or "")


def _tokens(span: Span, name: str) -> int:
    value = span.attributes.get(name, 0)
    return value if isinstance(value, int) else 0


def _question(spans: tuple[Span, ...]) -> str:
    asked: tuple[Message, ...] = next((span.input for span in spans if span.input), ())
    said = [message.content or "" for message in asked if message.role == "user"]
    return " ".join(said[-1][: 2 * QUESTION_CHARS].split())[:QUESTION_CHARS] if said else ""


def _conditions(
    workload: str | None,
    beside: str,
    position: tuple[int, int] | None,
    *,
    inside: bool = False,
) -> tuple[str, tuple[Any, ...]]:
    """`inside`: an agent's traces are also those in which it worked for another one."""
    conditions: list[str] = []
    values: list[Any] = []
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
    return (" WHERE " + " AND ".join(conditions) if conditions else "", tuple(values))


def _position(cursor: str) -> tuple[int, int]:
    start, _, seq = cursor.partition("-")
    try:
        return int(start), int(seq)
    except ValueError:
        raise UsageError(f'"{cursor}" is no cursor: take it from the last line of a list') from None


def _summary(row: tuple[Any, ...]) -> Summary:
    seq, identity, workload, source, start_ns, duration_ns, model, error, spans = row[:9]
    return Summary(
        id=identity,
        workload=workload,
        source=source,
        start_ns=start_ns,
        duration_ns=duration_ns,
        model=model,
        error=error,
        spans=spans,
        input_tokens=row[9],
        output_tokens=row[10],
        question=row[11],
        verdict=None if row[12] is None else wire.from_bytes(row[12], Feedback).verdict,
        cursor=f"{start_ns}-{seq}",
    )
