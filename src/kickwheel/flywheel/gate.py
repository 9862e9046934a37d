"""Whether a candidate may take the place of the model at work.

It may where the interval of the paired difference lies above the margin, on a test that is proved
to be unseen and large enough. Nothing else counts: not the size of the difference, not a p-value.

An equal candidate passes superiority about once in forty times, half of what 95 % leaves, because
the interval errs on both sides and only one promotes (`power`, `bench/gate.py`).
"""

from typing import Literal

from kickwheel.core.errors import UsageError
from kickwheel.flywheel import interval
from kickwheel.flywheel.evaluate import compare
from kickwheel.flywheel.evaluate.run import ERRORS
from kickwheel.records import Contestant, Paired, Report, Verdict

Kind = Literal["superiority", "non-inferiority"]

MINIMUM = 50
"""Test questions at least: below, the interval is wider than 20 points and its form is a guess."""
CLUSTERS = 20
"""Templates at least that the test questions must come from, however few questions are wanted."""
BEST = "best"
"""Against whom by default: the incumbent where there is one, else the best baseline."""


def decide(
    report: Report,
    *,
    metric: str | None = None,
    kind: Kind = "superiority",
    margin: float = 0.0,
    confidence: float = 0.95,
    minimum: int = MINIMUM,
    against: str = BEST,
) -> Verdict:
    """What the gate says of the report's candidate.

    Args:
        report: with its outcomes; the comparison is made anew from them.
        metric: `right` (also called `right_call`), `right_tool`, `fields`, `similarity`, or
            `judge` where the judge is calibrated; by default `right`, for free text `similarity`.
        kind: superiority: the candidate must be better by more than the margin. Non-inferiority:
            it must not be worse by the margin or more.
        margin: share, 0 to 1.
        confidence: of the two-sided interval whose lower bound decides.
        minimum: test questions at least.
        against: name of a contestant, or `best`.
    Raises:
        UsageError: the report does not have what is asked for, or the rule makes no sense.
    """
    metric = _metric(report, metric)
    if not 0 <= margin < 1:
        raise UsageError(f"a margin is a share from 0 to below 1, not {margin}")
    if kind == "non-inferiority" and margin == 0:
        raise UsageError("non-inferiority needs a margin above 0: how much worse is still good?")
    opponent = _opponent(report, against, metric)
    paired = compare.paired(
        report.outcomes, report.questions, report.candidate, opponent.name, metric, confidence
    )
    threshold = margin if kind == "superiority" else -margin
    rule = (
        f"{kind}: the {100 * confidence:g} % interval of the difference in "
        f"{_words(report, metric)} must lie above {_points(threshold)}"
    )
    if paired is None:
        raise UsageError(f"{report.candidate} and {opponent.name} were asked no question alike")
    reasons = _obstacles(report, opponent, paired, metric, minimum)
    # How far questions of one template speak for others cannot be seen from one: no interval.
    known = paired.clusters > 1
    passes = known and paired.low > threshold
    more = more_examples(paired, threshold) if known and not passes else None
    if known and not passes:
        reasons.append(_too_little(paired, threshold, more))
    return Verdict(
        promoted=not reasons,
        against=opponent.name,
        why=_why(report, paired, reasons),
        reasons=tuple(reasons),
        more_examples=more,
        metric=metric,
        rule=rule,
        paired=paired,
        power=power(paired, threshold) if known else None,
    )


def power(paired: Paired, threshold: float = 0.0, *, better: float = 0.1) -> float | None:
    """Chance that a test like this one lets a candidate pass that is `better` in truth.

    From the share of questions on which only one was right, as observed, but at least what a
    difference of `better` needs. `None` where the metric is no rate.
    """
    if paired.metric not in compare.BINARY:
        return None
    return interval.power(
        paired.n,
        better,
        discordance=max((paired.wins + paired.losses) / paired.n, better),
        margin=threshold,
        confidence=paired.confidence,
        design=paired.design,
    )


def more_examples(paired: Paired, threshold: float) -> int | None:
    """About how many more test questions would decide it, one way or the other, with a chance of
    80 % if the difference is as observed; `None` where no number would, or it is decided."""
    if paired.high < threshold:
        return None
    if paired.metric in compare.BINARY:
        needed = interval.needed(
            paired.difference,
            # Where hardly any answers differ, the next ones will: half a question keeps it from 0.
            discordance=max(paired.wins + paired.losses, 0.5) / paired.n,
            margin=threshold,
            confidence=paired.confidence,
            design=paired.design,
        )
    else:
        needed = interval.needed_for_width(
            paired.n,
            (paired.high - paired.low) / 2,
            abs(paired.difference - threshold),
            confidence=paired.confidence,
        )
    return None if needed is None else max(1, needed - paired.n)


