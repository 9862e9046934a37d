"""Other people's traffic as traces: a file in any of the forms of `trace.forms`.

    rows ─▶ form ─▶ pieces ─▶ traces ─▶ the store
             │        └ remarks ─▶ feedback of theirs, or of traces that the store has
             └ what is broken: named, counted, kept aside

The form is told from the first entries that fit one. A file is read twice: first every entry is
checked, then the good ones are kept, so that a file with too many broken entries lands nothing. A
trace's id comes from its entry: the same file again adds nothing, and an import that was killed
goes on.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kickwheel.core import redact
from kickwheel.core.errors import DataError, UsageError
from kickwheel.core.files import writing
from kickwheel.core.plugins import nearest
from kickwheel.records import Feedback, Message, Trace
from kickwheel.trace import jsonl
from kickwheel.trace.forms import gather
from kickwheel.trace.forms.atif import Atif
from kickwheel.trace.forms.chat import Chat
from kickwheel.trace.forms.form import Form, Piece
from kickwheel.trace.forms.gather import Broken, Gathered, put_together
from kickwheel.trace.forms.langfuse import Langfuse
from kickwheel.trace.forms.opentelemetry import OpenTelemetry
from kickwheel.trace.forms.phoenix import Phoenix
from kickwheel.trace.forms.rows import Row, rows
from kickwheel.trace.forms.tensorzero import TensorZero
from kickwheel.trace.store import Traces

FORMS: tuple[Form, ...] = (
    Chat(),
    Atif(),
    TensorZero(),
    Phoenix(),
    OpenTelemetry(),
    Langfuse(),
)
"""Every form, in the order in which they are tried; what none fits is read as the first."""
BROKEN_SHARE = 0.1
"""Above this share of broken entries nothing lands: the file is of another form."""
NAMED = 20
"""Broken entries that an error or a summary names one by one."""
BATCH = 500
TRIED = 50
"""Entries that are looked at to tell the form."""

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What came of an import."""

    file: str
    form: str
    """Name of the form that the file is of."""
    lines: int
    """Entries: lines that are not empty, rows, or elements of an array."""
    new: int
    """Traces added."""
    known: int
    """Traces that were there before, or stand in the file twice."""
    said: int
    """Feedback added to traces that were there before."""
    broken: tuple[Broken, ...]
    aside: Path | None
    """Where the broken entries are kept, each with its reason; `None` where there are none."""
    workloads: Mapping[str, int]
    """Traces by whose traffic they are."""

    def told(self) -> list[str]:
        """The result in lines for people."""
        said = [f"{self.new} new traces from {self.file} ({self.form}), {self.known} known before"]
        for name, count in self.workloads.items():
            said.append(f"  {name}: {count}")
        if self.said:
            said.append(f"{self.said} new remarks on traces known before")
        said += told(self.broken, self.lines)
        if self.broken:
            said[-1] += f", kept in {self.aside}"
        return said

    def short(self) -> str:
        """The result in one line."""
        said = f"{self.new} new traces from {Path(self.file).name}"
        if self.broken:
            said += f"; {len(self.broken)} of {self.lines} lines are broken, kept in {self.aside}"
        return said


def import_(
    file: Path,
    traces: Traces,
    *,
    workload: str | None = None,
    form: str | None = None,
    on_progress: Progress | None = None,
) -> Landed:
    """Lands the file's entries as traces; what is secret in them does not reach the store. Broken
    entries are named, counted and kept aside.

    Args:
        workload: whose traffic it is, where an entry does not say by `workload_id`; by default
            what the entries call themselves, else the file's name.
        form: name of the form, where the file does not tell.
        on_progress: told bytes done, bytes in all, and a note.
    Raises:
        DataError: the file cannot be read, is empty or cut, or more than 10 % of its entries are
            broken: then nothing landed, and the broken ones are kept aside all the same.
        UsageError: there is no such form.
        StoreError: the disk is full; importing again goes on.
    """
    tell = on_progress or _silent
    kind = form_of(file, form)
    aside = _aside(file, traces.folder)
    with writing(aside) as out:
        gathered = _check(file, kind, tell, lambda one, row: out.write(_kept(one, row)), traces)
    broken = gathered.broken
    if not broken:
        aside.unlink()
    _enough(file, gathered, f"All are in {aside}. ")
    workloads: dict[str, int] = {}
    new = said = 0
    found = put_together(_again(file, gathered, tell), kind, gathered, file, workload)
    for batch in _batches(_counted(found, workloads)):
        added = traces.add(batch)
        new += added
        if added < len(batch) and kind.grouped:
            said += sum(_say(traces, traces.get(one.id), one.feedback) for one in batch)
    for identity in gathered.elsewhere:
        there = traces.get(identity)
        remarks = [one.feedback for one in gathered.remarks[identity] if one.feedback is not None]
        said += _say(traces, there, [gather.agreed(one, there.spans) for one in remarks])
    return Landed(
        file=str(file),
        form=kind.name,
        lines=gathered.rows,
        new=new,
        known=sum(workloads.values()) - new,
        said=said,
        broken=tuple(broken),
        aside=aside if broken else None,
        workloads=dict(sorted(workloads.items())),
    )


