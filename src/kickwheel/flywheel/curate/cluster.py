"""Examples of one template: near-duplicates, once digits and the answer's values are masked.

«Find a table for 4 in Oakland» and «Find a table for 6 in Napa» are two questions worth learning,
but whoever has learned the one is helped with the other. So they stand in one split, and
statistics count them as one.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from kickwheel.flywheel.curate.normalise import plain
from kickwheel.flywheel.curate.pairs import Pairs
from kickwheel.records import AcceptedCall, Message

TEMPLATE = 0.7
"""Likeness of masked questions from which they are of one template."""
LETTERS = 10
"""A masked question with fewer letters left says nothing of its template."""

_DIGITS = re.compile(r"\d+")


class Groups:
    """Numbers that belong together (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, i: int) -> int:
        """The group's representative: its smallest number."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Makes one group of two."""
        low, high = sorted((self.find(i), self.find(j)))
        self._parent[high] = low

    def members(self) -> dict[int, list[int]]:
        """Each group's numbers, by its representative."""
        found: dict[int, list[int]] = {}
        for i in range(len(self._parent)):
            found.setdefault(self.find(i), []).append(i)
        return found


def join_templates(groups: Groups, masked: Sequence[str], threshold: float = TEMPLATE) -> None:
    """Joins the groups of questions whose masked forms are as alike as `threshold`."""
    first: dict[str, int] = {}
    for i, text in enumerate(masked):
        groups.join(i, first.setdefault(text, i))
    texts = list(first)
    pairs = Pairs(texts, threshold)
    for k, text in enumerate(texts):
        here = first[text]

        def apart(j: int, here: int = here) -> bool:
            return groups.find(first[texts[j]]) != groups.find(here)

        for j in pairs.like(k, apart):
            groups.join(here, first[texts[j]])
        pairs.add(k)


def mask(question: str, answer: Message, accepted: Iterable[AcceptedCall]) -> str:
    """The plain question with digits and the answer's values masked."""
    masked = question
    for value in sorted(_values(answer, accepted), key=lambda v: (-len(v), v)):
        masked = masked.replace(value, "#")
    masked = _DIGITS.sub("#", masked)
    return masked if sum(map(str.isalpha, masked)) >= LETTERS else question


def _values(answer: Message, accepted: Iterable[AcceptedCall]) -> set[str]:
    found: set[str] = set()
    for call in answer.tool_calls:
        found.update(_leaves(_parsed(call.arguments)))
    for one in accepted:
        found.update(_leaves(one.arguments))
    if not answer.tool_calls and (answer.content or "")[:1] in ("{", "["):
        found.update(_leaves(_parsed(answer.content or "")))
    return {value for value in found if len(value) > 2}


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for entry in value.values():
            yield from _leaves(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _leaves(entry)
    elif isinstance(value, str):
        yield plain(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
