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
    """Wilson's interval at 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one contestant answered to one test question."""

    example: str
    contestant: str
    answer: str
    """The answer's text; a call in its text form."""
    expected: str
    right: bool
    scores: Mapping[str, float] = field(default_factory=dict)
    """Further measures, 0 to 1: `right_tool`, `fields`, `similarity`, …"""
    prompt_tokens: int = 0
    output_tokens: int = 0
    latency_s: float = 0.0
    cost_usd: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way of answering, and how it did."""

    name: str
    """`full-prompt`, `few-shot`, `specialist`, `specialist-free`, `incumbent`."""
    about: str
    """One sentence for the reader: which model, which prompt, which grammar."""
    model: str
    rates: Mapping[str, Rate]
    """By metric: `right` always; `right_tool` where the answers are calls."""
    by_distance: Mapping[str, Rate]
    """`right` by likeness of the question to the nearest training question."""
    prompt_tokens_p50: float
    output_tokens_p50: float
    latency_p50_s: float
    latency_p95_s: float
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Candidate against another contestant, on the questions that both answered."""

    against: str
    metric: str
    n: int
    clusters: int
    difference: float
    """Candidate's share less the other's."""
    low: float
    high: float
    """Interval of the difference at the gate's confidence, clusters resampled whole."""
    wins: int
    losses: int
    p: float
    """McNemar's exact test, two-sided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate said."""

    promoted: bool
    against: str
    why: str
    """One sentence; where not promoted, what would have to change."""
    more_examples: int | None = None
    """About how many more test examples would decide it; `None` where it is decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The comparison, back to each answer behind it."""

    name: str
    kind: AnswerKind
    dataset: str
    adapter: str | None
    candidate: str
    """Name of the contestant that wants the place."""
    contestants: tuple[Contestant, ...]
    paired: tuple[Paired, ...]
    outcomes: tuple[Outcome, ...]
    cleanliness: Cleanliness
    curve: tuple[CurvePoint, ...] = ()
    learning: tuple[tuple[int, float, float, float], ...] = ()
    """Learning curve: examples, share right on validation, low, high."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What each step took."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """Processor, cores, memory, load, versions."""
    verdict: Verdict | None = None
    status: Literal["measured", "gated"] = "measured"
    version: int = 1
