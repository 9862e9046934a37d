"""How good an answer is, by the kind of the right one.

call   right tool; right call, by BFCL's rules (`call`)
json   right where every field is; `fields`, the share of fields that are
label  right where it is the label, whatever its case and blanks
text   right where it is the same text; `similarity`, by its character n-grams
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kickwheel.flywheel.evaluate import call
from kickwheel.records import Example, Message

_FENCE = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer is worth."""

    right: bool
    scores: dict[str, float] = field(default_factory=dict)
    fault: str | None = None
    detail: str = ""


def judge(answer: Message, example: Example, *, cut: bool = False) -> Judged:
    """The worth of an answer to the example's question.

    Args:
        cut: whether the answer ended at its limit of tokens; the mistake is then named so.
    """
    judged = _JUDGES[example.kind](answer, example)
    if cut and not judged.right:
        return Judged(False, judged.scores, "cut off", judged.detail)
    return judged


def nothing(example: Example) -> Judged:
    """The worth of no answer."""
    scores = {"call": "right_tool", "json": "fields", "text": "similarity"}
    name = scores.get(example.kind)
    return Judged(False, {name: 0.0} if name else {}, "no answer")


def shown(message: Message) -> str:
    """The answer as people read it."""
    if message.tool_calls:
        return call.readable(message.tool_calls)
    return message.content or ""


def chrf(given: str, wanted: str, *, order: int = 6, beta: float = 2.0) -> float:
    """Likeness of two texts, 0 to 1: F-score of their character n-grams of 1 to `order`.

    Blanks do not count. Orders for which neither text is long enough are left out.

    Source: Popović (2015), chrF; as sacrebleu computes it, divided by 100.
    """
    given, wanted = "".join(given.split()), "".join(wanted.split())
    if not given or not wanted:
        return 1.0 if given == wanted else 0.0
    precision = recall = 0.0
    orders = 0
    for n in range(1, order + 1):
        mine, other = _grams(given, n), _grams(wanted, n)
        have, need = sum(mine.values()), sum(other.values())
        if not have or not need:
            continue
        shared = sum((mine & other).values())
        precision += shared / have
        recall += shared / need
        orders += 1
    precision, recall = precision / orders, recall / orders
    if precision + recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


def fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each leaf of a JSON value with its path: `order.items[0].price`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from fields(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for position, inner in enumerate(value):
            yield from fields(inner, f"{path}[{position}]")
    else:
        yield path, value


def parsed(text: str) -> Any:
    """The JSON value of an answer, also one in a code fence.

    Raises:
        ValueError: it is no JSON.
    """
    fenced = _FENCE.fullmatch(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def same_label(given: str, wanted: str) -> bool:
    """Whether two labels are one, whatever their case and blanks."""
    return plain(given).casefold() == plain(wanted).casefold()


def plain(text: str) -> str:
    """The text in one Unicode form, with single blanks."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _calls(answer: Message, example: Example) -> Judged:
    right_tool = float(call.right_tools(answer.tool_calls, example))
    found = call.mistakes(answer.tool_calls, example)
    if not found:
        return Judged(True, {"right_tool": right_tool})
    detail = "; ".join(mistake.detail for mistake in found)
    return Judged(False, {"right_tool": right_tool}, found[0].fault, detail)


def _json(answer: Message, example: Example) -> Judged:
    wanted = dict(fields(parsed(example.answer.content or "null")))
    try:
        given = dict(fields(parsed(answer.content or "")))
    except ValueError:
        return Judged(False, {"fields": 0.0}, "no JSON", (answer.content or "")[:80])
    paths = list(dict.fromkeys([*wanted, *given]))
    wrong = [p for p in paths if not _equal(given.get(p, _MISSING), wanted.get(p, _MISSING))]
    share = 1 - len(wrong) / len(paths)
    if not wrong:
        return Judged(True, {"fields": 1.0})
    first = wrong[0]
    fault = "wrong field"
    if first not in given:
        fault = "missing field"
    elif first not in wanted:
        fault = "unexpected field"
    return Judged(False, {"fields": share}, fault, ", ".join(path or "(all)" for path in wrong[:5]))


def _label(answer: Message, example: Example) -> Judged:
    given, wanted = answer.content or "", example.answer.content or ""
    if same_label(given, wanted):
        return Judged(True)
    return Judged(False, {}, "wrong label" if plain(given) else "no answer", plain(given)[:80])


def _text(answer: Message, example: Example) -> Judged:
    given, wanted = answer.content or "", example.answer.content or ""
    similarity = chrf(given, wanted)
    if plain(given) == plain(wanted):
        return Judged(True, {"similarity": similarity})
    return Judged(False, {"similarity": similarity}, "other words" if given else "no answer")


_JUDGES = {"call": _calls, "json": _json, "label": _label, "text": _text}


def _equal(given: Any, wanted: Any) -> bool:
    if isinstance(given, bool) or isinstance(wanted, bool):
        return given is wanted
    if isinstance(given, str) and isinstance(wanted, str):
        return plain(given) == plain(wanted)
    return bool(given == wanted)


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))
