"""Other people's traffic as traces, a line of JSON each. Understood are

    {"messages": […, the answer], "tools": […]}           OpenAI's fine-tuning form
    {"messages": […], "tools": […], "response": {…}}      a chat request and what came back
    {"request": {…}, "response": {…}}                     the same, apart
    {"timestamp", "workload_id", "client_id", "request", "response"}
                                                          NVIDIA's Data Flywheel Blueprint

and beside them, in any form, what is known of the answer:

    "feedback": {"verdict": "good" | "bad", "answer": {a message}, "note": "…"}
    "accepted": [{"name": "…", "arguments": {"city": ["NYC", "New York"]}, "optional": ["date"]}]

A file is read twice: first every line is checked, then the good ones are kept, so that a file with
too many broken lines lands nothing. A trace's id is the hash of its line: the same file again adds
nothing, and an import that was killed goes on.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

from kickwheel.core import redact
from kickwheel.core.errors import DataError
from kickwheel.core.files import writing
from kickwheel.records import AcceptedCall, Feedback, Message, Span, Trace, genai, wire
from kickwheel.records.openai import message_from_openai, messages_from_openai, tool_from_openai
from kickwheel.records.trace import Value
from kickwheel.trace import jsonl
from kickwheel.trace.store import Traces

BROKEN_SHARE = 0.1
"""Above this share of broken lines nothing lands: the file is of another form."""
NAMED = 20
"""Broken lines that an error or a summary names one by one."""
BATCH = 500

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A line that is no traffic."""

    file: str
    line: int
    """From 1."""
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What came of an import."""

    file: str
    lines: int
    """Lines that are not empty."""
    new: int
    """Traces added."""
    known: int
    """Lines whose trace was there before, or stands in the file twice."""
    broken: tuple[Broken, ...]
    aside: Path | None
    """Where the broken lines are kept, each with its reason; `None` where there are none."""
    workloads: Mapping[str, int]
    """Good lines by whose traffic they are."""

    def told(self) -> list[str]:
        """The result in lines for people."""
        said = [f"{self.new} new traces from {self.file}, {self.known} known before"]
        for name, count in self.workloads.items():
            said.append(f"  {name}: {count}")
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
    on_progress: Progress | None = None,
) -> Landed:
    """Lands the file's lines as traces; what is secret in them does not reach the store. Broken
    lines are named, counted and kept aside.

    Args:
        workload: whose traffic it is, where a line does not say by `workload_id`; by default the
            file's name.
        on_progress: told bytes done, bytes in all, and a note.
    Raises:
        DataError: the file cannot be read, is empty or one JSON array, or more than 10 % of its
            lines are broken: then nothing landed, and the broken ones are kept aside all the same.
        StoreError: the disk is full; importing again goes on.
    """
    named = workload or file.stem
    tell = on_progress or _silent
    _no_array(file)
    aside = _aside(file, traces.folder)
    with writing(aside) as out:
        broken, lines = _check(file, tell, lambda one, line: out.write(_kept(one, line)))
    if not broken:
        aside.unlink()
    _enough(file, broken, lines, f"All are in {aside}. ")
    workloads: dict[str, int] = {}
    new = 0
    for batch in _batches(_good(file, named, {one.line for one in broken}, tell, workloads)):
        new += traces.add(batch)
    return Landed(
        file=str(file),
        lines=lines,
        new=new,
        known=sum(workloads.values()) - new,
        broken=tuple(broken),
        aside=aside if broken else None,
        workloads=dict(sorted(workloads.items())),
    )


def check(file: Path) -> tuple[list[Broken], int]:
    """The file's broken lines, and how many lines it has; nothing is kept.

    Raises:
        DataError: as `import_`.
    """
    _no_array(file)
    broken, lines = _check(file, _silent, lambda one, line: None)
    _enough(file, broken, lines, "")
    return broken, lines


def answers(file: Path) -> Iterator[Message]:
    """The answers in the file's good lines; where somebody gave the right one, that.

    Raises:
        DataError: the file cannot be read.
    """
    for _, line, _, _ in jsonl.lines(file):
        try:
            trace = read(line, workload="", source="")
        except ValueError:
            continue
        corrected = [said.answer for said in trace.feedback if said.answer is not None]
        yield from corrected[-1:] or trace.spans[0].output


def told(broken: Sequence[Broken], lines: int) -> list[str]:
    """The broken lines for people: the first ones by name, then how many there are."""
    return [*_named(broken), f"{len(broken)} of {lines} lines are broken"] if broken else []


def read(line: bytes, *, workload: str, source: str) -> Trace:
    """The trace that a line of traffic holds, not yet redacted.

    Args:
        workload: whose traffic it is, where the line does not say.
        source: where the line stands, `chats.jsonl:212`.
    Raises:
        ValueError: it is broken; the text says how.
    """
    entry = _object_of(line)
    request, response = _halves(entry)
    messages, answer, error = _exchange(request, response)
    tools = tuple(_located(tool_from_openai, _list(request, "tools"), "tools"))
    whose = entry.get("workload_id") or workload
    if not isinstance(whose, str):
        raise ValueError("workload_id must be text")
    start_ns = _time_ns(entry, response)
    identity = hashlib.sha256(line.strip()).hexdigest()
    span = Span(
        id=identity[32:48],
        kind="model",
        name=str(request.get("model") or "chat"),
        start_ns=start_ns,
        end_ns=start_ns,
        attributes=_attributes(entry, request, response),
        error=error,
        input=messages,
        output=() if answer is None else (answer,),
        tools=tools,
    )
    return Trace(
        id=identity[:32],
        workload=whose,
        source=source,
        spans=(span,),
        feedback=_feedback(entry, answer),
    )


def _check(
    file: Path, tell: Progress, keep: Callable[[Broken, bytes], object]
) -> tuple[list[Broken], int]:
    """The broken lines, each given to `keep`, and how many lines there are."""
    broken: list[Broken] = []
    lines = 0
    for number, line, done, total in jsonl.lines(file):
        lines += 1
        try:
            storable(read(line, workload="", source=""))
        except ValueError as error:
            broken.append(Broken(file=file.name, line=number, why=str(error)))
            keep(broken[-1], line)
        if lines % BATCH == 0:
            tell(done / 2, total, f"{lines} lines checked, {len(broken)} broken")
    return broken, lines


def _no_array(file: Path) -> None:
    way_on = jsonl.array(file)
    if way_on is not None:
        raise DataError(way_on)


def _enough(file: Path, broken: Sequence[Broken], lines: int, kept: str) -> None:
    """Returns if enough of the file's lines are good."""
    if not lines:
        raise DataError(f"{file}: empty. Traffic has one JSON object a line.")
    if len(broken) > BROKEN_SHARE * lines:
        raise DataError(
            f"{len(broken)} of {lines} lines of {file} are broken, more than "
            f"{BROKEN_SHARE:.0%}: nothing was imported.\n"
            + "\n".join(_named(broken))
            + f"\n{kept}Correct them, or leave them out, and run the same again."
        )


