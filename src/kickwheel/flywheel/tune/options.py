"""How a training run is set, and what it tells while it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

PromptChoice = Literal["auto", "full", "signatures", "none"]
Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run can be told; the defaults were found on the concierge traffic (docs/tune.md)."""

    minutes: float | None = 4.0
    """Training time at most; `None` for no bound. A run that a bound cut short depends on the
    machine's speed; one that ended by its epochs has the same bits wherever it was killed."""
    epochs: float = 5.0
    """Passes over the training examples at most."""
    rank: int = 16
    alpha: float = 32.0
    """Strength: the update is scaled by `alpha / rank`."""
    layers: int | None = None
    """Adapted layers, counted from the top; `None`: all."""
    learning_rate: float = 1e-3
    """Peak rate; it rises over the first steps and falls along a cosine."""
    batch_size: int = 4
    """Examples a step. Small is better in little time: more steps for the same tokens."""
    prompt: PromptChoice = "auto"
    """What the prompt says of the tools; `auto` lets validation decide."""
    keep_system: bool | None = None
    """Whether the prompt keeps system messages; `None` lets validation decide."""
    evaluations: int = 5
    """Readings of the validation loss in a run."""
    patience: int = 3
    """Readings without improvement after which the run stops."""
    validation_examples: int = 64
    """Examples of the validation part that are read at most, the same ones each time."""
    precision: Precision = "auto"
    """Of the frozen base and the matrix products; the adapter's own weights are float32. `auto`:
    bfloat16 where the processor has units for it."""
    threads: int | None = None
    """`None`: all cores that the process may use."""
    checkpoint_s: float = 45.0
    """Seconds between checkpoints."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, after each step."""

    phase: Literal["choosing the prompt", "tuning"]
    step: int
    steps: int
    tokens: int
    """Tokens learned from so far, those of prompts included, over all runs that it took."""
    tokens_per_s: float
    loss: float
    """Mean of the last steps, nats a token of the answer."""
    validation_loss: float | None
    """The last reading."""
    seconds: float
    """Training time so far, over all runs that it took."""
    seconds_left: float


OnStep = Callable[[Progress], None]
