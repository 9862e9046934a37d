"""How often the gate errs: coverage of the paired interval, false promotions, power.

    python bench/gate.py [TURNS]

Turns are made, not measured: two contestants on n questions in templates, by a latent normal for
template and question, of which both share a part (`alike`); half of the variance is the
template's. No clock is involved, so that the machine's load does not matter.
"""

import math
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from kickwheel.flywheel import interval

Rows = tuple[list[tuple[bool, bool]], list[str]]
Bounds = Callable[[Sequence[tuple[bool, bool]], Sequence[str]], tuple[float, float]]

SIZES = {
    "alone": ([1], [1]),
    "twins": ([1, 2, 3, 4, 6], [70, 15, 8, 5, 2]),
    "families": ([2, 4, 8, 12], [4, 3, 2, 1]),
}
NORMAL = NormalDist()


@dataclass(frozen=True)
class World:
    """What turns are drawn from."""

    sizes: str
    first: float
    second: float
    alike: float
    template: float
    n: int = 150

    def turn(self, chooser: random.Random) -> Rows:
        parts = (
            self.template * self.alike,
            self.template * (1 - self.alike),
            (1 - self.template) * self.alike,
            (1 - self.template) * (1 - self.alike),
        )
        both, own, question_both, question_own = (math.sqrt(part) for part in parts)
        cuts = NORMAL.inv_cdf(self.first), NORMAL.inv_cdf(self.second)
        gauss = chooser.gauss
        rows: list[tuple[bool, bool]] = []
        clusters: list[str] = []
        while len(rows) < self.n:
            size = min(chooser.choices(*SIZES[self.sizes])[0], self.n - len(rows))
            shared = gauss(0, both)
            levels = shared + gauss(0, own), shared + gauss(0, own)
            name = str(len(rows))
            for _ in range(size):
                question = gauss(0, question_both)
                mine, other = (
                    level + question + gauss(0, question_own) < cut
                    for level, cut in zip(levels, cuts, strict=True)
                )
                rows.append((mine, other))
                clusters.append(name)
        return rows, clusters


def score(rows: Sequence[tuple[bool, bool]], clusters: Sequence[str]) -> tuple[float, float]:
    found = interval.paired_rates(rows, clusters)
    return found.low, found.high


def score_of_rows(rows: Sequence[tuple[bool, bool]], _: Sequence[str]) -> tuple[float, float]:
    found = interval.paired_rates(rows)
    return found.low, found.high


def wald(rows: Sequence[tuple[bool, bool]], clusters: Sequence[str]) -> tuple[float, float]:
    """The cluster-robust normal interval (Obuchowski 1998)."""
    value = sum(a - b for a, b in rows) / len(rows)
    sums: dict[str, float] = {}
    for (a, b), cluster in zip(rows, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + (a - b) - value
    count = len(sums)
    spread = sum(s * s for s in sums.values()) * count / (count - 1)
    half = NORMAL.inv_cdf(0.975) * math.sqrt(spread) / len(rows)
    return value - half, value + half


def coverage(turns: int) -> None:
    methods: dict[str, Bounds] = {
        "score, clusters (ours)": score,
        "score, rows": score_of_rows,
        "normal, clusters": wald,
    }
    print(f"\nOne-sided errors of the 95 % interval in {turns} turns (2.5 % is meant): below/above")
    print(f"{'templates':10} {'rates':>12} {'alike':>6}  " + "  ".join(f"{m:>22}" for m in methods))
    for sizes in SIZES:
        for first, second in ((0.5, 0.5), (0.95, 0.95), (0.5, 0.4), (0.97, 0.93)):
            for alike in (0.5, 0.9):
                world = World(sizes, first, second, alike, 0.5)
                chooser = random.Random(1)
                missed = {method: [0, 0] for method in methods}
                for _ in range(turns):
                    rows, clusters = world.turn(chooser)
                    for name, method in methods.items():
                        low, high = method(rows, clusters)
                        missed[name][0] += low > first - second
                        missed[name][1] += high < first - second
                cells = (
                    f"{100 * a / turns:9.1f} % /{100 * b / turns:5.1f} %"
                    for a, b in missed.values()
                )
                print(
                    f"{sizes:10} {first:5.2f} {second:6.2f} {alike:6.1f}  "
                    + "  ".join(f"{cell:>22}" for cell in cells)
                )


def promotions(turns: int) -> None:
    print(f"\nPromotions in {turns} turns, superiority by more than 0 at 95 %")
    print(
        f"{'n':>4} {'templates':10} {'alike':>6} {'equal':>8} {'+10 points':>11} {'predicted':>10}"
    )
    for n in (30, 50, 150, 300):
        for sizes in SIZES:
            for alike in (0.5, 0.9):
                passed, predicted = [], 0.0
                for first in (0.4, 0.5):
                    world = World(sizes, first, 0.4, alike, 0.5, n)
                    chooser = random.Random(2)
                    count = 0
                    for _ in range(turns):
                        found = interval.paired_rates(*world.turn(chooser))
                        count += found.low > 0
                        if first > 0.4:
                            predicted += interval.power(
                                n,
                                0.1,
                                discordance=max(0.1, (found.wins + found.losses) / n),
                                design=found.design,
                            )
                    passed.append(count / turns)
                equal, better = (100 * share for share in passed)
                print(
                    f"{n:4} {sizes:10} {alike:6.1f} {equal:6.1f} % {better:9.1f} % "
                    f"{100 * predicted / turns:8.1f} %"
                )


if __name__ == "__main__":
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    promotions(turns)
    coverage(turns)
