"""The adapter's files: PEFT's, as vLLM, NIM and peft itself load them, and llama.cpp's.

llama.cpp turns the rotary halves of q and k by turns, transformers one after the other, so the rows
of the B of those two are permuted on the way. Source: llama.cpp, convert_lora_to_gguf.py.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError, MissingExtra
from kickwheel.core.files import storage_error
from kickwheel.flywheel.tune.base import Base
from kickwheel.models.checkpoint import interleaved

_PREFIX = "base_model.model."
_PERMUTED = ("llama",)
_GGUF_KNOWN = ("llama", "qwen2", "qwen3", "gemma2", "phi3", "smollm3")


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
            for_engine = base.architecture in _GGUF_KNOWN
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

    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("writing an adapter for llama.cpp", "tune") from error
    about = json.loads((adapter / "adapter_config.json").read_text())
    config = base.model.config
    architectures = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(architectures[base.architecture], config.num_hidden_layers)
    writer = gguf.GGUFWriter(target, base.architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(about["lora_alpha"]))
    for key, array in sorted(load_file(adapter / "adapter_model.safetensors").items()):
        module, _, matrix = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        name = names.get_name(module)
        if name is None or matrix not in ("lora_A", "lora_B"):
            raise DataError(f"llama.cpp has no name for {key}")
        heads = _heads(config, name)
        if matrix == "lora_B" and heads and base.architecture in _PERMUTED:
            array = interleaved(array, heads)
        writer.add_tensor(f"{name}.weight.{matrix.lower()}", array.astype("float32", order="C"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


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
