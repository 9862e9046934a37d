"""The training examples whose questions are most like a given one, by their characters.

Tf-idf cosine of character 3- to 5-grams within words: robust against typos, no model, the same on
every machine.
"""

import hashlib
import heapq
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from kickwheel.records import Example

POOL = 20_000
"""Examples that are searched at most, drawn by hash: about 1 GB of memory, and 30 ms a question."""

_WORD = re.compile(r"\w+")


class Nearest:
    """Examples to retrieve from; of more than 20,000 those that the hash draws."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = drawn(examples, POOL)
        counts = [_grams(question(example)) for example in self._examples]
        holding: Counter[str] = Counter()
        for grams in counts:
            holding.update(grams.keys())
        total = len(counts)
        self._rarity = {gram: math.log((1 + total) / (1 + n)) + 1 for gram, n in holding.items()}
        self._index: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for place, grams in enumerate(counts):
            for gram, weight in self._weights(grams).items():
                self._index[gram].append((place, weight))

    def find(self, example: Example, k: int) -> tuple[Example, ...]:
        """The `k` examples most like the given one, the most alike first.

        Where the given one offers tools, examples that call one of these come before all others:
        a call to another tool teaches nothing about the question.
        """
        likeness: dict[int, float] = defaultdict(float)
        for gram, weight in self._weights(_grams(question(example))).items():
            for place, other in self._index.get(gram, ()):
                likeness[place] += weight * other
        offered = {tool.name for tool in example.tools}

        def order(place: int) -> tuple[bool, float, str]:
            found = self._examples[place]
            foreign = bool(offered) and not offered.issuperset(
                call.name for call in found.answer.tool_calls
            )
            return foreign, -likeness[place], found.id

        places = [p for p, one in enumerate(self._examples) if one.id != example.id]
        return tuple(self._examples[place] for place in heapq.nsmallest(k, places, key=order))

    def _weights(self, grams: Counter[str]) -> dict[str, float]:
        known = {
            gram: (1 + math.log(n)) * self._rarity[gram]
            for gram, n in grams.items()
            if gram in self._rarity
        }
        length = math.sqrt(sum(weight * weight for weight in known.values()))
        return {gram: weight / length for gram, weight in known.items()} if length else {}


def question(example: Example) -> str:
    """What the user said last."""
    said = (m.content for m in reversed(example.messages) if m.role == "user" and m.content)
    return next(said, example.messages[-1].content or "" if example.messages else "")


def drawn(examples: Sequence[Example], n: int | None) -> tuple[Example, ...]:
    """`n` of the examples, chosen by the hash of their questions: the same ones every time."""
    if n is None or n >= len(examples):
        return tuple(examples)
    ordered = sorted(
        examples, key=lambda e: hashlib.sha256(f"draw:{question(e)}:{e.id}".encode()).digest()
    )
    chosen = {example.id for example in ordered[:n]}
    return tuple(example for example in examples if example.id in chosen)


def _grams(text: str) -> Counter[str]:
    grams: Counter[str] = Counter()
    for word in _WORD.findall(text.casefold()):
        padded = f" {word} "
        for n in (3, 4, 5):
            grams.update(padded[i : i + n] for i in range(len(padded) - n + 1))
    return grams
