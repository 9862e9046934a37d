"""A Report for people: one HTML file that needs nothing else, and rows for a terminal.

The page holds no script and no address outside itself; everything that a model, a user or a tool
wrote is escaped.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kickwheel.flywheel.evaluate import chart, compare
from kickwheel.records import Contestant, Dataset, Outcome, Paired, Question, Report

SHOWN = 10
"""Questions shown side by side that the candidate answered wrongly, and as many right ones."""
_NAMES = {
    "right": "right",
    "right_tool": "right tool",
    "fields": "right fields",
    "similarity": "similarity",
    "judge": "good, says the judge",
    "latency_s": "latency",
}
_LABELS = 15


def html(report: Report, dataset: Dataset | None = None) -> str:
    """The report as a page.

    Args:
        dataset: shows what curation did, where it is given.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        points=points,
        signed=signed,
        seconds=seconds,
        duration=duration,
        name=name,
        amount=amount,
    )
    main = main_pair(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        dataset=dataset,
        headline=headline(report),
        main=main,
        style=Markup(chart.STYLE),
        rate_names=_measured(report),
        rates_chart=Markup(_rates_chart(report)),
        latency_chart=Markup(_latency_chart(report)),
        training_chart=Markup(_training_chart(report)),
        learning_chart=Markup(_learning_chart(report)),
        bands=_bands(report),
        faults=_faults(report),
        confusion=_confusion(report),
        wrong=side_by_side(report, right=False),
        right=side_by_side(report, right=True),
        right_name="right call" if report.kind == "call" else "right",
        latency={p.against: p for p in report.paired if p.metric == "latency_s"},
    )


def table(report: Report) -> list[tuple[str, ...]]:
    """The table of the contestants for a terminal; the first row names the columns."""
    names = _measured(report)
    call = report.kind == "call"
    head = ["", *(("right call" if n == "right" and call else name(n)) for n in names)]
    rows = [(*head, "n", "prompt tokens", "p50", "p95")]
    for one in report.contestants:
        rows.append(
            (
                one.name,
                *(_worth(one, metric) for metric in names),
                str(one.rates["right"].n),
                f"{one.prompt_tokens_p50:.0f}",
                seconds(one.latency_p50_s),
                seconds(one.latency_p95_s),
            )
        )
    return rows


def headline(report: Report) -> str:
    """The outcome in a sentence: both shares, the paired difference and its interval."""
    pair = main_pair(report)
    if pair is None:
        return f"The {report.candidate} was compared with nobody."
    mine, other = (_of_pair(report, pair, who) for who in (report.candidate, pair.against))
    sure = f"{100 * pair.confidence:g} % interval"
    if pair.metric not in compare.BINARY:
        return (
            f"The {report.candidate} reaches a {name(pair.metric)} of {mine:.3f} on {pair.n} "
            f"unseen questions, {pair.against} {other:.3f}: {signed(pair.difference, 3)}, "
            f"{sure} {signed(pair.low, 3)} to {signed(pair.high, 3)}."
        )
    what = {"call": "makes the right call", "json": "gets every field right"}.get(
        report.kind, "gives the right answer"
    )
    if pair.metric != "right":
        what = {"right_tool": "calls the right tool"}.get(pair.metric, "gives a good answer")
    return (
        f"The {report.candidate} {what} on {percent(mine)} of {pair.n} unseen questions, "
        f"{pair.against} on {percent(other)}: {points(pair.difference)} points, "
        f"{sure} {points(pair.low)} to {points(pair.high)}."
    )


def main_pair(report: Report) -> Paired | None:
    """The comparison that matters: the gate's, else that with the incumbent or best baseline."""
    if report.verdict is not None and report.verdict.paired is not None:
        return report.verdict.paired
    metric = compare.default_metric(report.kind)
    pairs = {pair.against: pair for pair in report.paired if pair.metric == metric}
    for role in ("incumbent", "baseline"):
        field = [c for c in report.contestants if c.role == role and c.name in pairs]
        if field:
            return pairs[max(field, key=lambda c: c.rates["right"].share).name]
    return next(iter(pairs.values()), None)


@dataclass(frozen=True, slots=True)
class Row:
    """A question with what everybody answered to it."""

    question: Question
    outcomes: tuple[Outcome, ...]
    mark: str
    """`regression` where the opponent was right and the candidate is not, `gain` the other way."""


def side_by_side(report: Report, *, right: bool) -> list[Row]:
    """Questions that the candidate answered rightly, or wrongly: where the opponent did otherwise
    first."""
    pair = main_pair(report)
    given: dict[str, dict[str, Outcome]] = {}
    for outcome in report.outcomes:
        given.setdefault(outcome.example, {})[outcome.contestant] = outcome
    rows = []
    for question in report.questions:
        answers = given.get(question.example, {})
        mine = answers.get(report.candidate)
        if mine is None or mine.right is not right:
            continue
        other = answers.get(pair.against) if pair else None
        differs = other is not None and other.right is not right
        mark = ("gain" if right else "regression") if differs else ""
        order = [c.name for c in report.contestants if c.name in answers]
        rows.append(Row(question, tuple(answers[who] for who in order), mark))
    rows.sort(key=lambda row: not row.mark)
    return rows[:SHOWN]


