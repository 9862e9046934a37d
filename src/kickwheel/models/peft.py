"""LoRA adapters as PEFT writes them, and as llama.cpp reads them.

    adapter_config.json, adapter_model.safetensors ─▶ adapter.gguf

llama.cpp turns the rotary halves of q and k by turns, transformers one after the other, so the rows
of the B of those two are permuted on the way. Source: llama.cpp, convert_lora_to_gguf.py.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.models import gguf
from kickwheel.models.checkpoint import interleaved, tensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_PERMUTED = ("llama",)


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a base decides how its adapters are written."""

    architecture: str
    """As GGUF names it."""
    layers: int
    heads: int
    kv_heads: int


def shape_of(header: gguf.Header) -> Shape:
    """The shape of a base, from its GGUF file.

    Raises:
        DataError: the file does not tell.
    """
    kind, about = header.architecture, header.metadata
    try:
        layers = int(about[f"{kind}.block_count"])
        heads = int(about[f"{kind}.attention.head_count"])
        kv_heads = int(about.get(f"{kind}.attention.head_count_kv", heads))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"a base that does not tell its shape: {error}") from error
    return Shape(kind, layers, heads, kv_heads)


def write_gguf(folder: Path, shape: Shape, target: Path) -> None:
    """Writes the PEFT adapter in the folder as llama.cpp reads it.

    Raises:
        DataError: it is none, a kind of adapter that llama.cpp does not know, or adapts something
            that its form has no name for.
        StoreError: the disk is full; `target` is as it was.
    """
    alpha = _alpha(folder / CONFIG)
    name_of = gguf.tensor_names(shape.architecture, shape.layers)
    with gguf.writing_gguf(target, shape.architecture) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alpha)
        for key, values in sorted(tensors(folder / WEIGHTS), key=lambda found: found[0]):
            module, _, matrix = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
            name = name_of(module)
            if name is None or matrix not in ("lora_A", "lora_B"):
                raise DataError(f"llama.cpp has no name for {key} of a {shape.architecture}")
            heads = _heads(shape, name)
            if matrix == "lora_B" and heads and shape.architecture in _PERMUTED:
                if len(values) % (2 * heads):
                    raise DataError(f"{key} does not fit a base of {heads} heads")
                values = interleaved(values, heads)
            writer.add_tensor(
                f"{name}.weight.{matrix.lower()}", values.astype("float32", order="C")
            )


def _alpha(file: Path) -> float:
    """The strength that llama.cpp divides by the rank.

    Raises:
        DataError: the adapter is of another kind.
    """
    try:
        about: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
        kind = about.get("peft_type", "LORA")
        alpha, rank = float(about["lora_alpha"]), int(about["r"])
        if rank < 1 or not math.isfinite(alpha):
            raise ValueError(f"r is {rank}, lora_alpha {alpha}")
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise DataError(f"{file}: no configuration of a LoRA adapter: {error}") from error
    if kind != "LORA":
        raise DataError(f"{file}: an adapter of kind {kind}; llama.cpp takes LORA")
    for key in ("use_dora", "alpha_pattern", "modules_to_save"):
        if about.get(key):
            raise DataError(f"{file}: llama.cpp knows no {key}")
    if about.get("use_rslora") and about.get("rank_pattern"):
        raise DataError(f"{file}: llama.cpp has one strength for all ranks of rsLoRA")
    # rsLoRA scales by alpha / sqrt(rank).
    return alpha * math.sqrt(rank) if about.get("use_rslora") else alpha


def _heads(shape: Shape, name: str) -> int:
    if name.endswith("attn_q"):
        return shape.heads
    return shape.kv_heads if name.endswith("attn_k") else 0
