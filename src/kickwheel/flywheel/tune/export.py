"""The adapter's files: PEFT's, as vLLM, NIM and peft itself load them, and llama.cpp's.

llama.cpp turns the rotary halves of q and k by turns, transformers one after the other, so the rows
of the B of those two are permuted on the way. Source: llama.cpp, convert_lora_to_gguf.py.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError, MissingExtra
from kickwheel.core.files import storage_error
from kickwheel.flywheel.tune.base import Base
from kickwheel.models.checkpoint import interleaved

_PREFIX = "base_model.model."
_PERMUTED = ("llama",)
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
    import json

    from safetensors.numpy import load_file

    gguf = _package()
    about = json.loads((adapter / "adapter_config.json").read_text())
    name_of = _names(base)
    writer = gguf.GGUFWriter(target, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(about["lora_alpha"]))
    for key, array in sorted(load_file(adapter / "adapter_model.safetensors").items()):
        module, _, matrix = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        name = name_of(module)
        if name is None or matrix not in ("lora_A", "lora_B"):
            raise DataError(f"llama.cpp has no name for {key}")
        heads = _heads(base.model.config, name)
        if matrix == "lora_B" and heads and base.architecture in _PERMUTED:
            array = interleaved(array, heads)
        writer.add_tensor(f"{name}.weight.{matrix.lower()}", array.astype("float32", order="C"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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
    gguf = _package()
    architectures = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    layers = base.model.config.num_hidden_layers
    names = gguf.get_tensor_name_map(architectures[base.architecture], layers)

    def name_of(module: str) -> str | None:
        found: str | None = names.get_name(module)
        return found

    return name_of


def _package() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("writing an adapter for llama.cpp", "tune") from error
    return gguf


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


def _heads(config: Any, name: str) -> int:
    if name.endswith("attn_q"):
        return int(config.num_attention_heads)
    if name.endswith("attn_k"):
        return int(config.num_key_value_heads or config.num_attention_heads)
    return 0
