"""A folder as transformers writes it, as the one GGUF file that llama.cpp serves.

For the common kinds: llama layout (also Mistral's), Qwen 2 and 3, with byte-level BPE. Matrices
become Q8_0, everything else float32; what this cannot write exactly it refuses.
Source: the tensor names of the gguf package; llama.cpp's list of pre-tokenizers, by their regexes.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.core.files import sha256
from kickwheel.models import gguf
from kickwheel.models.prompt import Template

_ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
_REGEXES = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
}
_NORMAL, _CONTROL, _USER, _UNUSED = 1, 3, 4, 5
_INSTEAD = "Give its GGUF file instead, or serve it with `kind: vllm`."


def check_checkpoint(folder: Path) -> None:
    """Returns if the folder holds a model of a kind that can be written.

    Raises:
        DataError: it does not; the text says why.
    """
    config = _json(folder, "config.json")
    _architecture(folder, config)
    if not list(folder.glob("*.safetensors")):
        raise DataError(f"{folder}: no *.safetensors there")
    _pre_tokenizer(folder, _json(folder, "tokenizer.json"))
    read_template(folder)


def weights_digest(path: Path) -> str:
    """What tells one base from another: SHA-256 of its weights file; of a folder with several,
    that of their digests.

    Raises:
        DataError: the folder has no safetensors.
    """
    if path.is_file():
        return sha256(path)
    digests = [sha256(file) for file in sorted(path.glob("*.safetensors"))]
    if not digests:
        raise DataError(f"{path}: no *.safetensors there")
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def interleaved(rows: Any, heads: int) -> Any:
    """Rows of q or k in llama.cpp's order, from transformers'.

    llama.cpp turns neighbours, transformers the two halves of a head. Source: llama.cpp,
    convert_hf_to_gguf.py, `permute`.
    """
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def halved(rows: Any, heads: int) -> Any:
    """Rows of q or k in transformers' order, from llama.cpp's: what undoes `interleaved`."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def read_template(folder: Path) -> Template:
    """The chat template of the folder.

    Raises:
        DataError: there is none.
    """
    config = _json(folder, "tokenizer_config.json")
    return Template(
        _chat_template(folder, config), bos=_token(config, "bos"), eos=_token(config, "eos")
    )


def write_gguf(folder: Path, target: Path, on_progress: Callable[[int, int], None]) -> None:
    """Writes the model in the folder as GGUF.

    Args:
        on_progress: called with bytes of weights read, and of all of them.
    Raises:
        DataError: the folder holds no model of a kind that can be written.
        StoreError: the disk is full; `target` is as it was.
    """
    config = _json(folder, "config.json")
    architecture = _architecture(folder, config)
    with gguf.writing_gguf(target, architecture) as writer:
        _write_settings(writer, folder, config)
        _write_tokenizer(writer, folder, config)
        _write_tensors(writer, folder, config, architecture, on_progress)


def _write_settings(writer: Any, folder: Path, config: Mapping[str, Any]) -> None:
    heads = int(config["num_attention_heads"])
    width = int(config["hidden_size"])
    head = int(config.get("head_dim") or width // heads)
    writer.add_type("model")
    writer.add_name(folder.name)
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(width)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(_rope_base(folder, config))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_file_type(gguf.file_type("Q8_0"))


def _write_tokenizer(writer: Any, folder: Path, config: Mapping[str, Any]) -> None:
    tokenizer = _json(folder, "tokenizer.json")
    settings = _json(folder, "tokenizer_config.json")
    size = int(config["vocab_size"])
    tokens: list[str] = [f"[PAD{number}]" for number in range(size)]
    kinds = [_UNUSED] * size
    for token, number in tokenizer["model"]["vocab"].items():
        tokens[number], kinds[number] = token, _NORMAL
    for added in tokenizer.get("added_tokens") or ():
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = _CONTROL if added.get("special") else _USER
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(folder, tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    for which, add in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id)):
        token = _token(settings, which)
        if token in tokens:
            add(tokens.index(token))
    writer.add_add_bos_token(_adds_bos(tokenizer, settings))
    writer.add_chat_template(_chat_template(folder, settings))


