"""How sure a figure is: intervals, paired tests, and how many examples would decide.

Answers to questions of one template rise and fall together, so where clusters are given, they
count, not rows. The interval of a paired difference is a closed form, chosen by simulation of its
coverage (`docs/decisions/0006-paired-interval.md`, `bench/gate.py`): the same data give the same
bounds everywhere, in microseconds.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

_NORMAL = NormalDist()
_RESAMPLES = 2_000


@dataclass(frozen=True, slots=True)
class Difference:
    """A paired difference of rates or means, with its interval."""

    value: float
    low: float
    high: float
    n: int
    clusters: int
    wins: int
    """Pairs in which the first was better."""
    losses: int
    design: float
    """Design effect: how many times the variance of independent pairs the clusters cause, 1 or
    more."""


def wilson(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Bounds of a share: wilson(8, 10) is (0.490, 0.943); (0, 1) where n is 0.

    Raises:
        ValueError: `right` is not between 0 and `n`.
    Source: Wilson (1927), Probable inference.
    """
    if not 0 <= right <= n:
        raise ValueError(f"{right} right of {n} is no share")
    if n == 0:
        return 0.0, 1.0
    z = _z(confidence)
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding would leave 1e-17 instead of the bound that the formula has there.
    low = 0.0 if right == 0 else max(0.0, middle - half)
    high = 1.0 if right == n else min(1.0, middle + half)
    return low, high


def mcnemar(wins: int, losses: int) -> float:
    """Chance that equal contestants differ at least so much; exact, two-sided.

    mcnemar(10, 2) is 0.0386. Ties say nothing and do not enter.

    Raises:
        ValueError: a count is negative.
    Source: McNemar (1947); exact by the binomial of the pairs that differ.
    """
    if wins < 0 or losses < 0:
        raise ValueError("wins and losses are counts")
    n, few = wins + losses, min(wins, losses)
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(few + 1))
    return min(1.0, 2 * tail / (1 << n))


