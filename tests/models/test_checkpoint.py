"""Folders as transformers writes them, served by llama.cpp."""

import json
from pathlib import Path
from typing import Any

import pytest

from kickwheel.core.errors import DataError
from kickwheel.models import gguf
from kickwheel.models.catalog import pull, weights
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.checkpoint import halved
from kickwheel.models.engines import open_engine
from kickwheel.records import Message

from .tiny import (
    CONTEXT,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    SPECIAL,
    TEMPLATE,
    WIDTH,
    letters,
    write_base,
)

NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "num_hidden_layers": LAYERS,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "vocab_size": len(SPECIAL) + 256,
}
TOKENIZER = {
    "added_tokens": [{"id": i, "content": text, "special": True} for i, text in enumerate(SPECIAL)],
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "use_regex": True},
        ],
    },
    "model": {
        "type": "BPE",
        "vocab": {t: i for i, t in enumerate([*SPECIAL, *letters()])},
        "merges": [["a", "b"]],
    },
}
SETTINGS = {
    "bos_token": "<|im_start|>",
    "eos_token": {"content": "<|im_end|>"},
    "add_bos_token": False,
    "chat_template": TEMPLATE,
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))


def transformers_name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, which, end = name.split(".")
    return f"model.layers.{layer}.{NAMES[which]}.{end}"


def write_folder(folder: Path, tensors: dict[str, Any], kind: str = "F32", **changed: Any) -> Path:
    """A folder as transformers writes it, with weights of the base as llama.cpp orders them."""
    import numpy as np

    folder.mkdir()
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, values in tensors.items():
        if "attn_q" in name or "attn_k" in name:
            values = halved(values, HEADS if "attn_q" in name else KV_HEADS)
        data = np.ascontiguousarray(values, dtype=np.float32)
        raw = data.tobytes()
        if kind == "BF16":
            raw = (data.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        offsets = [len(body), len(body) + len(raw)]
        body += raw
        header[transformers_name(name)] = {
            **{"dtype": kind, "shape": list(data.shape), "data_offsets": offsets}
        }
    head = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + body)
    (folder / "config.json").write_text(json.dumps(CONFIG | changed.get("config", {})))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER | changed.get("tokenizer", {})))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(SETTINGS | changed.get("settings", {}))
    )
    return folder


@pytest.mark.parametrize("kind", ["F32", "BF16"])
async def test_a_folder_is_served_as_its_own_gguf_is(tmp_path: Path, kind: str) -> None:
    import numpy as np

    original = write_base(tmp_path / "tiny.gguf")
    tensors = gguf.weights(original)
    made = pull(str(write_folder(tmp_path / "folder", tensors, kind)))
    assert weights(made) == tmp_path / "folder"
    ours = gguf.weights(made.gguf)
    assert ours.keys() == tensors.keys()
    for name, values in tensors.items():
        # Q8_0 rounds to half of a 127th; cutting to bfloat16 loses another 128th.
        step = np.abs(values).max() * (1 / 127 if values.ndim == 2 else 0) + np.abs(values) / 128
        assert (np.abs(ours[name] - values) <= step).all(), name
    old, new = gguf.read_header(original).metadata, gguf.read_header(made.gguf).metadata
    for key, value in old.items():
        if key not in ("general.name", "general.file_type"):
            assert new[key] == value, key
    async with open_engine(made, threads=1) as engine:
        model = await engine.model()
        asked = ChatRequest(messages=(Message(role="user", content="ab"),), max_tokens=4)
        assert (await complete(model, asked)).usage.prompt_tokens == 21


def test_a_folder_is_converted_once_and_again_when_it_changes(tmp_path: Path) -> None:
    tensors = gguf.weights(write_base(tmp_path / "tiny.gguf"))
    folder = write_folder(tmp_path / "folder", tensors)
    made = pull(str(folder))
    before = made.gguf.stat().st_mtime_ns
    assert pull(str(folder)) == made
    assert made.gguf.stat().st_mtime_ns == before
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert pull(str(folder)).sha256 != made.sha256


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"config": {"architectures": ["GPT2LMHeadModel"]}}, "GPT2LMHeadModel; folders are served"),
        ({"config": {"rope_scaling": {"rope_type": "llama3"}}}, "positions are scaled by llama3"),
        ({"tokenizer": {"model": {"type": "Unigram"}}}, "no byte-level BPE"),
        ({"tokenizer": {"pre_tokenizer": {"type": "Whitespace"}}}, "no name for how its tokenizer"),
        ({"settings": {"chat_template": None}}, "no chat template"),
    ],
)
def test_what_cannot_be_written_exactly_is_refused(
    tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    folder = write_folder(tmp_path / "folder", {}, **changed)
    with pytest.raises(DataError, match=told):
        pull(str(folder))


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    tensors = gguf.weights(write_base(tmp_path / "tiny.gguf"))
    folder = write_folder(tmp_path / "folder", tensors)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="no safetensors file, or a damaged one"):
        pull(str(folder))
    with pytest.raises(DataError, match=r"no readable config\.json"):
        pull(str(tmp_path))
