"""Answers to figures: each contestant alone, and the candidate against each other one, paired."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from kickwheel.flywheel import interval
from kickwheel.flywheel.evaluate import match
from kickwheel.flywheel.evaluate.contestants import Entrant
from kickwheel.flywheel.evaluate.retrieve import question
from kickwheel.records import (
    Agreement,
    AnswerKind,
    Contestant,
    Dataset,
    Example,
    Mean,
    Outcome,
    Paired,
    Question,
    Rate,
    Report,
)

BINARY = ("right", "right_tool", "judge")
"""Metrics that are yes or no for each answer; all others are averaged."""
BANDS = ("least alike", "in between", "most alike")
MEASURES = ("right", "right_tool", "fields", "similarity", "judge")


def report(
    dataset: Dataset,
    entrants: Sequence[Entrant],
    outcomes: Sequence[Outcome],
    *,
    name: str,
    dataset_id: str,
    candidate: str,
    adapter: str | None,
    incumbent: str | None = None,
    confidence: float = 0.95,
    agreement: Agreement | None = None,
    warnings: Sequence[str] = (),
    machine_facts: Mapping[str, Any] | None = None,
) -> Report:
    """The Report that these outcomes make."""
    test = dataset.part("test")
    kind = kind_of(test)
    questions = questions_of(dataset)
    by_example = {q.example: q for q in questions}
    of_band = bands(questions)
    mine = {e.name: [o for o in outcomes if o.contestant == e.name] for e in entrants}
    others = [e.name for e in entrants if e.name != candidate]
    names = [*metrics(outcomes), "latency_s"]
    found = [
        paired(outcomes, questions, candidate, other, metric, confidence)
        for other in others
        for metric in names
    ]
    return Report(
        name=name,
        kind=kind,
        dataset=dataset_id,
        adapter=adapter,
        incumbent=incumbent,
        candidate=candidate,
        contestants=tuple(
            summary(e, mine[e.name], by_example, of_band, confidence) for e in entrants
        ),
        paired=tuple(pair for pair in found if pair is not None),
        questions=questions,
        outcomes=tuple(outcomes),
        cleanliness=dataset.cleanliness,
        confidence=confidence,
        judge=agreement,
        warnings=tuple(warnings),
        machine=dict(machine_facts or {}),
    )


def kind_of(examples: Sequence[Example]) -> AnswerKind:
    """The kind of most answers; each answer is judged by its own."""
    kinds = [example.kind for example in examples]
    return max(sorted(set(kinds)), key=kinds.count)


def questions_of(dataset: Dataset) -> tuple[Question, ...]:
    """The test questions as a reader of the report sees them."""
    likeness = {overlap.example: overlap.ngram for overlap in dataset.cleanliness.overlaps}
    return tuple(
        Question(
            example=example.id,
            text=question(example),
            expected=match.shown(example.answer),
            cluster=example.cluster,
            likeness=likeness.get(example.id),
            label=(example.answer.content or "") if example.kind == "label" else None,
        )
        for example in dataset.part("test")
    )


def metrics(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """What was measured on these answers."""
    found = {"right", *(name for outcome in outcomes for name in outcome.scores)}
    return tuple(name for name in MEASURES if name in found)


def default_metric(kind: AnswerKind) -> str:
    """What a gate looks at where nothing else is said: texts are hardly ever equal."""
    return "similarity" if kind == "text" else "right"


def value(outcome: Outcome, metric: str) -> float | None:
    """One answer's worth by a metric, 0 to 1, or seconds for `latency_s`; `None` where it has
    none, as a call has no similarity."""
    if metric == "right":
        return float(outcome.right)
    if metric == "latency_s":
        return outcome.latency_s if outcome.error is None else None
    return outcome.scores.get(metric)


def rate(values: Sequence[float], confidence: float) -> Rate:
    """How many of the values are 1."""
    right, n = sum(1 for v in values if v >= 0.5), len(values)
    low, high = interval.wilson(right, n, confidence)
    return Rate(right=right, n=n, share=right / n if n else 0.0, low=low, high=high)


def summary(
    entrant: Entrant,
    outcomes: Sequence[Outcome],
    questions: Mapping[str, Question],
    bands: Mapping[str, str],
    confidence: float,
) -> Contestant:
    """How one contestant did.

    Args:
        outcomes: its own.
        questions: by example.
        bands: for each example the band of its likeness to training.
    """
    rates, means = {}, {}
    for name in (*metrics(outcomes), "latency_s"):
        rows = [
            (worth, questions[outcome.example].cluster)
            for outcome in outcomes
            if (worth := value(outcome, name)) is not None
        ]
        if name in BINARY:
            rates[name] = rate([worth for worth, _ in rows], confidence)
        elif rows:
            worths, clusters = zip(*rows, strict=True)
            middle, low, high = interval.mean(worths, clusters, confidence)
            means[name] = Mean(value=middle, n=len(rows), low=low, high=high)
    by_band: dict[str, list[float]] = {band: [] for band in dict.fromkeys(bands.values())}
    for outcome in outcomes:
        if outcome.example in bands:
            by_band[bands[outcome.example]].append(float(outcome.right))
    answered = [outcome for outcome in outcomes if outcome.error is None]
    latencies = [outcome.latency_s for outcome in answered]
    low, high = interval.quantile_interval(latencies, 0.5, confidence)
    costs = [outcome.cost_usd for outcome in answered if outcome.cost_usd is not None]
    return Contestant(
        name=entrant.name,
        about=entrant.about,
        model=entrant.model.name,
        role=entrant.role,
        rates=rates,
        means=means,
        by_distance={band: rate(found, confidence) for band, found in by_band.items()},
        faults=dict(Counter(o.fault for o in outcomes if o.fault).most_common()),
        errors=len(outcomes) - len(answered),
        prompt_tokens_p50=interval.quantile([o.prompt_tokens for o in answered], 0.5),
        output_tokens_p50=interval.quantile([o.output_tokens for o in answered], 0.5),
        latency_p50_s=interval.quantile(latencies, 0.5),
        latency_p50_low_s=low,
        latency_p50_high_s=high,
        latency_p95_s=interval.quantile(latencies, 0.95),
        cost_usd=sum(costs) if costs else None,
    )


def paired(
    outcomes: Sequence[Outcome],
    questions: Sequence[Question],
    candidate: str,
    against: str,
    metric: str = "right",
    confidence: float = 0.95,
) -> Paired | None:
    """Candidate against another contestant on the questions that both were asked; `None` where
    there are none."""
    given: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for outcome in outcomes:
        if outcome.contestant in (candidate, against):
            given[outcome.example][outcome.contestant] = outcome
    rows = []
    for q in questions:
        both = given.get(q.example, {})
        if len(both) == 2:
            mine, other = value(both[candidate], metric), value(both[against], metric)
            if mine is not None and other is not None:
                rows.append((mine, other, q.cluster))
    if not rows:
        return None
    clusters = [cluster for _, _, cluster in rows]
    values = [(mine, other) for mine, other, _ in rows]
    if metric in BINARY:
        pairs = [(mine >= 0.5, other >= 0.5) for mine, other in values]
        found = interval.paired_rates(pairs, clusters, confidence)
    else:
        found = interval.paired_means(values, clusters, confidence)
    return Paired(
        against=against,
        metric=metric,
        n=found.n,
        clusters=found.clusters,
        difference=found.value,
        low=found.low,
        high=found.high,
        confidence=confidence,
        wins=found.wins,
        losses=found.losses,
        p=interval.mcnemar(found.wins, found.losses),
        design=found.design,
    )


def bands(questions: Sequence[Question]) -> dict[str, str]:
    """For each example a band of its likeness to training, a third of the questions each.

    The name tells the range: `least alike (0.05-0.21)`. Fewer bands where likenesses are equal.
    """
    known = sorted(
        ((q.likeness, q.example) for q in questions if q.likeness is not None), key=lambda k: k[0]
    )
    if not known:
        return {}
    edges = [known[len(known) * third // 3][0] for third in (1, 2)]
    places: list[list[tuple[float, str]]] = [[], [], []]
    for likeness, example in known:
        # Equal likenesses stand together.
        places[sum(likeness >= edge for edge in edges)].append((likeness, example))
    named = {}
    for name, place in zip(BANDS, places, strict=True):
        if place:
            label = f"{name} ({place[0][0]:.2f}-{place[-1][0]:.2f})"
            named.update({example: label for _, example in place})
    return named