def _write_tensors(
    writer: Any,
    folder: Path,
    config: Mapping[str, Any],
    architecture: str,
    on_progress: Callable[[int, int], None],
) -> None:
    name_of = gguf.tensor_names(architecture, int(config["num_hidden_layers"]))
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    files = sorted(folder.glob("*.safetensors"))
    total, done = sum(file.stat().st_size for file in files), 0
    for file in files:
        for name, values in tensors(file):
            done += values.nbytes
            if name == "lm_head.weight" and config.get("tie_word_embeddings", False):
                continue
            known = name_of(name)
            if known is None:
                raise DataError(f"{file}: {name} belongs to no {architecture}. {_INSTEAD}")
            if architecture == "llama" and ".q_proj." in name:
                values = interleaved(values, heads)
            elif architecture == "llama" and ".k_proj." in name:
                values = interleaved(values, kv_heads)
            gguf.add_tensor(writer, known, values, "Q8_0")
            on_progress(min(done, total), total)


def tensors(file: Path) -> Iterator[tuple[str, Any]]:
    """The tensors of a safetensors file as float32: numpy has no bfloat16, so we read ourselves."""
    import numpy as np

    plain = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    try:
        data = np.memmap(file, mode="r", dtype=np.uint8)
        length = int(data[:8].view("<u8")[0])
        header = json.loads(bytes(data[8 : 8 + length]))
        for name, about in header.items():
            if name == "__metadata__":
                continue
            start, end = (8 + length + offset for offset in about["data_offsets"])
            raw, kind, shape = data[start:end], about["dtype"], about["shape"]
            if end > len(data) or end - start != math.prod(shape) * _bytes_of(kind):
                raise ValueError(f"{name} is cut")
            if kind == "BF16":
                values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                values = raw.view(plain[kind]).astype(np.float32)
            yield name, values.reshape(shape)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise DataError(f"{file}: no safetensors file, or a damaged one: {error}") from error


def _bytes_of(kind: str) -> int:
    return {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}[kind]


def _architecture(folder: Path, config: Mapping[str, Any]) -> str:
    named: Sequence[str] = config.get("architectures") or ()
    found = next((_ARCHITECTURES[name] for name in named if name in _ARCHITECTURES), None)
    if found is None:
        what = ", ".join(named) or "a model without a named architecture"
        raise DataError(
            f"{folder}: {what}; folders are served for {', '.join(_ARCHITECTURES)}. {_INSTEAD}"
        )
    _rope_base(folder, config)
    return found


def _rope_base(folder: Path, config: Mapping[str, Any]) -> float:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise DataError(f"{folder}: positions are scaled by {kind}. {_INSTEAD}")
    return float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)


def _pre_tokenizer(folder: Path, tokenizer: Mapping[str, Any]) -> str:
    """llama.cpp's name for how the text is cut before BPE."""
    if tokenizer.get("model", {}).get("type") != "BPE":
        raise DataError(f"{folder}: its tokenizer is no byte-level BPE. {_INSTEAD}")
    before = tokenizer.get("pre_tokenizer") or {}
    steps: list[Any] = before["pretokenizers"] if before.get("type") == "Sequence" else [before]
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        regex = steps[0].get("pattern", {}).get("Regex", "")
        if regex in _REGEXES:
            return _REGEXES[regex]
    raise DataError(f"{folder}: llama.cpp has no name for how its tokenizer cuts text. {_INSTEAD}")


def _adds_bos(tokenizer: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    if "add_bos_token" in settings:
        return bool(settings["add_bos_token"])
    after = tokenizer.get("post_processor") or {}
    steps: list[Any] = after["processors"] if after.get("type") == "Sequence" else [after]
    return any(
        step.get("type") == "TemplateProcessing" and "SpecialToken" in (step["single"] or [{}])[0]
        for step in steps
    )


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str:
    apart = folder / "chat_template.jinja"
    source = apart.read_text() if apart.is_file() else settings.get("chat_template")
    if not isinstance(source, str):
        raise DataError(f"{folder}: has no chat template; take an instruct model")
    return source


def _token(settings: Mapping[str, Any], which: str) -> str:
    token = settings.get(f"{which}_token")
    return str((token.get("content") if isinstance(token, dict) else token) or "")


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no readable {name}; this is no model's folder") from error
    if not isinstance(found, dict):
        raise DataError(f"{folder / name}: not a JSON object")
    return found
