"""What is known of a trace whose spans come in pieces: the same however they come.

Each span adds to it on its own, in any order, so that a piece costs what its own spans cost,
however many were there before.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from kickwheel.core.store import EVERYTHING, Sight
from kickwheel.records import Feedback, Span, genai
from kickwheel.trace.forms.form import loaded

QUESTION_CHARS = 200
LATEST_NS = 2**63 - 1
"""Latest moment that a column holds: in the year 2262."""
MOST_TOKENS = 2**40
"""Most that one span is counted with: so few that the sum over a trace stays in its column."""

Rank = tuple[bool, int, str]
"""What tells which span is the root: without a parent comes first, then the earliest."""
Moment = tuple[int, bool, str]
"""Where a span stands among the others: by its start; without a parent comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Some spans of a trace, on their way into the store."""

    id: str
    """The trace's, 32 hex digits."""
    workload: str
    """Whose work it was, as far as these spans tell; that of the root counts."""
    source: str
    spans: tuple[Span, ...]
    feedback: Mapping[str, tuple[Feedback, ...]] = field(default_factory=dict)
    """What was said of the trace, by the span that brought it."""
    tenant: str = ""
    """Whose they are; a new trace is that tenant's."""
    user: str = ""
    """Who made them; a new trace is theirs."""
    sight: Sight = EVERYTHING
    """What the sender sees: they may add to those traces, and to no others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What was spent, and by whom."""

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True, kw_only=True)
class Gathered:
    """All that a list of traces tells, and what decides it."""

    workload: str = ""
    source: str = ""
    spans: int = 0
    start_ns: int = 0
    end_ns: int = 0
    root: Rank | None = None
    roots: Counted = Counted()
    """What the root tells: it counts where no model was asked."""
    models: Counted = Counted()
    """The sum over all that models spent; the model that answered last."""
    model_at: Moment | None = None
    error: str | None = None
    error_at: Moment | None = None
    question: str = ""
    question_at: Moment | None = None
    question_plain: bool = False
    """Whether it is what a person said, and not what a function was given."""
    names: dict[str, int] = field(default_factory=dict)
    """How many placeholders of each kind redaction has given: others must not get the same."""

    @property
    def counted(self) -> Counted:
        """What a list shows."""
        return self.models if self.model_at is not None else self.roots


def moment(span: Span) -> Moment:
    """Where the span stands among those of its trace."""
    return (span.start_ns, span.parent is not None, span.id)


def ordered(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans as a trace holds them: by their start, the root first."""
    by_start = sorted(spans, key=moment)
    root = min(by_start, key=_rank)
    return (root, *(span for span in by_start if span is not root))


def take(known: Gathered, arrival: Arrival) -> None:
    """Adds what these spans tell, none of which was there before."""
    for span in arrival.spans:
        _take(known, span, arrival)


def question(spans: Iterable[Span]) -> str:
    """What a list shows as the question: what a person said first, else what came in first."""
    first = ""
    for span in spans:
        text, plain = _asked(span)
        if plain:
            return text
        first = first or text
    return first


def named(span: Span) -> str:
    """The model that answered; empty where the span does not say."""
    told = span.attributes
    return str(told.get(genai.RESPONSE_MODEL) or told.get(genai.REQUEST_MODEL) or "")


def tokens(span: Span, name: str) -> int:
    """The count under this name, `MOST_TOKENS` at most; 0 where there is none."""
    value = span.attributes.get(name, 0)
    return max(0, min(value, MOST_TOKENS)) if isinstance(value, int) else 0


def _take(known: Gathered, span: Span, arrival: Arrival) -> None:
    at, rank = moment(span), _rank(span)
    known.start_ns = min(known.start_ns, span.start_ns) if known.spans else span.start_ns
    known.end_ns = max(known.end_ns, span.end_ns)
    known.spans += 1
    if known.root is None or rank < known.root:
        known.root, known.roots = rank, _counted(span)
        known.workload, known.source = arrival.workload, arrival.source
    if span.kind == "model":
        spent, before = _counted(span), known.models
        last = known.model_at is None or at > known.model_at
        known.model_at = at if last else known.model_at
        known.models = Counted(
            model=spent.model if last else before.model,
            input_tokens=before.input_tokens + spent.input_tokens,
            output_tokens=before.output_tokens + spent.output_tokens,
        )
    if span.error is not None and (known.error_at is None or at < known.error_at):
        known.error, known.error_at = span.error, at
    text, plain = _asked(span)
    first = known.question_at is None or at < known.question_at
    if text and (plain, first) > (known.question_plain, False):
        known.question, known.question_at, known.question_plain = text, at, plain


def _asked(span: Span) -> tuple[str, bool]:
    """The beginning of the last thing that the user said to it, on one line; and whether a person
    said it. Frameworks tell of a function what it was given, as JSON: of several texts in there
    nobody knows which is the question, and a model below is asked it."""
    said = next((one.content or "" for one in reversed(span.input) if one.role == "user"), "")
    plain = True
    given = loaded(said)
    if given is not said:
        texts = list(islice(_texts(given), 2))
        plain = len(texts) == 1
        said = texts[0] if plain else said
    said = " ".join(said[: 2 * QUESTION_CHARS].split())[:QUESTION_CHARS]
    return said, plain and bool(said)


def _texts(value: object) -> Iterator[str]:
    """The texts in what was JSON."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _rank(span: Span) -> Rank:
    return (span.parent is not None, span.start_ns, span.id)


def _counted(span: Span) -> Counted:
    return Counted(
        model=named(span),
        input_tokens=tokens(span, genai.INPUT_TOKENS),
        output_tokens=tokens(span, genai.OUTPUT_TOKENS),
    )
