"""From a file's entries to whole traces, however many entries one takes.

On the first reading (`Gathered.take`) each entry is checked, and only noted where its trace ends
and what remarks speak of. On the second (`put_together`) a trace is held from its first entry to
its last, so that a file whose traces stand together is never held as a whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kickwheel.records import Feedback, Message, Span, Trace, wire
from kickwheel.trace.forms.form import Form, Piece, Remark, sort, span_id, trace_id
from kickwheel.trace.forms.rows import Row
from kickwheel.trace.gathered import LATEST_NS

_TOO_LARGE = "a number in it is too large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """An entry that is no traffic."""

    file: str
    line: int
    """From 1."""
    entry: int | None = None
    """Its position in an array, from 0; `None` where each line is an entry."""
    why: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.entry is None else f"{self.file}[{self.entry}]"
        return f"{place}: {self.why}"


@dataclass(slots=True)
class Gathered:
    """What the first reading of a file found."""

    rows: int = 0
    broken: list[Broken] = field(default_factory=list)
    skip: set[int] = field(default_factory=set)
    """Positions of the entries that are left out on the second reading."""
    last: dict[str, int] = field(default_factory=dict)
    """Position of each trace's last entry; only of forms that group."""
    remarks: dict[str, list[Remark]] = field(default_factory=dict)
    """What is said of a trace, by its id."""
    elsewhere: list[str] = field(default_factory=list)
    """Traces of the store of which something is said."""
    _names: dict[str, list[str]] = field(default_factory=dict)
    _waiting: list[tuple[int, Row, Remark]] = field(default_factory=list)

    def take(self, row: Row, form: Form) -> str | None:
        """Notes what the next entry says; why it is broken, where it is."""
        position = self.rows
        self.rows += 1
        try:
            for piece in read(row, form):
                if isinstance(piece, Remark):
                    _written(piece)
                    self._waiting.append((position, row, piece))
                    continue
                storable(_whole(piece))
                if form.grouped:
                    self.last[piece.trace] = position
                    for name in piece.names:
                        known = self._names.setdefault(name, [])
                        if piece.trace not in known:
                            known.append(piece.trace)
        except ValueError as error:
            self.skip.add(position)
            return str(error)
        return None

    def settle(self, stored: Callable[[str], bool]) -> Iterator[tuple[Row, str]]:
        """Finds what each remark speaks of, in the file or in the store; gives those that speak of
        nothing, with the reason."""
        for position, row, remark in self._waiting:
            found = self._names.get(remark.about, [])
            identity = trace_id(remark.about)
            if identity in self.last:
                found = [identity]
            elif not found and stored(identity):
                if remark.feedback is None:
                    self.skip.add(position)
                    name = ", ".join(remark.attributes)
                    yield row, f"{name} is no verdict: it can be kept only beside its trace"
                    continue
                found = [identity]
                if identity not in self.remarks:
                    self.elsewhere.append(identity)
            if not found:
                self.skip.add(position)
                yield row, f'speaks of "{remark.about}", which is neither in the file nor the store'
            for one in found:
                self.remarks.setdefault(one, []).append(remark)
        self._waiting.clear()


def read(row: Row, form: Form) -> Sequence[Piece | Remark]:
    """What the entry says.

    Raises:
        ValueError: it is broken; the text says how.
    """
    if row.wrong is not None:
        raise ValueError(row.wrong)
    if not isinstance(row.value, Mapping):
        raise ValueError(f"must be a JSON object, not {sort(row.value)}")
    try:
        return form.read(row, row.value)
    except OverflowError as error:
        raise ValueError(_TOO_LARGE) from error


def storable(trace: Trace) -> None:
    """Returns if the store takes what the trace says.

    Raises:
        ValueError: it does not; the text says why.
    """
    for span in trace.spans:
        if not (0 <= span.start_ns <= LATEST_NS and 0 <= span.end_ns <= LATEST_NS):
            raise ValueError("it has no time that can be kept")
    _written(trace)


