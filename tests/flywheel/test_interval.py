import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.flywheel import interval

shares = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


def test_wilson_gives_the_textbook_interval() -> None:
    # Newcombe (1998), Two-sided confidence intervals for the single proportion, table I.
    assert interval.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert interval.wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert interval.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert interval.wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert interval.wilson(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)


def test_wilson_knows_nothing_from_nothing_and_refuses_more_right_than_asked() -> None:
    assert interval.wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no share"):
        interval.wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        interval.wilson(1, 2, 95)


@given(shares, st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_mirrors(share: tuple[int, int], confidence: float) -> None:
    right, n = share
    low, high = interval.wilson(right, n, confidence)
    assert 0 <= low <= right / n <= high <= 1
    other_low, other_high = interval.wilson(n - right, n, confidence)
    assert (1 - other_high, 1 - other_low) == pytest.approx((low, high), abs=1e-9)


def test_mcnemar_is_the_binomial_of_the_pairs_that_differ() -> None:
    # 2 · (1 + 12 + 66) / 2¹²
    assert interval.mcnemar(10, 2) == pytest.approx(158 / 4096)
    # scipy.stats.binomtest(13, 30).pvalue
    assert interval.mcnemar(13, 17) == pytest.approx(0.5846647, abs=1e-6)
    assert interval.mcnemar(0, 0) == 1.0
    assert interval.mcnemar(5, 5) == 1.0
    assert interval.mcnemar(6, 0) == pytest.approx(2 / 64)
    assert interval.mcnemar(2000, 0) < 1e-300 or interval.mcnemar(2000, 0) == 0.0
    with pytest.raises(ValueError, match="counts"):
        interval.mcnemar(-1, 2)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_does_not_care_who_is_who(wins: int, losses: int) -> None:
    assert interval.mcnemar(wins, losses) == interval.mcnemar(losses, wins)
    assert 0 < interval.mcnemar(wins, losses) <= 1


def test_the_score_interval_is_that_of_the_paper() -> None:
    # Tango (1998), the example of 44 patients with one discordant pair, 90 %.
    assert interval.tango(0, 1, 44, 1.6448536) == pytest.approx((-0.096, 0.037), abs=5e-4)
    # Newcombe (1998), Improved confidence intervals for paired data, the table 36 12 / 2 0.
    assert interval.tango(12, 2, 50, 1.959964) == pytest.approx((0.0611, 0.3447), abs=5e-5)


def test_at_its_bounds_the_score_test_of_no_difference_is_mcnemar_s() -> None:
    # Without clusters, zero is on the bound exactly where (b - c)² / (b + c) = z².
    low, _ = interval.tango(16, 4, 100, math.sqrt(144 / 20))
    assert low == pytest.approx(0, abs=1e-7)


@given(pairs)
def test_a_paired_difference_holds_its_value_and_mirrors(rows: list[tuple[bool, bool]]) -> None:
    found = interval.paired_rates(rows)
    assert -1 <= found.low <= found.value + 1e-6
    assert found.value - 1e-6 <= found.high <= 1
    other = interval.paired_rates([(b, a) for a, b in rows])
    assert (-other.high, -other.low) == pytest.approx((found.low, found.high), abs=1e-6)
    assert (other.wins, other.losses) == (found.losses, found.wins)


@given(pairs, st.randoms(use_true_random=False))
def test_the_order_of_the_questions_does_not_matter(
    rows: list[tuple[bool, bool]], chooser: random.Random
) -> None:
    clusters = [str(i // 3) for i in range(len(rows))]
    mixed = list(zip(rows, clusters, strict=True))
    chooser.shuffle(mixed)
    first = interval.paired_rates(rows, clusters)
    second = interval.paired_rates([row for row, _ in mixed], [c for _, c in mixed])
    assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-9)


def test_copies_of_a_question_in_one_cluster_add_nothing() -> None:
    rows = [(True, False)] * 14 + [(False, True)] * 6 + [(True, True)] * 40
    alone = interval.paired_rates(rows)
    copies = interval.paired_rates(rows * 4, [str(i) for i in range(60)] * 4)
    assert copies.design == pytest.approx(4, rel=0.03)
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high), abs=0.006)


