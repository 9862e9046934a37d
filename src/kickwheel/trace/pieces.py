"""Spans that have rows of their own: those of traces that come in pieces, and of large traces.

Of such a trace the body holds no spans. Its row in the list is brought up to date by what each
piece adds (`gathered`), never by reading all that is there; a level of it is read by an index.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kickwheel.core import redact
from kickwheel.core.store.database import Connection, Database
from kickwheel.records import Feedback, Span, Trace, wire
from kickwheel.trace.gathered import Arrival, Gathered, ordered, take

LARGE = 1000
"""Spans above which a trace that came whole has rows for them, too."""
ASKED = 5000
"""Ids that one query asks for at most."""

_GIVEN = (
    "SELECT t.id, t.seq, t.body, g.body, t.tenant, t.asker FROM trace AS t LEFT JOIN gathered AS g "
    "ON g.trace = t.seq WHERE t.id IN "
)
_COLUMNS = (
    "workload = ?, source = ?, start_ns = ?, duration_ns = ?, model = ?, error = ?, spans = ?, "
    "input_tokens = ?, output_tokens = ?, question = ?, body = ?"
)


class Meanwhile(Exception):
    """Another process gave placeholders in a trace since they were looked up: redact again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """An arrival that was redacted."""

    arrival: Arrival
    before: Mapping[str, int]
    """Numbers of placeholders that the trace had when it was redacted."""
    after: Mapping[str, int]
    """Numbers that it has with these spans."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of spans that came in."""

    new: int = 0
    """Spans that were not there before."""
    foreign: int = 0
    """Spans that were not taken, because their trace is one that the sender does not see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A span as a level of its trace shows it."""

    span: Span
    children: int
    """Spans right below it."""
    cursor: str
    """`steps(after=…)` with it goes on behind this one."""


def given(database: Database, traces: Sequence[str]) -> dict[str, Mapping[str, int]]:
    """Numbers of the placeholders that stand in each of these traces; none for unknown ones."""
    found: dict[str, Mapping[str, int]] = {}
    for ids in _some(traces):
        for identity, _, body, gathered, *_ in database.read(_GIVEN + _marks(ids), ids):
            found[identity] = _names(body, gathered)
    return found


def add(connection: Connection, arrivals: Iterable[Clean]) -> Joined:
    """Puts the spans to their traces, but for those that the sender does not see.

    Raises:
        Meanwhile: somebody else put spans to one of the traces; nothing must be written.
    """
    added = [_add(connection, clean) for clean in arrivals]
    return Joined(sum(one.new for one in added), sum(one.foreign for one in added))


def is_large(trace: Trace) -> bool:
    """Whether the spans of a trace that came whole get rows."""
    count = len(trace.spans)
    return count > LARGE and len({span.id for span in trace.spans}) == count


def spread(connection: Connection, trace: Trace) -> None:
    """Gives rows to the spans of a trace that has just been written whole."""
    (row,) = connection.execute(_GIVEN + "(?)", [trace.id]).fetchall()
    known = Gathered(names=redact.placeholders(bytes(row[2]).decode()))
    whole = Arrival(id=trace.id, workload=trace.workload, source=trace.source, spans=trace.spans)
    _put(connection, row[1], known, whole)
    bare = wire.to_bytes(replace(trace, spans=(), feedback=()))
    connection.execute("UPDATE trace SET body = ? WHERE seq = ?", (bare, row[1]))


def say(connection: Connection, trace: str, feedback: Iterable[Feedback]) -> None:
    """Keeps what was said of a trace."""
    connection.executemany(
        "INSERT INTO feedback (trace, body) VALUES (?, ?)",
        [(trace, wire.to_bytes(said)) for said in feedback],
    )


def spans(database: Database, trace: int) -> tuple[Span, ...]:
    """All spans of the trace with this number, in their order."""
    rows = database.read("SELECT body FROM span WHERE trace = ?", (trace,))
    return ordered(wire.from_bytes(body, Span) for (body,) in rows)


def steps(
    database: Database, trace: int, parent: str | None, limit: int, after: tuple[int, int]
) -> list[Step]:
    """Spans right below `parent`, by their start; without one, those that nothing is above."""
    above = "s.parent = ?"
    if parent is None:
        above = (
            "(s.parent IS NULL OR NOT EXISTS "
            "(SELECT 1 FROM span AS p WHERE p.trace = s.trace AND p.id = s.parent))"
        )
    rows = database.read(
        "SELECT s.seq, s.start_ns, s.body, (SELECT COUNT(*) FROM span AS c WHERE c.trace = s.trace "
        f"AND c.parent = s.id) FROM span AS s WHERE s.trace = ? AND {above} "
        "AND (s.start_ns, s.seq) > (?, ?) ORDER BY s.start_ns, s.seq LIMIT ?",
        (trace, *(() if parent is None else (parent,)), *after, limit),
    )
    return [
        Step(span=wire.from_bytes(body, Span), children=below, cursor=f"{start_ns}-{seq}")
        for seq, start_ns, body, below in rows
    ]