def _kept(broken: Broken, line: bytes) -> bytes:
    text = redact.text(line[: jsonl.LINE_BYTES].decode("utf-8", "replace").rstrip("\r\n"))
    entry = {"file": broken.file, "line": broken.line, "why": broken.why, "text": text}
    return json.dumps(entry, ensure_ascii=False).encode() + b"\n"


def _aside(file: Path, folder: Path) -> Path:
    mark = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]
    return folder / "rejected" / f"{file.stem}-{mark}.jsonl"


def storable(trace: Trace) -> None:
    """Returns if the store takes what the trace says.

    Raises:
        ValueError: it does not; the text says why.
    """
    try:
        wire.from_bytes(wire.to_bytes(trace), Trace)
    except UnicodeEncodeError as error:
        raise ValueError("half a surrogate pair, which is no character, stands in it") from error
    except OverflowError as error:
        raise ValueError("a number in it is too large") from error


def _good(
    file: Path, workload: str, skip: set[int], tell: Progress, workloads: dict[str, int]
) -> Iterator[Trace]:
    for number, line, done, total in jsonl.lines(file):
        if number in skip:
            continue
        trace = read(line, workload=workload, source=f"{file.name}:{number}")
        workloads[trace.workload] = workloads.get(trace.workload, 0) + 1
        if number % BATCH == 0 or done == total:
            tell((total + done) / 2, total, f"{sum(workloads.values())} traces")
        yield trace


def _batches(traces: Iterator[Trace]) -> Iterator[list[Trace]]:
    while batch := list(islice(traces, BATCH)):
        yield batch


def _named(broken: Sequence[Broken]) -> list[str]:
    said = [str(one) for one in broken[:NAMED]]
    if len(broken) > NAMED:
        said.append(f"… and {len(broken) - NAMED} more")
    return said


def _object_of(line: bytes) -> Mapping[str, Any]:
    entry = jsonl.value(line)
    if not isinstance(entry, Mapping):
        raise ValueError(f"must be a JSON object, not {_sort(entry)}")
    return entry


