"""LoRA weights for a named base, and how they were made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptForm:
    """What a prompt holds: an adapter is asked with the form that it was tuned with."""

    tools: Literal["full", "signatures", "none"] = "full"
    """`full`: the schemas as the model's chat template writes them. `signatures`: a line a tool,
    with its argument names. `none`: the tools stand in the grammar only."""
    system: bool = True
    """Whether the conversation's system messages are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One reading of a training run."""

    step: int
    train_loss: float | None
    validation_loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """The weights beside this record: `adapter_config.json`, `adapter_model.safetensors` (PEFT)
    and `adapter.gguf` (llama.cpp)."""

    base: str
    """Name of the base in the catalog, or the path or `hf:` name that it was taken from."""
    base_sha256: str
    """Digest of the base's weights file: an adapter fits no other."""
    dataset: str
    """Id of the dataset that it was tuned on."""
    form: PromptForm
    config: Mapping[str, Any] = field(default_factory=dict)
    """The whole training configuration: rank, alpha, targets, rate, batch, seed, versions, …
    No times, so that a run that was killed ends with the same record."""
    curve: tuple[CurvePoint, ...] = ()
    export_check: Mapping[str, Any] = field(default_factory=dict)
    """What the comparison of transformers and the engine found."""
    version: int = 1