def put_together(
    found: Iterable[Row], form: Form, gathered: Gathered, file: Path, workload: str | None
) -> Iterator[Trace]:
    """The traces of a file that was checked, each as soon as its last entry is read.

    Args:
        found: the file's entries, all of them again.
        workload: whose traffic it is, where no entry says so in so many words.
    """
    open_: dict[str, tuple[str, list[Piece]]] = {}
    for position, row in enumerate(found):
        if position in gathered.skip:
            continue
        place = row.place(file.name)
        ended: list[str] = []
        for piece in read(row, form):
            if isinstance(piece, Remark):
                continue
            if not form.grouped:
                yield _trace([piece], (), place, workload, file.stem)
                continue
            open_.setdefault(piece.trace, (place, []))[1].append(piece)
            if gathered.last[piece.trace] == position and piece.trace not in ended:
                ended.append(piece.trace)
        for identity in ended:
            began, pieces = open_.pop(identity)
            yield _trace(pieces, gathered.remarks.get(identity, ()), began, workload, file.stem)


def _written(record: object) -> None:
    try:
        wire.from_bytes(wire.to_bytes(record), type(record))
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair, which is no character, stands in it") from error
    except OverflowError as error:
        raise ValueError(_TOO_LARGE) from error


def _whole(piece: Piece) -> Trace:
    spans = (*piece.spans, *([piece.root] if piece.root else ()))
    named = f"{piece.workload or ''}{piece.called}"
    return Trace(id=piece.trace, workload=named, spans=spans, feedback=piece.feedback)


def _trace(
    pieces: Sequence[Piece],
    remarks: Sequence[Remark],
    source: str,
    workload: str | None,
    stem: str,
) -> Trace:
    called = next((piece.called for piece in pieces if piece.called), "")
    said = next((piece.workload for piece in pieces if piece.workload), None)
    spans = _tree(pieces, called or workload or stem)
    agent = spans[0].name if spans[0].kind == "agent" else ""
    noted: dict[str, Any] = {}
    for remark in remarks:
        for name, value in remark.attributes.items():
            there = noted.get(name)
            # The same thing is said of a trace more than once: all of it is kept.
            noted[name] = value if there is None else [*_texts(there), *_texts(value)]
    if noted:
        spans[0] = replace(spans[0], attributes={**spans[0].attributes, **noted})
    feedback = [one for piece in pieces for one in piece.feedback]
    said_later = [remark.feedback for remark in remarks if remark.feedback is not None]
    feedback += [agreed(one, spans) for one in sorted(said_later, key=lambda one: one.time_ns)]
    return Trace(
        id=pieces[0].trace,
        workload=said or workload or called or agent or stem,
        source=source,
        spans=tuple(spans),
        feedback=tuple(feedback),
        tenant=next((piece.tenant for piece in pieces if piece.tenant), ""),
        user=next((piece.user for piece in pieces if piece.user), ""),
    )


def _tree(pieces: Sequence[Piece], called: str) -> list[Span]:
    """The spans of all pieces under one root, which is the first; the others by their start."""
    spans = {span.id: span for piece in pieces for span in piece.spans}
    tops = [span for span in spans.values() if span.parent not in spans]
    told = next((piece.root for piece in pieces if piece.root is not None), None)
    if len(tops) == 1:
        root = _filled(replace(tops[0], parent=None), told)
    else:
        root = told or _above(tops, pieces[0].trace, called)
        if tops:
            # What was asked of several models together was none of them.
            root = replace(root, kind="agent")
        for top in tops:
            spans[top.id] = replace(top, parent=root.id)
    spans.pop(root.id, None)
    return [root, *sorted(spans.values(), key=lambda span: span.start_ns)]


def _filled(top: Span, told: Span | None) -> Span:
    """The only span at the top, with what the trace tells of itself besides."""
    if told is None:
        return top
    return replace(
        top,
        input=top.input or told.input,
        output=top.output or told.output,
        tools=top.tools or told.tools,
        attributes={**told.attributes, **top.attributes},
    )


def _above(tops: Sequence[Span], trace: str, called: str) -> Span:
    """A root for spans that have none, as where the export left it out."""
    return Span(
        id=span_id(f"root of {trace}"),
        kind="agent",
        name=called,
        start_ns=min(span.start_ns for span in tops),
        end_ns=max(span.end_ns for span in tops),
        error=next((span.error for span in tops if span.error is not None), None),
    )


def agreed(said: Feedback, spans: Sequence[Span]) -> Feedback:
    """A right answer that is the one given says no more than that it was good."""
    if said.answer is None or not any(_alike(said.answer, one) for s in spans for one in s.output):
        return said
    return replace(said, verdict="good", answer=None)


def _alike(one: Message, other: Message) -> bool:
    calls = [[(call.name, call.arguments) for call in said.tool_calls] for said in (one, other)]
    return one.content == other.content and calls[0] == calls[1]


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]
