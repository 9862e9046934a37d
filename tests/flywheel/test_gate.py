import random
from dataclasses import replace
from statistics import NormalDist

import pytest

from kickwheel.core.errors import UsageError
from kickwheel.flywheel import gate
from kickwheel.flywheel.evaluate import compare
from kickwheel.records import (
    Agreement,
    Cleanliness,
    Contestant,
    Outcome,
    Question,
    Rate,
    Report,
    Verdict,
)

CLEAN = Cleanliness(tested=500, exact=0, near=0, threshold=0.8, overlaps=(), clean=True)


def contestant(name: str, role: str, right: int, n: int, errors: int = 0) -> Contestant:
    return Contestant(
        name=name,
        about="",
        model="m",
        role=role,  # type: ignore[arg-type]
        rates={"right": Rate(right=right, n=n, share=right / n, low=0, high=1)},
        by_distance={},
        errors=errors,
        prompt_tokens_p50=0,
        output_tokens_p50=0,
        latency_p50_s=0,
        latency_p95_s=0,
    )


def outcome(question: int, name: str, right: bool, **scores: float) -> Outcome:
    return Outcome(example=f"e{question}", contestant=name, answer="", right=right, scores=scores)


def report(
    wins: int,
    losses: int,
    both: int,
    neither: int = 0,
    *,
    per_cluster: int = 1,
    other: str = "few-shot",
    role: str = "baseline",
    errors: int = 0,
) -> Report:
    """Candidate against one other contestant, with so many questions of each kind."""
    n = wins + losses + both + neither
    mine = [True] * wins + [False] * losses + [True] * both + [False] * neither
    theirs = [False] * wins + [True] * losses + [True] * both + [False] * neither
    return Report(
        name="r",
        kind="call",
        dataset="d",
        adapter="a",
        candidate="specialist",
        contestants=(
            contestant(other, role, sum(theirs), n, errors),
            contestant("specialist", "candidate", sum(mine), n),
        ),
        paired=(),
        questions=tuple(
            Question(example=f"e{i}", text="", expected="", cluster=f"c{i // per_cluster}")
            for i in range(n)
        ),
        outcomes=tuple(
            outcome(i, name, right)
            for name, rights in (("specialist", mine), (other, theirs))
            for i, right in enumerate(rights)
        ),
        cleanliness=CLEAN,
    )


def test_a_clearly_better_candidate_is_promoted() -> None:
    verdict = gate.decide(report(wins=36, losses=8, both=60, neither=46))
    assert verdict.promoted
    assert verdict.against == "few-shot"
    assert verdict.more_examples is None
    assert verdict.paired is not None
    assert verdict.paired.low > 0
    assert verdict.why.startswith("specialist is promoted: +18.7 points [+")


def test_a_candidate_that_is_better_by_chance_is_not_and_learns_how_many_more() -> None:
    verdict = gate.decide(report(wins=22, losses=14, both=64, neither=50))
    assert not verdict.promoted
    # By hand: (1.96 · √0.24 + 0.8416 · √(0.24 - 0.05333²))² / 0.05333² = 659.5
    assert verdict.more_examples == 660 - 150
    assert "about 510 more test examples would decide it, for it" in verdict.why


def test_a_candidate_that_is_surely_worse_is_told_so() -> None:
    verdict = gate.decide(report(wins=5, losses=40, both=60, neither=45))
    assert not verdict.promoted
    assert verdict.more_examples is None
    assert "that is sure" in verdict.why


def test_equal_answers_are_not_superior_but_not_inferior_either() -> None:
    same = report(wins=0, losses=0, both=80, neither=70)
    assert not gate.decide(same).promoted
    assert gate.decide(same).more_examples is None
    assert gate.decide(same, kind="non-inferiority", margin=0.05).promoted


def test_non_inferiority_refuses_what_may_be_worse_by_the_margin() -> None:
    slightly = report(wins=10, losses=14, both=80, neither=46)
    assert not gate.decide(slightly, kind="non-inferiority", margin=0.05).promoted
    assert gate.decide(slightly, kind="non-inferiority", margin=0.15).promoted


def test_a_margin_must_be_cleared_by_the_lower_bound() -> None:
    better = report(wins=36, losses=8, both=60, neither=46)
    assert gate.decide(better, margin=0.05).promoted
    assert not gate.decide(better, margin=0.15).promoted


