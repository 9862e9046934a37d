"""Train, validation, test: chosen by hash, cluster by cluster, with each tool or label its share.

The hash is that of a question's text, so the same traffic makes the same parts on every machine.
What an earlier dataset has placed stays where it is: as the data grow, no test question is ever
trained on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kickwheel.records import Split

HELD_BACK = "too near a test question"
BETWEEN = "near questions of two sides at once"

SIDES: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """A question that wants a place."""

    question: str
    """In plain form."""
    stratum: str
    """The tool or label of its answer."""
    pinned: Split | None = None
    """Where an earlier dataset has placed it."""
    cluster: str | None = None
    """The cluster that the earlier dataset gave it."""
    seen: bool = False
    """Whether prompts or few-shot examples show it: then it cannot be tested."""


@dataclass(slots=True)
class Placed:
    """Where each question went."""

    split: list[Split | None]
    """`None`: nowhere; `dropped` says why."""
    cluster: list[str]
    dropped: dict[int, str] = field(default_factory=dict)
    wanted: int = 0
    """Test questions that were wanted."""

    def count(self, side: Split) -> int:
        """How many stand on one side."""
        return sum(split == side for split in self.split)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cluster:
    key: str
    members: tuple[int, ...]
    stratum: str
    seen: bool


def place(
    questions: Sequence[Placing],
    groups: Mapping[int, Sequence[int]],
    *,
    test: float,
    validation: float,
) -> Placed:
    """A side for each question; those of one group stand on one side.

    Args:
        groups: positions that belong together, by any key.
        test: how many questions, or below 1 which share of all.
        validation: share of what is not test.
    """
    placed = Placed([None] * len(questions), [""] * len(questions))
    fresh = []
    for members in groups.values():
        if any(questions[i].pinned for i in members):
            _join_pinned(questions, members, placed, fixed=isinstance(test, int))
        else:
            fresh.append(_cluster(questions, members))
    kept = len(questions) - len(placed.dropped)
    placed.wanted = test if isinstance(test, int) else round(test * kept)
    unseen = [cluster for cluster in fresh if not cluster.seen]
    tested = _choose(unseen, placed.wanted - placed.count("test"), "test")
    rest = [cluster for cluster in fresh if cluster not in tested]
    wanted = round(validation * (kept - placed.count("test") - _size(tested)))
    validating = _choose(rest, wanted - placed.count("validation"), "validation")
    for cluster in fresh:
        side: Split = (
            "test" if cluster in tested else "validation" if cluster in validating else "train"
        )
        for i in cluster.members:
            placed.split[i], placed.cluster[i] = side, cluster.key[:12]
    return placed


def _join_pinned(
    questions: Sequence[Placing], members: Sequence[int], placed: Placed, *, fixed: bool
) -> None:
    pinned = [i for i in members if questions[i].pinned]
    sides = {questions[i].pinned for i in pinned}
    names = sorted({questions[i].cluster or "" for i in pinned})
    for i in members:
        own = questions[i]
        if own.pinned:
            placed.split[i] = own.pinned
            placed.cluster[i] = names[0] if len(sides) == 1 else own.cluster or ""
        elif len(sides) > 1:
            placed.dropped[i] = BETWEEN
        elif sides == {"test"} and (fixed or own.seen):
            placed.dropped[i] = HELD_BACK
        else:
            placed.split[i], placed.cluster[i] = sides.copy().pop(), names[0]


def _cluster(questions: Sequence[Placing], members: Sequence[int]) -> _Cluster:
    keys = {hashlib.sha256(questions[i].question.encode()).hexdigest(): i for i in members}
    key = min(keys)
    return _Cluster(
        key=key,
        members=tuple(members),
        stratum=questions[keys[key]].stratum,
        seen=any(questions[i].seen for i in members),
    )


def _choose(clusters: Sequence[_Cluster], wanted: int, salt: str) -> set[_Cluster]:
    """Clusters with `wanted` questions in all, or as near below as their sizes allow."""
    if wanted <= 0:
        return set()
    ordered = sorted(clusters, key=lambda c: hashlib.sha256(f"{salt} {c.key}".encode()).hexdigest())
    left = _quotas(ordered, wanted)
    chosen = set()
    for cluster in ordered:
        if len(cluster.members) <= left[cluster.stratum]:
            chosen.add(cluster)
            left[cluster.stratum] -= len(cluster.members)
    missing = wanted - _size(chosen)
    for cluster in ordered:
        if cluster not in chosen and len(cluster.members) <= missing:
            chosen.add(cluster)
            missing -= len(cluster.members)
    return chosen


def _quotas(clusters: Sequence[_Cluster], wanted: int) -> dict[str, int]:
    """Each stratum's share of `wanted` in whole numbers, by the largest remainders."""
    sizes: dict[str, int] = {}
    for cluster in clusters:
        sizes[cluster.stratum] = sizes.get(cluster.stratum, 0) + len(cluster.members)
    total = sum(sizes.values())
    exact = {name: min(wanted, total) * size / total for name, size in sizes.items()}
    quotas = {name: int(share) for name, share in exact.items()}
    by_rest = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_rest[: min(wanted, total) - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _size(clusters: set[_Cluster]) -> int:
    return sum(len(cluster.members) for cluster in clusters)
