"""Examples to learn from, what curation dropped, and the proof that the test is unseen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kickwheel.records.message import AcceptedCall, Message, ToolSpec

Split = Literal["train", "validation", "test"]
AnswerKind = Literal["call", "json", "label", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One exchange that a model should learn to reproduce."""

    id: str
    messages: tuple[Message, ...]
    """The conversation up to the answer, oldest first."""
    tools: tuple[ToolSpec, ...] = ()
    answer: Message
    accepted: tuple[AcceptedCall, ...] = ()
    """Calls that count as right; where there are none, only the answer itself does."""
    kind: AnswerKind
    """How the answer is judged."""
    split: Split
    cluster: str
    """Examples of one template (near-duplicates with digits and gold values masked) share it:
    they stand in one split, and statistics count clusters."""
    source: str
    """Id of the trace that this was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of the curation did."""

    name: str
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """How many examples were dropped, by reason."""
    changed: int = 0
    """How many examples the step rewrote, as redaction does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """One trace that did not become an example."""

    trace: str
    step: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """A test question and its likeness among what the model may have seen."""

    example: str
    """Id of the test example."""
    nearest: str
    """Id of the most alike training or validation example, or `prompt` or `few-shot`."""
    ngram: float
    """Jaccard likeness of character 5-grams, 0 to 1."""
    embedding: float | None
    """Cosine of the embeddings; `None` where no embedding model is installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleanliness:
    """The proof that no test question was seen: computed, stored, required by the gate."""

    tested: int
    """Test questions looked at."""
    exact: int
    """Test questions that stand word for word among training, validation, prompts or few-shot."""
    near: int
    """Test questions whose n-gram likeness reaches `threshold`."""
    threshold: float
    overlaps: tuple[Overlap, ...]
    """One for each test question: results by distance to training come from here."""
    clean: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Examples in three parts that share no question."""

    name: str
    examples: tuple[Example, ...]
    steps: tuple[Step, ...]
    """In the order in which they ran; the first counts what came in."""
    dropped: tuple[Dropped, ...]
    cleanliness: Cleanliness
    version: int = 1

    def part(self, split: Split) -> tuple[Example, ...]:
        """The examples of one split, in the order of the dataset."""
        return tuple(example for example in self.examples if example.split == split)