def test_questions_of_few_templates_count_less() -> None:
    rows = {"wins": 28, "losses": 12, "both": 60, "neither": 50}
    assert gate.decide(report(**rows)).promoted
    crowded = gate.decide(report(**rows, per_cluster=5))
    assert not crowded.promoted
    assert crowded.paired is not None
    assert crowded.paired.clusters == 30
    assert crowded.paired.design > 2


def test_a_test_that_was_seen_promotes_nobody() -> None:
    seen = replace(CLEAN, clean=False, exact=2, near=4)
    verdict = gate.decide(replace(report(60, 0, 60, 30), cleanliness=seen))
    assert not verdict.promoted
    assert "the test is not clean: of 500 questions 2 stand word for word" in verdict.why


def test_a_test_of_which_a_part_was_not_checked_promotes_nobody() -> None:
    half = replace(CLEAN, tested=75)
    verdict = gate.decide(replace(report(60, 0, 60, 30), cleanliness=half))
    assert "only 75 of 150 test questions were checked" in verdict.why


def test_a_small_test_promotes_nobody() -> None:
    verdict = gate.decide(report(20, 0, 5, 5))
    assert not verdict.promoted
    assert verdict.reasons == ("30 test questions are too few: the gate wants 50",)
    assert gate.decide(report(20, 0, 5, 5), minimum=30).promoted


def test_a_test_of_few_templates_promotes_nobody() -> None:
    verdict = gate.decide(report(60, 0, 60, 30, per_cluster=10))
    assert "from 15 templates only" in verdict.why


@pytest.mark.parametrize("minimum", [1, 15, 50])
def test_no_setting_lets_a_test_of_few_templates_promote(minimum: int) -> None:
    few = gate.decide(report(60, 0, 60, 30, per_cluster=10), minimum=minimum)
    assert few.reasons == (
        "the test questions come from 15 templates only; the interval of so few is not to be "
        "trusted (at least 20)",
    )
    one = gate.decide(report(60, 0, 60, 30, per_cluster=150), minimum=minimum)
    assert not one.promoted
    assert (one.more_examples, one.power) == (None, None)
    assert one.why == (
        "specialist is not promoted: the test questions come from one template, so the interval "
        "of the difference is unknown; the gate wants at least 20 templates. It has +40.0 points "
        "in right calls against few-shot on 150 questions."
    )


def test_an_opponent_that_did_not_answer_is_no_opponent() -> None:
    verdict = gate.decide(report(60, 0, 60, 30, errors=20))
    assert not verdict.promoted
    assert "few-shot failed to answer 20 of 150 questions" in verdict.why


def test_the_incumbent_is_the_opponent_where_there_is_one() -> None:
    against_it = report(30, 10, 60, 50, other="incumbent", role="incumbent")
    baseline = contestant("few-shot", "baseline", 140, 150)
    both = replace(against_it, contestants=(baseline, *against_it.contestants))
    assert gate.decide(both).against == "incumbent"


def test_else_the_best_baseline_is() -> None:
    weak = report(100, 0, 50, other="full-prompt")
    strong = report(30, 10, 80, 30)
    both = replace(
        strong,
        contestants=(weak.contestants[0], *strong.contestants),
        outcomes=strong.outcomes + tuple(o for o in weak.outcomes if o.contestant == "full-prompt"),
    )
    assert gate.decide(both).against == "few-shot"
    assert gate.decide(both, against="full-prompt").against == "full-prompt"


def test_free_text_is_compared_by_similarity() -> None:
    n = 80
    texts = replace(
        report(0, 0, 0, n),
        kind="text",
        outcomes=tuple(
            outcome(i, name, False, similarity=level + i % 5 / 20)
            for name, level in (("specialist", 0.6), ("few-shot", 0.5))
            for i in range(n)
        ),
    )
    verdict = gate.decide(texts)
    assert verdict.metric == "similarity"
    assert verdict.promoted
    assert verdict.power is None


def test_a_judge_gates_only_when_people_agree_with_it() -> None:
    base = report(0, 0, 0, 60)
    judged = replace(
        base,
        outcomes=tuple(
            replace(o, scores={"judge": float(o.contestant == "specialist")}) for o in base.outcomes
        ),
    )
    assert "the judge is not calibrated" in gate.decide(judged, metric="judge").why
    share = Rate(right=48, n=50, share=0.96, low=0.87, high=0.99)
    agreed = Agreement(n=50, agreed=share, kappa=0.9, calibrated=True)
    assert gate.decide(replace(judged, judge=agreed), metric="judge").promoted


