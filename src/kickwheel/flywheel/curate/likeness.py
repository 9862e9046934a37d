"""How alike two texts are, and which pairs of many are.

Texts of up to `SHORT` characters (about 60 words) are compared by the Jaccard likeness of their
sets of character 5-grams: of the cheap measures the one that finds most copies of chat queries
with slips and dropped words. Longer ones by word 3-shingles, of which the 128 with the smallest
hashes stand for all (Broder 1997), so that a text of any length costs the same.

Pairs are found without comparing all with all: two sets with likeness t share a token among the
first n - ⌈tn⌉ + 1 of each, when tokens are ordered from the rarest (Bayardo et al. 2007, Scaling
up all pairs similarity search). For short texts the result is exact.

All texts are expected in plain form (`normalise.plain`).
"""

import math
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

SHORT = 400
"""Characters of a text that is compared by character 5-grams at most."""
LONG = 300
"""Characters of a text that is compared by word shingles at least; between both, by either."""
SKETCH = 128
MANY = 2_000
"""Texts from which numpy is worth its import."""

_WORD = re.compile(r"\w{1,12}")


def grams(text: str) -> set[str]:
    """Character 5-grams of a text, with a blank at both ends."""
    padded = f" {text} "
    return {padded[i : i + 5] for i in range(max(1, len(padded) - 4))}


def shingles(text: str) -> set[int]:
    """The sketch of a text: the smallest hashes of its word 3-shingles."""
    words = _WORD.findall(text)
    found = {zlib.crc32(" ".join(words[i : i + 3]).encode()) for i in range(max(1, len(words) - 2))}
    return set(sorted(found)[:SKETCH]) if len(found) > SKETCH else found


def likeness(a: str, b: str) -> float:
    """How alike two texts are, 0 to 1; 0 between a short and a long one."""
    found = 0.0
    for tokens, fits in _MEASURES:
        if fits(a) and fits(b):
            found = max(found, _jaccard(tokens(a), tokens(b)))
    return found