def test_clusters_of_one_are_no_clusters() -> None:
    rows = [(True, False)] * 9 + [(False, True)] * 3 + [(True, True)] * 30
    names = [str(i) for i in range(42)]
    assert interval.paired_rates(rows, names).design == 1.0
    assert interval.paired_rates(rows, names).low == interval.paired_rates(rows).low


def test_equal_answers_leave_an_interval_around_zero() -> None:
    found = interval.paired_rates([(True, True)] * 100)
    assert found.value == 0
    # z² / (n + z²), with Student's z for 99 degrees of freedom.
    assert found.high == pytest.approx(1.984**2 / (100 + 1.984**2), abs=1e-4)
    assert found.low == pytest.approx(-found.high, abs=1e-6)


def test_students_quantile_is_that_of_the_tables() -> None:
    rows = [(True, False)] * 3 + [(True, True)] * 8
    by_t = interval.paired_rates(rows)
    assert (by_t.low, by_t.high) == pytest.approx(interval.tango(3, 0, 11, 2.228), abs=1e-3)


def test_nothing_and_unequal_lists_are_refused() -> None:
    for empty in (interval.paired_rates, interval.paired_means, interval.mean):
        with pytest.raises(ValueError, match="no "):
            empty([])
    with pytest.raises(ValueError, match="clusters"):
        interval.paired_rates([(True, False)], ["a", "b"])


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    chooser = random.Random(5)
    values = [chooser.gauss(10, 2) for _ in range(400)]
    middle, low, high = interval.mean(values)
    assert middle == pytest.approx(10, abs=0.3)
    assert (high - low) / 2 == pytest.approx(1.96 * 2 / 20, rel=0.12)


def test_the_bootstrap_resamples_clusters_whole_and_gives_the_same_twice() -> None:
    values = [float(i % 10) for i in range(200)]
    clusters = [str(i % 10) for i in range(200)]
    _, low, high = interval.mean(values, clusters)
    _, narrow_low, narrow_high = interval.mean(values)
    assert high - low > 3 * (narrow_high - narrow_low)
    assert interval.mean(values, clusters) == interval.mean(values, clusters)


def test_a_paired_mean_counts_wins_by_sign() -> None:
    found = interval.paired_means([(0.5, 0.2), (0.1, 0.4), (0.9, 0.9), (0.7, 0.1)])
    assert (found.wins, found.losses) == (2, 1)
    assert found.value == pytest.approx(0.15)
    assert found.low <= found.value <= found.high


def test_quantiles_are_interpolated() -> None:
    assert interval.quantile([4, 1, 3, 2], 0.5) == 2.5
    assert interval.quantile([1, 2, 3, 4, 5], 0.95) == pytest.approx(4.8)
    assert interval.quantile([], 0.5) == 0.0


def test_the_interval_of_a_median_is_that_of_its_ranks() -> None:
    # Conover, example of 100 ordered values: ranks 40 and 60 of the normal approximation.
    values = [float(i) for i in range(1, 101)]
    assert interval.quantile_interval(values, 0.5) == (40.0, 60.0)
    assert interval.quantile_interval([3.0], 0.95) == (3.0, 3.0)


def test_power_and_sample_size_are_two_sides_of_one_formula() -> None:
    # By hand: (1.960 · √0.3 + 0.8416 · √0.29)² / 0.01 = 233.2
    assert interval.needed(0.1, discordance=0.3) == 234
    assert interval.power(234, 0.1, discordance=0.3) == pytest.approx(0.8, abs=0.003)
    assert interval.needed(0.1, discordance=0.3, design=2) == 467
    assert interval.power(467, 0.1, discordance=0.3, design=2) == pytest.approx(0.8, abs=0.003)


def test_power_is_the_share_of_simulated_tests_that_pass() -> None:
    chooser = random.Random(11)
    passed = 0
    for _ in range(1500):
        rows = [
            (True, False) if u < 0.2 else (False, True) if u < 0.3 else (True, True)
            for u in (chooser.random() for _ in range(150))
        ]
        passed += interval.paired_rates(rows).low > 0
    assert passed / 1500 == pytest.approx(interval.power(150, 0.1, discordance=0.3), abs=0.04)


def test_a_difference_on_the_margin_is_never_decided() -> None:
    assert interval.needed(0.05, discordance=0.3, margin=0.05) is None
    assert interval.power(0, 0.1, discordance=0.3) == 0.0
    assert interval.power(100, 0.1, discordance=0.01) == 1.0