def check(file: Path) -> tuple[list[Broken], int]:
    """The file's broken entries, and how many entries it has; nothing is kept.

    Raises:
        DataError: as `import_`.
    """
    gathered = _check(file, form_of(file), _silent, lambda one, row: None, None)
    _enough(file, gathered, "")
    return gathered.broken, gathered.rows


def answers(file: Path) -> Iterator[Message]:
    """The answers in the file's good entries; where somebody gave the right one, that.

    Raises:
        DataError: the file cannot be read.
    """
    kind = form_of(file)
    for row in rows(file):
        try:
            pieces = gather.read(row, kind)
        except ValueError:
            continue
        for piece in pieces:
            if isinstance(piece, Piece):
                corrected = [one.answer for one in piece.feedback if one.answer is not None]
                models = [span for span in piece.spans if span.kind == "model"]
                yield from corrected[-1:] or [said for span in models for said in span.output]


def form_of(file: Path, named: str | None = None) -> Form:
    """The form of that name, or the one that the file's first entries tell.

    Raises:
        DataError: the file cannot be read, or its beginning is cut.
        UsageError: there is no such form.
    """
    if named is not None:
        found = {form.name: form for form in FORMS}
        if named not in found:
            raise UsageError(f'no form "{named}". {nearest(named, found)}')
        return found[named]
    for row in islice(rows(file), TRIED):
        if isinstance(row.value, Mapping):
            for form in FORMS:
                if form.fits(row.value):
                    return form
    return FORMS[0]


def told(broken: Sequence[Broken], lines: int) -> list[str]:
    """The broken entries for people: the first ones by name, then how many there are."""
    return [*_named(broken), f"{len(broken)} of {lines} lines are broken"] if broken else []


def _check(
    file: Path,
    form: Form,
    tell: Progress,
    keep: Callable[[Broken, Row], object],
    traces: Traces | None,
) -> Gathered:
    """What the file's entries say; each broken one is given to `keep`."""
    gathered = Gathered()

    def broken(row: Row, why: str) -> None:
        # It may quote half a surrogate pair, which can be neither written nor shown.
        why = why.encode("utf-8", "replace").decode()
        gathered.broken.append(Broken(file=file.name, line=row.line, entry=row.entry, why=why))
        keep(gathered.broken[-1], row)

    for row in rows(file):
        why = gathered.take(row, form)
        if why is not None:
            broken(row, why)
        if gathered.rows % BATCH == 0:
            note = f"{gathered.rows} lines checked, {len(gathered.broken)} broken"
            tell(row.done / 2, row.total, note)
    for row, why in gathered.settle(lambda one: traces is not None and _has(traces, one)):
        broken(row, why)
    return gathered


def _has(traces: Traces, identity: str) -> bool:
    try:
        traces.get(identity)
    except UsageError:
        return False
    return True


def _enough(file: Path, gathered: Gathered, kept: str) -> None:
    """Returns if enough of the file's entries are good."""
    if not gathered.rows:
        raise DataError(f"{file}: empty. Traffic has one JSON object a line.")
    broken = gathered.broken
    if len(broken) > BROKEN_SHARE * gathered.rows:
        raise DataError(
            f"{len(broken)} of {gathered.rows} lines of {file} are broken, more than "
            f"{BROKEN_SHARE:.0%}: nothing was imported.\n"
            + "\n".join(_named(broken))
            + f"\n{kept}Correct them, or leave them out, and run the same again."
        )


def _kept(broken: Broken, row: Row) -> bytes:
    text = redact.text(row.raw[: jsonl.LINE_BYTES].decode("utf-8", "replace").rstrip("\r\n"))
    entry = {"file": broken.file, "line": broken.line, "why": broken.why, "text": text}
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def _aside(file: Path, folder: Path) -> Path:
    mark = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    return folder / "rejected" / f"{file.stem}-{mark}.jsonl"


def _again(file: Path, gathered: Gathered, tell: Progress) -> Iterator[Row]:
    """The file's entries, read the second time."""
    for position, row in enumerate(rows(file), start=1):
        if position % BATCH == 0 or position == gathered.rows:
            tell((row.total + row.done) / 2, row.total, f"{position} lines read")
        yield row


def _counted(traces: Iterator[Trace], workloads: dict[str, int]) -> Iterator[Trace]:
    for trace in traces:
        workloads[trace.workload] = workloads.get(trace.workload, 0) + 1
        yield trace


def _batches(traces: Iterator[Trace]) -> Iterator[list[Trace]]:
    while batch := list(islice(traces, BATCH)):
        yield batch


def _say(traces: Traces, trace: Trace, feedback: Sequence[Feedback]) -> int:
    """Adds what was not said of a stored trace before; how much that is."""
    new = [one for one in feedback if not any(_same(one, there) for there in trace.feedback)]
    for one in new:
        traces.feedback(trace.id, one)
    return len(new)


def _same(one: Feedback, there: Feedback) -> bool:
    if one.time_ns:
        # Redacted apart, the same words may have got other placeholders.
        return (one.time_ns, one.verdict) == (there.time_ns, there.verdict)
    return redact.Redaction().feedback(one) == there


def _named(broken: Sequence[Broken]) -> list[str]:
    said = [str(one) for one in broken[:NAMED]]
    if len(broken) > NAMED:
        said.append(f"… and {len(broken) - NAMED} more")
    return said


def _silent(done: float, total: float, note: str) -> None:
    return
