"""What every form of traffic has to say: whether an entry is its own, and what the entry means."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, cast

from kickwheel.records import Feedback, Span
from kickwheel.records.trace import Value
from kickwheel.trace.forms.rows import Row

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one entry says of a trace. Where a form has several for one, they are put together."""

    trace: str
    """Its id, 32 hex digits."""
    spans: tuple[Span, ...] = ()
    root: Span | None = None
    """The trace itself as a span, where the form tells of it apart from its spans."""
    workload: str | None = None
    """Whose work it was, where the entry says it in so many words."""
    called: str = ""
    """What it is called there: the workload where nobody says another."""
    names: tuple[str, ...] = ()
    """Other ids that remarks may know it by: of its spans, its session, its episode."""
    feedback: tuple[Feedback, ...] = ()
    tenant: str = ""
    """Whose data it is, as far as the entry tells."""
    user: str = ""
    """Who asked, as far as the entry tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What an entry says of a trace that another entry, or the store, holds."""

    about: str
    """Id of the trace, or one of its other names."""
    feedback: Feedback | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)
    """What is no verdict, such as a score between 0 and 1: kept with the trace's root."""


class Form(Protocol):
    """A form of traffic."""

    name: str
    """As `--form` takes it."""
    about: str
    """What it is, in a few words."""
    grouped: bool
    """Whether several entries may belong to one trace."""

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Whether the entry is of this form, as far as its keys tell."""
        ...

    def read(self, row: Row, entry: Mapping[str, Any]) -> Sequence[Piece | Remark]:
        """What the entry says.

        Raises:
            ValueError: it is broken; the text says how.
        """
        ...


def mapping(value: object, what: str) -> Mapping[str, Any]:
    """The value, which must be an object.

    Raises:
        ValueError: it is none; `what` is how the text calls it. So below.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} must be an object, not {sort(value)}")
    return value


def sequence(entry: Mapping[str, Any], key: str) -> Sequence[Any]:
    """The list at the key; an empty one where nothing is there."""
    value = entry.get(key)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"{key} must be a list, not {sort(value)}")
    return value


def text(entry: Mapping[str, Any], key: str) -> str:
    """The text at the key, which must not be empty."""
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} must be text" if key in entry else f"{key} is missing")
    return value


def located(make: Callable[[Any], T], entries: Sequence[Any], name: str) -> Iterator[T]:
    """What `make` makes of each; an error names the position."""
    for position, entry in enumerate(entries):
        try:
            yield make(entry)
        except ValueError as error:
            raise ValueError(f"{name}[{position}]: {error}") from error


def loaded(value: object) -> Any:
    """What a text holds that is JSON, as databases and CSV keep objects; else the value itself."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def time_ns(value: object, what: str = "timestamp") -> int:
    """When it was, Unix time in nanoseconds; 0 where nothing is said.

    A number is of seconds, milli-, micro- or nanoseconds, as its size tells; a text without a zone
    is UTC.
    """
    if isinstance(value, str):
        written = value.strip()
        if not written:
            return 0
        if written.isdigit() and len(written) > 9:
            return time_ns(int(written), what)
        try:
            moment = datetime.fromisoformat(written)
        except ValueError as error:
            raise ValueError(f"{what} {short(value)} is no time") from error
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
        if ns < 0:
            raise ValueError(f"{what} {short(value)} is no time")
        return ns
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Milli-, micro- and nanoseconds are common too: 1e11 seconds is the year 5138.
        if isinstance(value, int) and value >= 10**17:
            ns = value
            while ns >= 10**20:
                ns //= 1000
            return ns
        seconds: float = value
        while seconds >= 1e11 and seconds != math.inf:
            seconds /= 1000
        if not 0 <= seconds < 1e11:
            raise ValueError(f"{what} {value} is no time")
        return int(seconds * 1e9)
    return 0


def trace_id(value: str) -> str:
    """The id as 32 hex digits: itself where it is that, or a UUID; else its hash."""
    return _hex(value, 32)


def span_id(value: str) -> str:
    """The id as 16 hex digits: itself where it is that; else its hash."""
    return _hex(value, 16)


def attributes(found: Mapping[str, Any]) -> dict[str, Value]:
    """Those that an attribute can hold."""
    return {
        name: cast(Value, value)
        for name, value in found.items()
        if isinstance(value, str | int | float)
        or (isinstance(value, list) and value and all(isinstance(one, str) for one in value))
    }


def number(value: object) -> int | None:
    """A count of tokens; CSV has texts for them."""
    if isinstance(value, str) and value.isdigit():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def amount(value: object) -> float | None:
    """A number, also one that is written as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def sort(value: object) -> str:
    """What sort of JSON value it is, for people."""
    names: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    return "null" if value is None else names.get(type(value), "a number")


def short(value: object) -> str:
    """The value as JSON, cut where it is long."""
    written = json.dumps(value, ensure_ascii=False, default=str)
    return written if len(written) <= 200 else f"{written[:199]}…"


def _hex(value: str, digits: int) -> str:
    bare = value.lower().removeprefix("0x").replace("-", "")
    if len(bare) == digits and all(one in "0123456789abcdef" for one in bare):
        return bare
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:digits]
