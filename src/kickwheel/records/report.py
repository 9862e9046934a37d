"""Quality, latency and cost of several contestants on the same questions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kickwheel.records.adapter import CurvePoint
from kickwheel.records.dataset import AnswerKind, Cleanliness


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many of n, with its interval."""

    right: int
    n: int
    share: float
    low: float
    high: float
    """Wilson's interval at the report's confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """An average of n values, with its interval."""

    value: float
    n: int
    low: float
    high: float
    """Bootstrap interval at the report's confidence, clusters resampled whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A test question, as a reader of the report sees it."""

    example: str
    """Id of the test example."""
    text: str
    """What the user said last."""
    expected: str
    """The answer of the dataset; a call in its readable form."""
    cluster: str
    likeness: float | None = None
    """To the nearest training question, 0 to 1; `None` where it was not measured."""
    label: str | None = None
    """The right label, where answers are labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one contestant answered to one test question."""

    example: str
    contestant: str
    answer: str
    """The answer's text; a call in its readable form."""
    right: bool
    scores: Mapping[str, float] = field(default_factory=dict)
    """Further measures, 0 to 1: `right_tool`, `fields`, `similarity`, `judge`, …"""
    fault: str | None = None
    """Class of the mistake: `wrong tool`, `missing argument`, `wrong string`, `no answer`, …;
    `None` where right."""
    detail: str = ""
    """Where the mistake is, for people: «date: "2023-03-05", wanted "2023-03-25"»."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens, those that the engine had already read."""
    latency_s: float = 0.0
    first_s: float = 0.0
    """Time to the first piece."""
    cost_usd: float | None = None
    error: str | None = None
    """Why there is no answer; it counts as wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way of answering, and how it did."""

    name: str
    """`full-prompt`, `few-shot`, `specialist`, `specialist-free`, `incumbent`."""
    about: str
    """One sentence for the reader: which model, which prompt, which grammar."""
    model: str
    role: Literal["candidate", "baseline", "incumbent", "variant"] = "baseline"
    """A `variant` is shown, but nobody has to beat it."""
    rates: Mapping[str, Rate]
    """By metric: `right` always; `right_tool` where the answers are calls."""
    means: Mapping[str, Mean] = field(default_factory=dict)
    """By metric: `fields`, `similarity`; `latency_s` always."""
    by_distance: Mapping[str, Rate]
    """`right` by likeness of the question to the nearest training question, least alike first."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """How many answers have which mistake, most frequent first."""
    errors: int = 0
    """Questions that it did not answer at all."""
    prompt_tokens_p50: float
    output_tokens_p50: float
    latency_p50_s: float
    latency_p50_low_s: float = 0.0
    latency_p50_high_s: float = 0.0
    """Interval of the median at the report's confidence."""
    latency_p95_s: float
    cost_usd: float | None = None
    """All its answers together; `None` where no price is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Candidate against another contestant, on the questions that both were asked."""

    against: str
    metric: str
    n: int
    clusters: int
    difference: float
    """Candidate's share or mean less the other's."""
    low: float
    high: float
    """Interval of the difference at `confidence`; clusters count, not rows."""
    confidence: float = 0.95
    wins: int
    losses: int
    p: float
    """McNemar's exact test of wins against losses, two-sided; it takes questions for
    independent, the interval does not."""
    design: float = 1.0
    """How many times the variance of independent questions the clusters cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far a judge model agrees with people."""

    n: int
    """Answers that people had judged."""
    agreed: Rate
    kappa: float
    """Cohen's: 0 is what chance would give, 1 is always."""
    calibrated: bool
    """Whether it agrees well enough to gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate said."""

    promoted: bool
    against: str
    why: str
    """One or two sentences; where not promoted, what would have to change."""
    reasons: tuple[str, ...] = ()
    """Each thing that stands against a promotion; empty where promoted."""
    more_examples: int | None = None
    """About how many more test examples would decide it; `None` where it is decided, or where no
    number would."""
    metric: str = "right"
    rule: str = ""
    """The rule in words: «superiority: the 95 % interval lies above +0.0 points»."""
    paired: Paired | None = None
    power: float | None = None
    """Chance that this test would have shown a true difference of 10 points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The comparison, back to each answer behind it."""

    name: str
    kind: AnswerKind
    dataset: str
    """Id of the dataset."""
    adapter: str | None
    """Id of the candidate's adapter."""
    incumbent: str | None = None
    """What the ref named when the comparison began, `adapter/<id>`."""
    candidate: str
    """Name of the contestant that wants the place."""
    contestants: tuple[Contestant, ...]
    paired: tuple[Paired, ...]
    questions: tuple[Question, ...] = ()
    outcomes: tuple[Outcome, ...]
    cleanliness: Cleanliness
    confidence: float = 0.95
    judge: Agreement | None = None
    warnings: tuple[str, ...] = ()
    """What a reader must know before believing the figures."""
    curve: tuple[CurvePoint, ...] = ()
    learning: tuple[tuple[int, float, float, float], ...] = ()
    """Learning curve: examples, share right on validation, low, high."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What each step took."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """Processor, cores, memory, load before and after, versions, concurrency."""
    verdict: Verdict | None = None
    status: Literal["measured", "gated"] = "measured"
    version: int = 1
