"""Which pairs of many texts are alike, without comparing all with all.

Two sets with likeness t share a token among the first n - ⌈tn⌉ + 1 of each, when tokens are ordered
from the rarest (Bayardo et al. 2007, Scaling up all pairs similarity search). How many they share
there bounds how many they can share at all (Xiao et al. 2008, Efficient similarity joins for near
duplicate detection): few candidates are left to compare. The result is exact for the measures of
`likeness`.

Many texts are searched with numpy, few without: its import takes longer than their search.
"""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from kickwheel.flywheel.curate.likeness import MANY, MEASURES, Measure

Wanted = Callable[[int], bool]


class Pairs:
    """Finds, among texts that were added, those that are as alike as a threshold."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        """`texts` in plain form: all that will be added or looked for, by their positions."""
        self._spaces = [
            space
            for measure in MEASURES
            if (space := _space(texts, threshold, measure)) is not None
        ]

    def add(self, i: int) -> None:
        """From now on text `i` is found."""
        for space in self._spaces:
            space.add(i)

    def like(self, i: int, wanted: Wanted | None = None) -> dict[int, float]:
        """The added texts that are as alike to text `i`, with their likeness.

        Args:
            wanted: says of an added text whether it matters.
        """
        found: dict[int, float] = {}
        for space in self._spaces:
            for j, value in space.like(i, wanted):
                found[j] = max(value, found.get(j, 0.0))
        return found


class _Space:
    """Sets of one measure, as sorted rows of token numbers, the rarest first."""

    def __init__(self, rows: list["array[int]"], threshold: float) -> None:
        self._rows = rows
        self._threshold = threshold
        # Less a hair, lest 0.7 * 10 is rounded up to 8.
        self._prefix = [len(r) - math.ceil(threshold * len(r) - 1e-9) + 1 if r else 0 for r in rows]
        self._postings: dict[int, array[int]] = {}

    def add(self, i: int) -> None:
        for token in self._rows[i][: self._prefix[i]]:
            self._postings.setdefault(token, array("I")).append(i)

    def like(self, i: int, wanted: Wanted | None) -> Iterator[tuple[int, float]]:
        row, prefix = self._rows[i], self._prefix[i]
        if not row:
            return
        shared: Counter[int] = Counter()
        for token in row[:prefix]:
            shared.update(self._postings.get(token, ()))
        here, size, last = set(row), len(row), row[prefix - 1]
        share = self._threshold / (1 + self._threshold)
        for j in sorted(shared):
            other, cut = self._rows[j], self._prefix[j]
            rest = size - prefix if last < other[cut - 1] else len(other) - cut
            if shared[j] + rest < share * (size + len(other)) - 1e-9:
                continue
            if wanted is not None and not wanted(j):
                continue
            common = len(here.intersection(other))
            value = common / (size + len(other) - common)
            if value >= self._threshold:
                yield j, value


class _Vectors:
    """The same as `_Space`, a whole list of candidates at a time."""

    def __init__(self, rows: list["array[int]"], threshold: float, tokens: int) -> None:
        import numpy

        self._np = numpy
        self._threshold = threshold
        sizes = numpy.array([len(row) for row in rows], dtype=numpy.int64)
        flat = array("I")
        for row in rows:
            flat.extend(row)
        self._flat = numpy.frombuffer(flat, dtype=numpy.uint32)
        self._starts = numpy.concatenate([[0], numpy.cumsum(sizes)])
        self._sizes = sizes
        cut = sizes - numpy.ceil(threshold * sizes - 1e-9).astype(numpy.int64) + 1
        self._cut = numpy.where(sizes > 0, cut, 0)
        self._last = numpy.zeros(len(rows), dtype=numpy.int64)
        filled = sizes > 0
        self._last[filled] = self._flat[(self._starts[:-1] + self._cut - 1)[filled]]
        self._added = numpy.zeros(len(rows), dtype=bool)
        self._mark = numpy.zeros(tokens, dtype=bool)
        self._index(len(rows), tokens)

    def _index(self, count: int, tokens: int) -> None:
        """For each token the rows in whose prefix it stands."""
        numpy = self._np
        owner = numpy.repeat(numpy.arange(count, dtype=numpy.uint32), self._sizes)
        place = numpy.arange(len(self._flat)) - numpy.repeat(self._starts[:-1], self._sizes)
        inside = place < numpy.repeat(self._cut, self._sizes)
        token, owner = self._flat[inside], owner[inside]
        order = numpy.argsort(token, kind="stable")
        self._owners = owner[order]
        self._lists = numpy.searchsorted(token[order], numpy.arange(tokens + 1))

    def add(self, i: int) -> None:
        self._added[i] = True

    def like(self, i: int, wanted: Wanted | None) -> Iterator[tuple[int, float]]:
        numpy = self._np
        size, prefix = int(self._sizes[i]), int(self._cut[i])
        if not size:
            return
        row = self._flat[self._starts[i] : self._starts[i + 1]]
        lists = [self._owners[self._lists[t] : self._lists[t + 1]] for t in row[:prefix].tolist()]
        shared = numpy.bincount(numpy.concatenate(lists), minlength=1)
        met = numpy.flatnonzero(shared)
        met = met[self._added[met]]
        others = self._sizes[met]
        rest = numpy.where(self._last[i] < self._last[met], size - prefix, others - self._cut[met])
        share = self._threshold / (1 + self._threshold)
        met = met[shared[met] + rest >= share * (size + others) - 1e-9]
        if not len(met):
            return
        self._mark[row] = True
        others = self._sizes[met]
        ends = numpy.cumsum(others)
        steps = numpy.arange(ends[-1]) - numpy.repeat(ends - others, others)
        hits = self._mark[self._flat[numpy.repeat(self._starts[met], others) + steps]]
        self._mark[row] = False
        common = numpy.add.reduceat(hits, ends - others, dtype=numpy.int64)
        values = common / (size + others - common)
        for k in numpy.flatnonzero(values >= self._threshold).tolist():
            j = int(met[k])
            if wanted is None or wanted(j):
                yield j, float(values[k])


def _space(texts: Sequence[str], threshold: float, measure: Measure) -> _Space | _Vectors | None:
    tokens, fits = measure
    rows, count = _numbered(tokens(text) if fits(text) else () for text in texts)
    if not count:
        return None
    if len(texts) >= MANY:
        try:
            return _Vectors(rows, threshold, count)
        except ImportError:
            pass
    return _Space(rows, threshold)


def _numbered(sets: Iterable[Iterable[Hashable]]) -> tuple[list["array[int]"], int]:
    """The sets as sorted rows of numbers, lower for rarer tokens, and how many tokens there are."""
    numbers: dict[Hashable, int] = {}
    counts: list[int] = []
    rows: list[array[int]] = []
    for tokens in sets:
        row = array("I")
        for token in tokens:
            number = numbers.setdefault(token, len(counts))
            if number == len(counts):
                counts.append(0)
            counts[number] += 1
            row.append(number)
        rows.append(row)
    order = sorted(range(len(counts)), key=counts.__getitem__)
    place = array("I", bytes(4 * len(order)))
    for position, number in enumerate(order):
        place[number] = position
    return [array("I", sorted(place[number] for number in row)) for row in rows], len(counts)