def steps_of(whole: Trace, parent: str | None, limit: int, after: tuple[int, int]) -> list[Step]:
    """The same of a trace that holds its spans itself."""
    there = {span.id for span in whole.spans}
    below: dict[str | None, int] = {}
    for span in whole.spans:
        below[span.parent] = below.get(span.parent, 0) + 1
    found = [
        Step(span=span, children=below.get(span.id, 0), cursor=f"{span.start_ns}-{number}")
        for number, span in enumerate(whole.spans, 1)
        if (span.parent == parent if parent is not None else span.parent not in there)
        and (span.start_ns, number) > after
    ]
    return sorted(found, key=lambda step: step.span.start_ns)[:limit]


def _add(connection: Connection, clean: Clean) -> Joined:
    arrival = clean.arrival
    row = connection.execute(_GIVEN + "(?)", [arrival.id]).fetchone()
    if row is not None and not arrival.sight.sees(row[4], row[5]):
        return Joined(foreign=len(arrival.spans))
    names: Mapping[str, int] = {} if row is None else _names(row[2], row[3])
    if names != clean.before:
        raise Meanwhile
    if row is None:
        number, known = _begin(connection, arrival), Gathered()
    elif row[3] is not None:
        number, known = row[1], wire.from_bytes(row[3], Gathered)
    else:
        number, known = row[1], Gathered(names=dict(names))
        trace = wire.from_bytes(row[2], Trace)
        if {span.id for span in arrival.spans} <= {span.id for span in trace.spans}:
            return Joined()
        whole = replace(arrival, workload=trace.workload, source=trace.source, spans=trace.spans)
        _put(connection, number, known, whole)
    new = _new(connection, number, arrival.spans)
    if not new:
        return Joined()
    known.names = dict(clean.after)
    _put(connection, number, known, replace(arrival, spans=new))
    _list(connection, number, arrival.id, known)
    there = {span.id for span in new}
    for span_id, feedback in arrival.feedback.items():
        if span_id in there:
            say(connection, arrival.id, feedback)
    for agent in {span.name for span in new if span.kind == "agent"} - {known.workload}:
        connection.execute(
            "INSERT INTO took_part VALUES (?, ?) ON CONFLICT DO NOTHING",
            (_shown(agent), arrival.id),
        )
    return Joined(len(new))


def _begin(connection: Connection, arrival: Arrival) -> int:
    connection.execute(
        "INSERT INTO trace (id, workload, source, start_ns, duration_ns, model, spans, "
        "input_tokens, output_tokens, question, body, tenant, asker) "
        "VALUES (?, '', '', 0, 0, '', 0, 0, 0, '', ?, ?, ?)",
        (arrival.id, b"", arrival.tenant, arrival.user),
    )
    found = connection.execute("SELECT seq FROM trace WHERE id = ?", (arrival.id,))
    return int(found.fetchone()[0])


def _new(connection: Connection, number: int, spans: Sequence[Span]) -> tuple[Span, ...]:
    wanted = {span.id: span for span in reversed(spans)}
    for ids in _some(list(wanted)):
        query = f"SELECT id FROM span WHERE trace = ? AND id IN {_marks(ids)}"
        for (identity,) in connection.execute(query, (number, *ids)).fetchall():
            del wanted[identity]
    return tuple(reversed(wanted.values()))


def _put(connection: Connection, number: int, known: Gathered, arrival: Arrival) -> None:
    """Writes rows of spans, and what is known with them."""
    take(known, arrival)
    connection.executemany(
        "INSERT INTO span (trace, id, parent, start_ns, body) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        [
            (number, span.id, span.parent, span.start_ns, wire.to_bytes(span))
            for span in arrival.spans
        ],
    )
    connection.execute(
        "INSERT INTO gathered (trace, body) VALUES (?, ?) "
        "ON CONFLICT (trace) DO UPDATE SET body = excluded.body",
        (number, wire.to_bytes(known)),
    )


def _list(connection: Connection, number: int, identity: str, known: Gathered) -> None:
    """Brings the trace's line in lists up to date."""
    bare = Trace(id=identity, workload=known.workload, source=known.source, spans=())
    counted = known.counted
    connection.execute(
        f"UPDATE trace SET {_COLUMNS} WHERE seq = ?",
        (
            _shown(known.workload),
            _shown(known.source),
            known.start_ns,
            known.end_ns - known.start_ns,
            _shown(counted.model),
            None if known.error is None else _shown(known.error),
            known.spans,
            counted.input_tokens,
            counted.output_tokens,
            _shown(known.question),
            wire.to_bytes(bare),
            number,
        ),
    )


def _shown(text: str) -> str:
    """Without the one character that Postgres has no place for in a column of text."""
    return text.replace("\x00", "")


def _names(body: bytes, gathered: bytes | None) -> Mapping[str, int]:
    if gathered is not None:
        return wire.from_bytes(gathered, Gathered).names
    return redact.placeholders(bytes(body).decode())


def _some(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[first : first + ASKED] for first in range(0, len(ids), ASKED))


def _marks(ids: Sequence[str]) -> str:
    return f"({', '.join('?' * len(ids))})"