def percent(share: float) -> str:
    """0.507 is `50.7 %`."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """0.223 is `+22.3`."""
    return signed(100 * share, 1)


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; a true minus, and no sign before zero."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def seconds(value: float) -> str:
    """0.4752 is `0.48 s`."""
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def duration(value: float) -> str:
    """372.0 is `6 min 12 s`."""
    if value < 60:
        return seconds(value)
    return f"{int(value) // 60} min {int(value) % 60} s"


def name(metric: str) -> str:
    """A metric as people call it."""
    return _NAMES.get(metric, metric)


def amount(usd: float | None) -> str:
    """A cost, with as many digits as it needs."""
    if usd is None:
        return "–"
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}"


def _measured(report: Report) -> list[str]:
    return [
        metric
        for metric in compare.MEASURES
        if any(metric in c.rates or metric in c.means for c in report.contestants)
    ]


def _worth(one: Contestant, metric: str) -> str:
    if metric in one.rates:
        rate = one.rates[metric]
        return f"{100 * rate.share:.1f} % [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
    if metric in one.means:
        mean = one.means[metric]
        return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"
    return "–"


def _of_pair(report: Report, pair: Paired, who: str) -> float:
    """What a contestant reached on the questions of the pair."""
    both: dict[str, dict[str, float]] = {}
    for outcome in report.outcomes:
        worth = compare.value(outcome, pair.metric)
        if outcome.contestant in (report.candidate, pair.against) and worth is not None:
            both.setdefault(outcome.example, {})[outcome.contestant] = worth
    values = [found[who] for found in both.values() if len(found) == 2]
    return sum(values) / len(values) if values else 0.0


def _rates_chart(report: Report) -> str:
    metric = compare.default_metric(report.kind)
    rows = []
    for one in report.contestants:
        figure = one.rates.get(metric) or one.means.get(metric)
        if figure is None:
            continue
        value = figure.share if hasattr(figure, "share") else figure.value
        rows.append(
            chart.Dot(
                label=one.name,
                value=value,
                low=figure.low,
                high=figure.high,
                note=f"{percent(value)}, n = {figure.n}",
                chosen=one.name == report.candidate,
            )
        )
    title = "right call" if report.kind == "call" else name(metric)
    return chart.dots(rows, f"{title}, with {report.confidence:.0%} intervals")


def _latency_chart(report: Report) -> str:
    rows = [
        chart.Values(
            label=one.name,
            values=[
                o.latency_s for o in report.outcomes if o.contestant == one.name and o.error is None
            ],
            chosen=one.name == report.candidate,
        )
        for one in report.contestants
    ]
    return chart.spread(rows, "seconds from question to answer; bars: median and 95th percentile")


def _training_chart(report: Report) -> str:
    train = [(p.step, p.train_loss) for p in report.curve if p.train_loss is not None]
    seen = [(p.step, p.validation_loss) for p in report.curve if p.validation_loss is not None]
    curves = [
        chart.Line(label="training", points=train, dashed=True),
        chart.Line(label="validation", points=seen, chosen=True),
    ]
    return chart.lines(curves, "loss while training", x="step", y="loss")


def _learning_chart(report: Report) -> str:
    line = chart.Line(
        label="validation",
        points=[(n, share) for n, share, _, _ in report.learning],
        band=[(low, high) for _, _, low, high in report.learning],
        chosen=True,
    )
    return chart.lines(
        [line],
        "right answers by number of training examples",
        x="training examples",
        y="right",
        percent=True,
    )


def _bands(report: Report) -> list[str]:
    return list(dict.fromkeys(band for one in report.contestants for band in one.by_distance))


def _faults(report: Report) -> list[tuple[str, list[int]]]:
    total: Counter[str] = Counter()
    candidate = next((c for c in report.contestants if c.name == report.candidate), None)
    if candidate is not None:
        total.update({fault: 1_000_000 * n for fault, n in candidate.faults.items()})
    for one in report.contestants:
        total.update(one.faults)
    return [
        (fault, [one.faults.get(fault, 0) for one in report.contestants])
        for fault, _ in total.most_common()
    ]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often the candidate gave which label where which was right."""

    labels: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]


def _confusion(report: Report) -> Confusion | None:
    wanted = {q.example: q.label for q in report.questions if q.label is not None}
    if not wanted:
        return None
    frequent = [label for label, _ in Counter(wanted.values()).most_common(_LABELS)]
    known = {" ".join(label.split()).casefold(): label for label in frequent}
    counts: Counter[tuple[str, str]] = Counter()
    for outcome in report.outcomes:
        if outcome.contestant == report.candidate and outcome.example in wanted:
            given = known.get(" ".join(outcome.answer.split()).casefold(), "other")
            right = wanted[outcome.example]
            counts[right if right in frequent else "other", given] += 1
    rows: Sequence[str] = [*frequent, *(["other"] if len(set(wanted.values())) > _LABELS else [])]
    columns = (*frequent, "other")
    return Confusion(
        columns,
        tuple((row, tuple(counts[row, column] for column in columns)) for row in rows),
    )