def test_rules_that_make_no_sense_are_refused() -> None:
    some = report(30, 10, 60)
    with pytest.raises(UsageError, match="non-inferiority needs a margin"):
        gate.decide(some, kind="non-inferiority")
    with pytest.raises(UsageError, match="a margin is a share"):
        gate.decide(some, margin=5)
    with pytest.raises(UsageError, match='no "fields", only right'):
        gate.decide(some, metric="fields")
    with pytest.raises(UsageError, match='nobody named "gpt"'):
        gate.decide(some, against="gpt")
    with pytest.raises(UsageError, match="neither an incumbent nor a baseline"):
        gate.decide(replace(some, contestants=some.contestants[1:]))
    assert gate.decide(some, metric="right_call").metric == "right"


def test_power_at_ten_points_for_the_shipped_test_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    verdict = gate.decide(report(wins=38, losses=7, both=40, neither=65))
    assert verdict.power is not None
    # 30 % of the answers differ: (0.1 · √150 - 1.96 · √0.3) / √0.29 = 0.281, Φ = 0.611
    assert verdict.power == pytest.approx(0.611, abs=0.001)
    with capsys.disabled():
        print(f"\npower at +10 points, n = 150, 30 % differing: {verdict.power:.2f}")


SIZES = {
    "alone": ([1], [1]),
    "twins": ([1, 2, 3, 4, 6], [70, 15, 8, 5, 2]),
    "families": ([2, 4, 8], [5, 3, 2]),
}


class Turns:
    """Reports of turns in which the candidate is as good as the opponent, by a latent normal for
    question and template, of which both share `alike`."""

    def __init__(self, structure: str, rate: float, alike: float, chooser: random.Random) -> None:
        self._gauss = chooser.gauss
        self._cut = NormalDist().inv_cdf(rate)
        # Half of the variance is the template's, half the question's.
        self._shared, self._own = (alike / 2) ** 0.5, ((1 - alike) / 2) ** 0.5
        self._sizes: list[int] = []
        while sum(self._sizes) < 150:
            size = chooser.choices(*SIZES[structure])[0]
            self._sizes.append(min(size, 150 - sum(self._sizes)))
        clusters = [str(c) for c, size in enumerate(self._sizes) for _ in range(size)]
        self._base = replace(
            report(0, 0, 0, 150),
            questions=tuple(
                Question(example=f"e{i}", text="", expected="", cluster=cluster)
                for i, cluster in enumerate(clusters)
            ),
        )
        self._outcomes = [
            [[outcome(i, name, right) for right in (False, True)] for i in range(150)]
            for name in ("specialist", "few-shot")
        ]

    def verdict(self) -> Verdict:
        gauss, shared, own, cut = self._gauss, self._shared, self._own, self._cut
        mine, theirs = self._outcomes
        outcomes, i = [], 0
        for size in self._sizes:
            level = gauss(0, shared)
            first, second = level + gauss(0, own), level + gauss(0, own)
            for _ in range(size):
                question = gauss(0, shared)
                outcomes.append(mine[i][first + question + gauss(0, own) < cut])
                outcomes.append(theirs[i][second + question + gauss(0, own) < cut])
                i += 1
        return gate.decide(replace(self._base, outcomes=tuple(outcomes)))


@pytest.mark.slow
def test_an_equal_candidate_is_falsely_promoted_in_at_most_one_of_twenty_turns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    conditions = [
        (structure, rate, alike)
        for structure in SIZES
        for rate in (0.3, 0.5, 0.95)
        for alike in (0.5, 0.9)
    ]
    chooser, turns = random.Random(3), 10_000
    each = turns // len(conditions) + 1
    promoted = {}
    for condition in conditions:
        promoted[condition] = 0
        for turn in range(each):
            if turn % 20 == 0:
                made = Turns(*condition, chooser)
            promoted[condition] += made.verdict().promoted
    share = sum(promoted.values()) / (each * len(conditions))
    with capsys.disabled():
        print(f"\nfalse promotions in {each * len(conditions)} turns: {share:.2%}")
    assert share <= 0.05
    # Each condition alone, allowing what 556 turns scatter (3 standard errors).
    assert max(promoted.values()) / each <= 0.05 + 3 * (0.05 * 0.95 / each) ** 0.5


def test_the_gate_compares_anew_and_does_not_believe_the_report() -> None:
    honest = report(wins=10, losses=10, both=80)
    flattered = compare.paired(
        report(50, 0, 50).outcomes, report(50, 0, 50).questions, "specialist", "few-shot"
    )
    assert flattered is not None
    assert not gate.decide(replace(honest, paired=(flattered,))).promoted