class Pairs:
    """Finds, among texts that were added, those that are as alike as a threshold."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._spaces = [
            _Space(texts, threshold, tokens, fits)
            for tokens, fits in _MEASURES
            if any(fits(text) for text in texts)
        ]

    def add(self, i: int) -> None:
        """From now on text `i` is found."""
        for space in self._spaces:
            space.add(i)

    def like(self, i: int, wanted: Callable[[int], bool] | None = None) -> dict[int, float]:
        """The added texts that are as alike to text `i`, with their likeness.

        Args:
            wanted: says of an added text, before it is compared, whether it matters.
        """
        found: dict[int, float] = {}
        for space in self._spaces:
            for j, value in space.like(i, wanted):
                found[j] = max(value, found.get(j, 0.0))
        return found


def nearest(texts: Sequence[str], others: Sequence[str]) -> list[tuple[int, float]]:
    """For each text the position of the most alike among `others`, and how alike it is.

    (-1, 0.0) where none has anything in common with it. Of equals the first.
    """
    found = [(-1, 0.0)] * len(texts)
    for tokens, fits in _MEASURES:
        rows = [i for i, text in enumerate(texts) if fits(text)]
        columns = [j for j, text in enumerate(others) if fits(text)]
        best = _nearest(
            [tokens(texts[i]) for i in rows], (tokens(others[j]) for j in columns), len(columns)
        )
        for i, (j, value) in zip(rows, best, strict=True):
            if j >= 0 and value > found[i][1]:
                found[i] = (columns[j], value)
    return found


class _Space:
    """The texts that one measure fits, as sorted arrays of token numbers, the rarest first."""

    def __init__(
        self,
        texts: Sequence[str],
        threshold: float,
        tokens: Callable[[str], Iterable[Hashable]],
        fits: Callable[[str], bool],
    ) -> None:
        self._threshold = threshold
        numbers: dict[Hashable, int] = {}
        counts: list[int] = []
        self._tokens: list[array[int]] = []
        for text in texts:
            row = array("I")
            if fits(text):
                for token in tokens(text):
                    number = numbers.setdefault(token, len(counts))
                    if number == len(counts):
                        counts.append(0)
                    counts[number] += 1
                    row.append(number)
            self._tokens.append(row)
        order = sorted(range(len(counts)), key=counts.__getitem__)
        place = array("I", bytes(4 * len(order)))
        for position, number in enumerate(order):
            place[number] = position
        for i, row in enumerate(self._tokens):
            self._tokens[i] = array("I", sorted(place[number] for number in row))
        self._postings: dict[int, array[int]] = {}

    def add(self, i: int) -> None:
        for token in self._prefix(i):
            self._postings.setdefault(token, array("I")).append(i)

    def like(self, i: int, wanted: Callable[[int], bool] | None) -> Iterable[tuple[int, float]]:
        row = self._tokens[i]
        low, high = self._threshold * len(row), len(row) / self._threshold
        met: set[int] = set()
        for token in self._prefix(i):
            met.update(self._postings.get(token, ()))
        here = set(row)
        for j in sorted(met):
            other = self._tokens[j]
            if low <= len(other) <= high and (wanted is None or wanted(j)):
                common = len(here.intersection(other))
                value = common / (len(row) + len(other) - common)
                if value >= self._threshold:
                    yield j, value

    def _prefix(self, i: int) -> "array[int]":
        row = self._tokens[i]
        # Less a hair, lest 0.7 * 10 is rounded up to 8.
        return row[: len(row) - math.ceil(self._threshold * len(row) - 1e-9) + 1]


def _nearest(
    rows: list[set[Hashable]], columns: Iterable[set[Hashable]], count: int
) -> list[tuple[int, float]]:
    asked = set().union(*rows) if rows else set()
    postings: dict[Hashable, array[int]] = {}
    sizes = array("I")
    for j, tokens in enumerate(columns):
        sizes.append(len(tokens))
        for token in tokens & asked:
            postings.setdefault(token, array("I")).append(j)
    best = _nearest_by_numpy if count >= MANY else _nearest_by_counting
    try:
        return best(rows, postings, sizes)
    except ImportError:
        return _nearest_by_counting(rows, postings, sizes)


def _nearest_by_counting(
    rows: list[set[Hashable]], postings: "dict[Hashable, array[int]]", sizes: "array[int]"
) -> list[tuple[int, float]]:
    found = []
    for row in rows:
        common: Counter[int] = Counter()
        for token in row:
            common.update(postings.get(token, ()))
        best = (-1, 0.0)
        for j, shared in common.items():
            value = shared / (len(row) + sizes[j] - shared)
            if value > best[1] or (value == best[1] and j < best[0]):
                best = (j, value)
        found.append(best)
    return found


def _nearest_by_numpy(
    rows: list[set[Hashable]], postings: "dict[Hashable, array[int]]", sizes: "array[int]"
) -> list[tuple[int, float]]:
    import numpy

    size = numpy.frombuffer(sizes, dtype=numpy.uint32).astype(numpy.float64)
    found = []
    for row in rows:
        lists = [
            numpy.frombuffer(postings[token], dtype=numpy.uint32)
            for token in row
            if token in postings
        ]
        if not lists:
            found.append((-1, 0.0))
            continue
        common = numpy.bincount(numpy.concatenate(lists), minlength=len(size))
        values = common / (len(row) + size - common)
        j = int(values.argmax())
        found.append((j, float(values[j])))
    return found


def _jaccard(a: set[Hashable], b: set[Hashable]) -> float:
    common = len(a & b)
    return common / (len(a) + len(b) - common)


def _is_short(text: str) -> bool:
    return len(text) <= SHORT


def _is_long(text: str) -> bool:
    return len(text) >= LONG


_MEASURES: tuple[tuple[Callable[[str], set[Hashable]], Callable[[str], bool]], ...] = (
    (grams, _is_short),  # type: ignore[assignment]
    (shingles, _is_long),
)
