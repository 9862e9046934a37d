"""The same example with other names, dates and numbers.

A few hundred examples teach a small model the names in them instead of the copying. So the values
that stand word for word in the question (or, as in «New York» for `New York, NY`, up to the first
comma) are now and then replaced in question and answer alike by others of the same argument: all
taken from the training part, nothing from outside. Dates keep the way in which they are written.
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

from kickwheel.models import calls
from kickwheel.records import Example, Message, ToolCall

_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_MONTH = "|".join(f"{m[:3]}(?:{m[3:]})?" if len(m) > 3 else m for m in _MONTHS)
_DATE = re.compile(
    rf"\b(?:(?P<m1>{_MONTH})(?P<g1>\.? (?:the )?)(?P<d1>\d{{1,2}})(?P<s1>st|nd|rd|th)?"
    rf"|(?P<d2>\d{{1,2}})(?P<s2>st|nd|rd|th)?(?P<g2> (?:of )?)(?P<m2>{_MONTH})"
    r"|(?P<y3>\d{4})(?P<p3>[-./])(?P<m3>\d{1,2})(?P=p3)(?P<d3>\d{1,2})"
    r"|(?P<m4>\d{1,2})/(?P<d4>\d{1,2})/(?P<y4>\d{4}))\b",
    re.IGNORECASE,
)
_NO_CHOICE = frozenset({"true", "false", "dontcare", "any", "none", "null"})


class Variation:
    """Values of the training part by argument, and examples made with others of them."""

    def __init__(self, train: Iterable[Example], share: float) -> None:
        """
        Args:
            share: of the examples that get other values, 0 to 1.
        """
        self.share = share
        pools: dict[str, set[str]] = defaultdict(set)
        for example in train:
            question = _question(example)
            for name, value, schema in _slots(example):
                if isinstance(value, str) and _copied(value, question) and not _closed(schema):
                    pools[_pool(name, value)].add(value)
        self._pools = {name: sorted(values) for name, values in pools.items()}

    def of(self, example: Example, chance: random.Random) -> Example:
        """The example, or one like it with other values; the same `chance` gives the same."""
        if chance.random() >= self.share or len(example.answer.tool_calls) != 1:
            return example
        question = _question(example)
        call = example.answer.tool_calls[0]
        arguments = json.loads(call.arguments or "{}")
        changes: list[tuple[int, int, str]] = []
        for name, value, schema in _slots(example):
            found = self._other(name, value, schema, question, chance)
            if found is None:
                continue
            start, end, text, other = found
            if all(end <= s or start >= e for s, e, _ in changes):
                changes.append((start, end, text))
                arguments[name] = other
        if not changes:
            return example
        for start, end, text in sorted(changes, reverse=True):
            question = question[:start] + text + question[end:]
        return replace(
            example,
            messages=_with_question(example.messages, question),
            answer=replace(
                example.answer,
                tool_calls=(ToolCall(id=call.id, name=call.name, arguments=json.dumps(arguments)),),
            ),
            accepted=(),
        )

    def _other(
        self, name: str, value: Any, schema: Mapping[str, Any], question: str, chance: random.Random
    ) -> tuple[int, int, str, Any] | None:
        """Where the value stands in the question, what to write there, and what in the answer."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return None
        if not isinstance(value, str):
            return _other_number(value, schema, question, chance)
        if calls.date_format(schema) is not None:
            return _other_date(value, schema, question, chance)
        if _closed(schema):
            options = [o for o in schema["enum"] if isinstance(o, str) and _is_choice(o)]
            place = _place(value, question)
            if place is None or len(options) < 2 or not _is_choice(value):
                return None
            other = chance.choice(options)
            return *place, _cased(other, question[place[0] : place[1]]), other
        return self._other_text(name, value, question, chance)

    def _other_text(
        self, name: str, value: str, question: str, chance: random.Random
    ) -> tuple[int, int, str, Any] | None:
        pool = self._pools.get(_pool(name, value))
        if not pool:
            return None
        other = chance.choice(pool)
        place = _place(value, question)
        if place is not None:
            words, more = other.split(" "), chance.choice(pool).split(" ")
            if "," not in other and len(words) > 1 and len(more) > 1 and chance.random() < 0.5:
                # First name of one, last name of another: far more names than there are.
                other = " ".join([*words[: len(words) // 2], *more[len(more) // 2 :]])
            return *place, other, other
        place = _place(value.split(",")[0], question)
        if place is None or "," not in value:
            return None
        return *place, other.split(",")[0], other


def _other_number(
    value: float, schema: Mapping[str, Any], question: str, chance: random.Random
) -> tuple[int, int, str, Any] | None:
    place = _place(str(int(value)) if float(value).is_integer() else str(value), question)
    if place is None or value < 0:
        return None
    around = question[max(0, place[0] - 2) : place[0]] + question[place[1] : place[1] + 2]
    if any(c.isdigit() or c in "/:" for c in around):
        return None  # A part of a date, a time or a longer number.
    options = schema.get("enum")
    if isinstance(options, list) and options:
        other = chance.choice(options)
    elif value < 10:
        other = chance.randint(2, 8) if value > 1 else value  # «1 ticket» would need another word.
    else:
        other = chance.randint(10, 10 ** len(str(int(value))))
    if other == value or (other == 1) != (value == 1):
        return None
    return *place, str(other), other


def _other_date(
    value: str, schema: Mapping[str, Any], question: str, chance: random.Random
) -> tuple[int, int, str, Any] | None:
    """Another day for the only date of a question, written the way it was."""
    wanted = calls.date_format(schema) or ""
    iso = calls.to_iso(value, wanted)
    places = list(_DATE.finditer(question))
    if len(places) != 1 or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", iso):
        return None
    found = places[0].groupdict()
    month = found["m1"] or found["m2"]
    number = _number(month) if month else int(found["m3"] or found["m4"])
    day = int(found["d1"] or found["d2"] or found["d3"] or found["d4"])
    year, had_month, had_day = (int(part) for part in iso.split("-"))
    if (number, day) != (had_month, had_day):
        return None
    other = date(year, 1, 1) + timedelta(days=chance.randrange(365))
    written = _date_like(found, other)
    place = places[0].span()
    iso = other.isoformat()
    return *place, _cased(written, question[place[0] : place[1]]), calls.from_iso(iso, wanted)


def _date_like(found: Mapping[str, str | None], other: date) -> str:
    long = len(found["m1"] or found["m2"] or "") > 3
    name = _MONTHS[other.month - 1] if long else _MONTHS[other.month - 1][:3]
    if found["m1"]:
        ending = _ordinal(other.day) if found["s1"] else ""
        return f"{name}{found['g1']}{other.day}{ending}"
    if found["m2"]:
        ending = _ordinal(other.day) if found["s2"] else ""
        return f"{other.day}{ending}{found['g2']}{name}"
    if found["y3"]:
        point = found["p3"]
        return (
            f"{found['y3']}{point}{other.month:0{len(found['m3'] or '')}}"
            f"{point}{other.day:0{len(found['d3'] or '')}}"
        )
    return (
        f"{other.month:0{len(found['m4'] or '')}}/{other.day:0{len(found['d4'] or '')}}"
        f"/{found['y4']}"
    )


def _ordinal(day: int) -> str:
    return "th" if 10 < day % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _number(month: str) -> int:
    return [name[:3].lower() for name in _MONTHS].index(month[:3].lower()) + 1


def _slots(example: Example) -> list[tuple[str, Any, Mapping[str, Any]]]:
    """Arguments of the answer's only call: name, value, schema."""
    if len(example.answer.tool_calls) != 1:
        return []
    call = example.answer.tool_calls[0]
    schema = next((tool.parameters for tool in example.tools if tool.name == call.name), {})
    known = schema.get("properties") or {}
    arguments = json.loads(call.arguments or "{}")
    return [(name, value, known.get(name) or {}) for name, value in arguments.items()]


def _question(example: Example) -> str:
    return next((m.content or "" for m in reversed(example.messages) if m.role == "user"), "")


def _with_question(messages: Sequence[Message], question: str) -> tuple[Message, ...]:
    last = max(i for i, message in enumerate(messages) if message.role == "user")
    changed = replace(messages[last], content=question)
    return (*messages[:last], changed, *messages[last + 1 :])


def _pool(name: str, value: str) -> str:
    # Places with a state or country fit any argument that takes such places.
    return "," if "," in value else name


def _closed(schema: Mapping[str, Any]) -> bool:
    return isinstance(schema.get("enum"), list)


def _is_choice(option: str) -> bool:
    return len(option) > 1 and option.lower() not in _NO_CHOICE


def _copied(value: str, question: str) -> bool:
    return _place(value, question) is not None or (
        "," in value and _place(value.split(",")[0], question) is not None
    )


def _place(value: str, question: str) -> tuple[int, int] | None:
    """Where the value stands in the question, as whole words and once only."""
    if not value.strip():
        return None
    found = list(re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", question, re.IGNORECASE))
    return found[0].span() if len(found) == 1 else None


def _cased(text: str, like: str) -> str:
    return text.lower() if like.islower() else text