def paired_rates(
    pairs: Sequence[tuple[bool, bool]],
    clusters: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> Difference:
    """First rate less second on the same questions, with a score interval for clustered pairs.

    Tango's score interval on counts divided by the design effect; the effect is the cluster-robust
    variance over that of independent pairs, at least 1, and the quantile is Student's with the
    clusters' degrees of freedom.

    Args:
        pairs: for each question whether the first and the second were right.
        clusters: for each question its cluster; `None` where all are independent.
    Raises:
        ValueError: there are no pairs, or not one cluster for each.
    Source: Tango (1998), Equivalence test and confidence interval for the difference in
        proportions for the paired-sample design; Obuchowski (1998), On the comparison of
        correlated proportions for clustered data; Rao and Scott (1992), for the division.
    """
    n = len(pairs)
    if n == 0:
        raise ValueError("no pairs to compare")
    sums = _by_cluster([float(first) - float(second) for first, second in pairs], clusters)
    wins = sum(1 for first, second in pairs if first and not second)
    losses = sum(1 for first, second in pairs if second and not first)
    value = (wins - losses) / n
    design = _design(sums, n, value, (wins + losses) / n - value * value)
    z = _t(confidence, len(sums) - 1)
    low, high = tango(wins / design, losses / design, n / design, z)
    return Difference(value, low, high, n, len(sums), wins, losses, design)


def tango(wins: float, losses: float, n: float, z: float) -> tuple[float, float]:
    """The differences that the score test at ±z does not reject.

    tango(0, 1, 44, 1.645) is (-0.096, 0.037), the example of the paper. Counts may be fractions.
    """
    value = (wins - losses) / n

    def score(delta: float) -> float:
        b = -wins - losses + (2 * n - wins + losses) * delta
        c = -losses * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        variance = n * (2 * q + delta * (1 - delta))
        if variance <= 0:
            return math.inf if wins - losses > n * delta else -math.inf
        return (wins - losses - n * delta) / math.sqrt(variance)

    low = -1.0 if value <= -1 else _root(lambda delta: score(delta) - z, -1.0, value)
    high = 1.0 if value >= 1 else _root(lambda delta: score(delta) + z, value, 1.0)
    return low, high


def paired_means(
    pairs: Sequence[tuple[float, float]],
    clusters: Sequence[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """First mean less second on the same questions; percentile bootstrap of whole clusters.

    Raises:
        ValueError: as `paired_rates`.
    Source: Davison and Hinkley (1997), Bootstrap Methods, section 3.8.
    """
    if not pairs:
        raise ValueError("no pairs to compare")
    differences = [first - second for first, second in pairs]
    sums = _by_cluster(differences, clusters)
    n = len(pairs)
    value = math.fsum(differences) / n
    spread = math.fsum((d - value) ** 2 for d in differences) / n
    low, high = _bootstrap(sums, confidence, seed)
    return Difference(
        value,
        min(low, value),
        max(high, value),
        n,
        len(sums),
        sum(1 for d in differences if d > 0),
        sum(1 for d in differences if d < 0),
        _design(sums, n, value, spread),
    )


def mean(
    values: Sequence[float],
    clusters: Sequence[str] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean, low and high; percentile bootstrap of whole clusters.

    Raises:
        ValueError: there are no values, or not one cluster for each.
    """
    if not values:
        raise ValueError("no values to average")
    value = math.fsum(values) / len(values)
    low, high = _bootstrap(_by_cluster(values, clusters), confidence, seed)
    return value, min(low, value), max(high, value)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie, interpolated; 0 where there are none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def quantile_interval(
    values: Sequence[float], share: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Bounds of the true quantile, from the order of the values alone; the extremes where few.

    Source: Conover (1999), Practical Nonparametric Statistics, section 3.2, by the normal
        approximation of the binomial ranks.
    """
    if not values:
        return 0.0, 0.0
    ordered, n = sorted(values), len(values)
    half = _z(confidence) * math.sqrt(n * share * (1 - share))
    low = max(0, math.floor(n * share - half) - 1)
    high = min(n - 1, math.ceil(n * share + half) - 1)
    return ordered[low], ordered[max(high, low)]


def power(
    n: int,
    difference: float,
    *,
    discordance: float,
    margin: float = 0.0,
    confidence: float = 0.95,
    design: float = 1.0,
) -> float:
    """Chance that n questions show that a true `difference` of rates exceeds `margin`.

    Args:
        discordance: share of the questions that only one of the two answers rightly, at least
            `difference`.
        design: design effect of the clusters.
    Source: Connor (1987), Sample size for testing differences in proportions for the
        paired-sample design.
    """
    spread = discordance - difference * difference
    if n <= 0:
        return 0.0
    if spread <= 0:
        return 1.0 if difference > margin else 0.0
    apart = (difference - margin) * math.sqrt(n / design)
    # The null's variance stands at the threshold, the truth's decides how often it is passed.
    null = max(discordance - margin * margin, 1e-12)
    return _NORMAL.cdf((apart - _z(confidence) * math.sqrt(null)) / math.sqrt(spread))


def needed(
    difference: float,
    *,
    discordance: float,
    margin: float = 0.0,
    confidence: float = 0.95,
    design: float = 1.0,
    chance: float = 0.8,
) -> int | None:
    """How many questions show with `chance` that a true `difference` is above the margin, or, if
    it is below, that it is; `None` where no number would: it stands on the margin.

    needed(0.1, discordance=0.3) is 234.

    Source: as `power`.
    """
    apart = abs(difference - margin)
    if apart < 1e-9:
        return None
    spread = max(discordance - difference * difference, 0.0)
    null = max(discordance - margin * margin, 0.0)
    root = _z(confidence) * math.sqrt(null) + _NORMAL.inv_cdf(chance) * math.sqrt(spread)
    return math.ceil(design * (root / apart) ** 2)


def needed_for_width(
    n: int, half: float, apart: float, *, confidence: float = 0.95, chance: float = 0.8
) -> int | None:
    """How many values show with `chance` a true difference that lies `apart` from the margin, if n
    of them gave an interval of ±`half`; `None` where no number would."""
    if apart < 1e-9:
        return None
    z = _z(confidence)
    return math.ceil(n * (half / z * (z + _NORMAL.inv_cdf(chance)) / apart) ** 2)


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1; {confidence} does not")
    return _NORMAL.inv_cdf(0.5 + confidence / 2)


def _t(confidence: float, freedom: int) -> float:
    """Student's quantile by Cornish and Fisher's expansion: 2.228 for 0.95 and 10."""
    z, v = _z(confidence), max(freedom, 1)
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def _by_cluster(values: Sequence[float], clusters: Sequence[str] | None) -> list[tuple[float, int]]:
    """Sum and size of each cluster, in the order of their names: resampling depends on it."""
    if clusters is None:
        return [(value, 1) for value in values]
    if len(clusters) != len(values):
        raise ValueError(f"{len(values)} values but {len(clusters)} clusters")
    members: dict[str, list[float]] = defaultdict(list)
    for value, cluster in zip(values, clusters, strict=True):
        members[cluster].append(value)
    return [(math.fsum(found), len(found)) for _, found in sorted(members.items())]


def _design(sums: list[tuple[float, int]], n: int, value: float, spread: float) -> float:
    """Cluster-robust variance of the mean over that of independent values; 1 or more."""
    count = len(sums)
    if spread <= 0 or count < 2 or count == n:
        return 1.0
    robust = sum((total - size * value) ** 2 for total, size in sums) * count / (count - 1)
    return max(1.0, robust / (n * spread))


def _bootstrap(sums: list[tuple[float, int]], confidence: float, seed: int) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    _z(confidence)
    chooser = random.Random(seed)
    means = []
    for _ in range(_RESAMPLES):
        drawn = chooser.choices(sums, k=len(sums))
        means.append(sum(total for total, _ in drawn) / sum(size for _, size in drawn))
    return quantile(means, tail), quantile(means, 1 - tail)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero between two places, to 1e-9."""
    for _ in range(32):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
