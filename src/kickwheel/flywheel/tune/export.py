"""The adapter's files: PEFT's, as vLLM, NIM and peft itself load them, and llama.cpp's."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.core.files import storage_error
from kickwheel.flywheel.tune.base import Base
from kickwheel.models import gguf, peft

_PREFIX = "base_model.model."
SERVED = ("llama", "qwen2", "qwen3", "gemma2", "phi3", "smollm3")
"""Architectures, as GGUF names them, whose adapters llama.cpp takes from us."""


def export(model: Any, base: Base, folder: Path) -> bool:
    """Writes `adapter_config.json`, `adapter_model.safetensors` and, where llama.cpp knows the
    base, `adapter.gguf`; returns whether it does.

    Args:
        model: the `peft.PeftModel`, its adapter in float32.
    Raises:
        StoreError: the disk is full; what was in the folder still is.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export.", dir=folder) as name:
            beside = Path(name)
            # Otherwise peft asks a hub whether the base's vocabulary has grown.
            model.save_pretrained(beside, save_embedding_layers=False)
            (beside / "README.md").unlink(missing_ok=True)
            for_engine = base.architecture in SERVED
            if for_engine:
                write_gguf(beside, base, beside / "adapter.gguf")
            for file in sorted(beside.iterdir()):
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
                file.chmod(0o644)
                shutil.move(file, folder / file.name)
    except OSError as error:
        raise storage_error(error, folder) from error
    return for_engine


def write_gguf(adapter: Path, base: Base, target: Path) -> None:
    """Writes the PEFT adapter in the folder `adapter` as llama.cpp reads it.

    Raises:
        DataError: it adapts something that llama.cpp's form has no name for.
    """
    config = base.model.config
    heads = int(config.num_attention_heads)
    shape = peft.Shape(
        base.architecture,
        layers=int(config.num_hidden_layers),
        heads=heads,
        kv_heads=int(config.num_key_value_heads or heads),
    )
    peft.write_gguf(adapter, shape, target)


def check_names(model: Any, base: Base) -> None:
    """Returns if llama.cpp's form of an adapter has a name for all that is adapted, or is not
    written for this base: to be asked before the training, not after.

    Raises:
        DataError: it has none for a layer.
    """
    if base.architecture not in SERVED:
        return
    name_of = _names(base)
    for key, _ in model.named_parameters():
        module, found, _ = key.removeprefix(_PREFIX).partition(".lora_A.")
        if found and name_of(module) is None:
            raise DataError(
                f"llama.cpp's adapters have no name for {module} of a {base.architecture}: what "
                "was tuned could not be served. Take another base."
            )


def _names(base: Base) -> Callable[[str], str | None]:
    """The name in GGUF of a module that transformers names, without its `.weight`."""
    return gguf.tensor_names(base.architecture, int(base.model.config.num_hidden_layers))


def fits(about: Mapping[str, Any], base: Base) -> None:
    """Makes sure that an adapter was made for this base.

    Args:
        about: `base_sha256` and `base` of the adapter's record.
    Raises:
        DataError: it was made for another.
    """
    if about.get("base_sha256") != base.sha256:
        raise DataError(
            f"this adapter was made for {about.get('base')} "
            f"({str(about.get('base_sha256'))[:12]}…), and the base at hand is another "
            f"({base.sha256[:12]}…). Take that base, or tune again."
        )
