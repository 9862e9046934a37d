"""What an app file may say: its sections and keys, with their defaults.

Docstrings here are the file's documentation: they stand in its JSON Schema and in its errors.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from kickwheel.core.config import key_from
from kickwheel.core.errors import UsageError


class Section(BaseModel):
    """A section of the file with fixed keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Auth(Section):
    """Who may call: everybody with the key."""

    kind: Literal["key"] = "key"
    key: SecretStr | None = None
    """The API key: write `${NAME}` for the value of a variable, not the key itself; by default
    `${KICKWHEEL_API_KEY}`."""


class Serve(Section):
    """How `kickwheel serve` listens."""

    host: str = "127.0.0.1"
    """Address to listen on; other than loopback only with a key."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    auth: Auth = Auth()

    def key(self) -> str | None:
        """The key that callers must show; `None` where there is none.

        Raises:
            UsageError: the variable that it is to come from is not set.
        """
        if self.auth.key is not None:
            written = self.auth.key.get_secret_value()
            key = key_from(written)
            if key is None:
                raise UsageError(
                    f"serve.auth.key: {written or 'it'} is empty or not set. Set that variable to "
                    "a long random text, or leave the key out."
                )
            return key
        return os.environ.get("KICKWHEEL_API_KEY") or None


class Curate(Section):
    """How traffic becomes a dataset."""

    test: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Questions that are kept unseen for the comparison: a number, or a share."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the rest that decides when to stop and which form of the prompt is best."""
    near: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Likeness from which two questions are near-duplicates: Jaccard of character 5-grams."""


class Tune(Section):
    """How the adapter is made; what is not set is decided by the data and the machine."""

    minutes: Annotated[float, Field(gt=0)] = 5.5
    """Training time at most."""
    epochs: Annotated[int, Field(gt=0)] | None = None
    """Passes over the training examples at most; by default as many as fit into the time."""
    rank: Annotated[int, Field(gt=0, le=256)] | None = None
    """Rank of the update: higher learns more and costs more."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Peak rate of the schedule."""
    batch_size: Annotated[int, Field(gt=0)] | None = None
    """Examples a step."""
    prompt: Literal["auto", "full", "signatures", "none"] = "auto"
    """What the specialist's prompt says of the tools; `auto` lets validation decide."""
    keep_system: bool | None = None
    """Whether the specialist's prompt keeps the system messages; by default validation decides."""
    seed: int = 0
    """Seed of everything random."""


class Evaluate(Section):
    """What the specialist is compared with, and on how many questions."""

    full_prompt: Annotated[int, Field(ge=0)] | None = None
    """Test questions put to the slow base with its full prompt, drawn by hash; by default all."""
    shots: Annotated[int, Field(ge=1, le=20)] = 3
    """Examples retrieved for each question of the few-shot contestant."""
    judge: str | None = None
    """Model that judges free text; it is reported, and gates only once people agree with it."""


class Gate(Section):
    """What a candidate must show before it replaces the incumbent."""

    metric: Literal["right", "right_call", "right_tool", "fields", "similarity", "judge"] | None = (
        None
    )
    """What is compared; by default `right`, for free text `similarity`."""
    kind: Literal["superiority", "non-inferiority"] = "superiority"
    """Superiority: better by more than the margin. Non-inferiority: not worse by the margin."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share, 0 to 1, that the paired difference's lower bound must clear."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the interval."""
    minimum: Annotated[int, Field(ge=1)] = 50
    """Test questions at least."""
    against: str = "best"
    """A contestant's name, or `best`: the incumbent where there is one, else the best baseline."""

    @model_validator(mode="after")
    def _margin_of_non_inferiority(self) -> "Gate":
        if self.kind == "non-inferiority" and self.margin == 0:
            raise ValueError(
                "non-inferiority needs a margin above 0: how much worse is still good?"
            )
        return self


class Flywheel(Section):
    """One loop from traffic to a promoted specialist."""

    model: str
    """Which of `models` becomes the specialist; it must be of kind `local` with a ref."""
    agent: str | None = None
    """Whose traffic is used; by default all traffic in the store."""
    training_type: Literal["lora", "sft"] = "lora"
    """`lora`, or NeMo's `sft` together with `finetuning_type: lora`."""
    finetuning_type: Literal["lora"] | None = None
    traffic: tuple[str, ...] = ()
    """Files that are imported before a turn, or `module:function` of a function that writes one
    into the folder it is given and returns its path."""
    curate: Curate = Curate()
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _known_type(self) -> "Flywheel":
        if self.training_type == "sft" and self.finetuning_type != "lora":
            raise ValueError(
                "training_type: sft is understood with finetuning_type: lora; "
                "training of all weights is not offered"
            )
        return self


class AppFile(Section):
    """The whole file."""

    models: Mapping[str, Any] = Field(default_factory=dict)
    """What answers a prompt."""
    tools: Mapping[str, Any] = Field(default_factory=dict)
    """What agents can do."""
    agents: Mapping[str, Any] = Field(default_factory=dict)
    """Who does the work."""
    serve: Serve = Serve()
    flywheel: Flywheel | None = None
    store: Path = Path(".kickwheel")
    """Folder of traces, datasets, adapters and reports; relative to the file."""