def _halves(entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    if "request" in entry:
        request = _object(entry, "request")
    elif "messages" in entry:
        request = entry
    else:
        keys = ", ".join(list(entry)[:6]) or "nothing"
        raise ValueError(f"no chat: neither messages nor request stand here, only {keys}")
    if entry.get("response") is not None:
        return request, _object(entry, "response")
    return request, entry if "choices" in entry else None


def _exchange(
    request: Mapping[str, Any], response: Mapping[str, Any] | None
) -> tuple[tuple[Message, ...], Message | None, str | None]:
    """The conversation, its answer, and what went wrong instead."""
    if "messages" not in request:
        raise ValueError("the request has no messages")
    messages = messages_from_openai(_list(request, "messages"))
    answer, error = None, None
    if response is None:
        if not messages or messages[-1].role != "assistant":
            raise ValueError(
                "no answer: there is no response, and the last message is not the assistant's"
            )
        messages, answer = messages[:-1], messages[-1]
    else:
        choices = _list(response, "choices")
        if choices:
            first = choices[0]
            message = first.get("message") if isinstance(first, Mapping) else None
            if message is None:
                raise ValueError("response.choices[0] has no message")
            answer = message_from_openai({"role": "assistant", **_mapping(message, "message")})
        elif response.get("error") is not None:
            error = _short(response["error"])
        else:
            raise ValueError("the response has neither choices nor an error")
    if not messages:
        raise ValueError("no question: there are no messages before the answer")
    return messages, answer, error


def _attributes(
    entry: Mapping[str, Any], request: Mapping[str, Any], response: Mapping[str, Any] | None
) -> dict[str, Value]:
    response = response or {}
    usage = response.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    reason = first.get("finish_reason") if isinstance(first, Mapping) else None
    found: dict[str, Any] = {
        genai.OPERATION: "chat",
        genai.REQUEST_MODEL: request.get("model"),
        genai.RESPONSE_MODEL: response.get("model"),
        genai.RESPONSE_ID: response.get("id"),
        genai.TEMPERATURE: request.get("temperature"),
        genai.MAX_TOKENS: request.get("max_tokens") or request.get("max_completion_tokens"),
        genai.SEED: request.get("seed"),
        genai.INPUT_TOKENS: usage.get("prompt_tokens"),
        genai.OUTPUT_TOKENS: usage.get("completion_tokens"),
        genai.FINISH_REASONS: [reason] if isinstance(reason, str) else None,
        "client_id": entry.get("client_id"),
    }
    return {
        name: cast(Value, value)
        for name, value in found.items()
        if isinstance(value, str | int | float | list)
    }


def _feedback(entry: Mapping[str, Any], answer: Message | None) -> tuple[Feedback, ...]:
    accepted = tuple(_located(_accepted, _list(entry, "accepted"), "accepted"))
    said = entry.get("feedback")
    if said is None:
        return (Feedback(verdict="good", accepted=accepted),) if accepted else ()
    said = _mapping(said, "feedback")
    verdict = said.get("verdict")
    if verdict not in ("good", "bad"):
        raise ValueError(f'feedback.verdict must be "good" or "bad", not {_short(verdict)}')
    right = said.get("answer")
    if isinstance(right, str):
        right = {"content": right}
    message = None
    if right is not None:
        message = message_from_openai({"role": "assistant", **_mapping(right, "feedback.answer")})
    return (
        Feedback(
            verdict=verdict,
            answer=message,
            accepted=accepted,
            note=str(said.get("note") or ""),
        ),
    )


def _accepted(entry: object) -> AcceptedCall:
    call = _mapping(entry, "an accepted call")
    name, arguments = call.get("name"), call.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise ValueError('must be {"name": …, "arguments": {argument: [values]}}')
    for argument, values in arguments.items():
        if not isinstance(values, list):
            raise ValueError(f"arguments.{argument} must be the list of values that are right")
    optional = call.get("optional") or []
    if not isinstance(optional, list) or not all(isinstance(one, str) for one in optional):
        raise ValueError("optional must be a list of arguments' names")
    return AcceptedCall(
        name=name,
        arguments={argument: tuple(values) for argument, values in arguments.items()},
        optional=tuple(optional),
    )


def _located(make: Callable[[object], Any], entries: Sequence[object], name: str) -> Iterator[Any]:
    for position, entry in enumerate(entries):
        try:
            yield make(entry)
        except ValueError as error:
            raise ValueError(f"{name}[{position}]: {error}") from error


def _time_ns(entry: Mapping[str, Any], response: Mapping[str, Any] | None) -> int:
    """When it was, Unix time in nanoseconds; 0 where the line does not say."""
    for place in (entry.get("timestamp"), (response or {}).get("created")):
        if isinstance(place, str):
            try:
                moment = datetime.fromisoformat(place)
                place = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
            except ValueError as error:
                raise ValueError(f"timestamp {_short(place)} is no time") from error
        if isinstance(place, int | float) and not isinstance(place, bool):
            # Milli-, micro- and nanoseconds are common too: 1e11 seconds is the year 5138.
            seconds = place
            while seconds >= 1e11 and seconds != math.inf:
                seconds /= 1000
            if not 0 <= seconds < 1e11:
                raise ValueError(f"timestamp {place} is no time")
            return int(seconds * 1e9)
    return 0


def _object(entry: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return _mapping(entry[key], key)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be an object, not {_sort(value)}")
    return value


def _list(entry: Mapping[str, Any], key: str) -> Sequence[object]:
    value = entry.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list, not {_sort(value)}")
    return value


def _sort(value: object) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), "a number")


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _silent(done: float, total: float, note: str) -> None:
    return