def _metric(report: Report, metric: str | None) -> str:
    chosen = metric or compare.default_metric(report.kind)
    chosen = "right" if chosen == "right_call" else chosen
    known = compare.metrics(report.outcomes)
    if chosen not in known:
        raise UsageError(f'the report measures no "{chosen}", only {", ".join(known)}')
    return chosen


def _opponent(report: Report, against: str, metric: str) -> Contestant:
    others = [c for c in report.contestants if c.name != report.candidate]
    if against != BEST:
        found = next((c for c in others if c.name == against), None)
        if found is None:
            raise UsageError(
                f'nobody named "{against}" to compare with: there are '
                f"{', '.join(c.name for c in others)}"
            )
        return found
    for role in ("incumbent", "baseline"):
        field = [c for c in others if c.role == role]
        if field:
            return max(field, key=lambda c: _level(c, metric))
    raise UsageError("there is neither an incumbent nor a baseline to compare with")


def _level(contestant: Contestant, metric: str) -> float:
    if metric in contestant.rates:
        return contestant.rates[metric].share
    return contestant.means[metric].value if metric in contestant.means else 0.0


def _obstacles(
    report: Report, opponent: Contestant, paired: Paired, metric: str, minimum: int
) -> list[str]:
    """All that forbids a promotion whatever the difference."""
    clean = report.cleanliness
    found = []
    if not clean.clean:
        found.append(
            f"the test is not clean: of {clean.tested} questions {clean.exact} stand word for "
            f"word in what the model may have seen, and {clean.near} are near-duplicates"
        )
    elif clean.tested < len(report.questions):
        found.append(
            f"only {clean.tested} of {len(report.questions)} test questions were checked for "
            "overlap with training"
        )
    if paired.n < minimum:
        found.append(f"{paired.n} test questions are too few: the gate wants {minimum}")
    if paired.clusters < 2:
        found.append(
            "the test questions come from one template, so the interval of the difference is "
            f"unknown; the gate wants at least {CLUSTERS} templates"
        )
    elif paired.clusters < CLUSTERS:
        found.append(
            f"the test questions come from {paired.clusters} templates only; the interval of so "
            f"few is not to be trusted (at least {CLUSTERS})"
        )
    if metric == "judge" and not (report.judge and report.judge.calibrated):
        found.append(
            "the judge is not calibrated: give people's verdicts on more answers (kickwheel "
            "feedback), or choose another metric"
        )
    for one in report.contestants:
        asked = one.rates["right"].n
        if one.name in (report.candidate, opponent.name) and one.errors > ERRORS * asked:
            found.append(f"{one.name} failed to answer {one.errors} of {asked} questions")
    return found


def _too_little(paired: Paired, threshold: float, more: int | None) -> str:
    if paired.high < threshold:
        return f"the difference to {paired.against} is below {_points(threshold)}, and that is sure"
    text = (
        f"the interval of the difference to {paired.against} begins at {_points(paired.low)}, "
        f"not above {_points(threshold)}"
    )
    if more is None:
        return text
    where = "for it" if paired.difference > threshold else "against it"
    if more > 100 * paired.n:
        return f"{text}; no reasonable number of examples would decide it, so alike they are"
    return f"{text}; about {more} more test examples would decide it, {where} if all stays as it is"


def _why(report: Report, paired: Paired, reasons: list[str]) -> str:
    bounds = f" [{100 * paired.low:+.1f}, {100 * paired.high:+.1f}]"
    shown = (
        f"{_points(paired.difference)}{bounds if paired.clusters > 1 else ''} in "
        f"{_words(report, paired.metric)} against {paired.against} on {paired.n} questions"
    )
    if reasons:
        return f"{report.candidate} is not promoted: {'; '.join(reasons)}. It has {shown}."
    return f"{report.candidate} is promoted: {shown}."


def _words(report: Report, metric: str) -> str:
    if metric == "right":
        return "right calls" if report.kind == "call" else "right answers"
    return {"right_tool": "right tools", "fields": "right fields"}.get(metric, metric)


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"
