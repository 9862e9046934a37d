"""How alike two texts are, and which of many is the most alike.

Texts of up to `SHORT` characters (about 60 words) are compared by the Jaccard likeness of their
sets of character 5-grams: of the cheap measures the one that finds most copies of chat queries
with slips and dropped words. Longer ones by word 3-shingles, of which the 128 with the smallest
hashes stand for all (Broder 1997), so that a text of any length costs the same.

All texts are expected in plain form (`normalise.plain`).
"""

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

Measure = tuple[Callable[[str], set[Hashable]], Callable[[str], bool]]

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
    for tokens, fits in MEASURES:
        if fits(a) and fits(b):
            found = max(found, _jaccard(tokens(a), tokens(b)))
    return found


def nearest(texts: Sequence[str], others: Sequence[str]) -> list[tuple[int, float]]:
    """For each text the position of the most alike among `others`, and how alike it is.

    (-1, 0.0) where none has anything in common with it. Of equals the first.
    """
    found = [(-1, 0.0)] * len(texts)
    for tokens, fits in MEASURES:
        rows = [i for i, text in enumerate(texts) if fits(text)]
        columns = [j for j, text in enumerate(others) if fits(text)]
        best = _nearest(
            [tokens(texts[i]) for i in rows], (tokens(others[j]) for j in columns), len(columns)
        )
        for i, (j, value) in zip(rows, best, strict=True):
            if j >= 0 and value > found[i][1]:
                found[i] = (columns[j], value)
    return found


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


MEASURES: tuple[Measure, ...] = (
    (grams, _is_short),  # type: ignore[assignment]
    (shingles, _is_long),
)
"""How a text becomes tokens, and which texts it fits."""
