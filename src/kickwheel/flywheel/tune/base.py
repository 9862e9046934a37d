"""The model that is tuned, as transformers has it: a GGUF file or a folder of safetensors.

A GGUF's weights are dequantised, so that tuning sees the very numbers that the engine serves. The
common kind (llama layout, byte-level BPE) is read here in seconds, and the tokenizer is built from
the file's own vocabulary; everything else goes through transformers' slower loader.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError, MissingExtra
from kickwheel.models import gguf
from kickwheel.models.checkpoint import halved, weights_digest
from kickwheel.models.prompt import Template

_PRE_TOKENIZERS = ("smollm", "gpt-2", "default")
_NAMES = {
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


@dataclass(frozen=True, slots=True)
class Base:
    """A causal language model in memory, with what belongs to it."""

    model: Any
    """`transformers.PreTrainedModel`, frozen."""
    tokenizer: Any
    template: Template
    context: int
    """Tokens that it can see."""
    architecture: str
    """As GGUF names it, `llama`; what llama.cpp does not know is named as transformers does."""
    sha256: str
    """Digest of the weights file; of several, that of their digests."""


def packages() -> dict[str, str]:
    """Versions of the packages that tuning stands on.

    Raises:
        MissingExtra: one is not installed.
    """
    # Waiting threads of GNU OpenMP spin for milliseconds; on a machine with anything else to do, a
    # step then takes several times its time. A tenth of that is enough for a thread that is not
    # held up. Read once, when torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        import peft
        import safetensors
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtra("tuning", "tune") from error
    # Its notes on what will be called differently one day are for us, not for who tunes.
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|transformers)\.")
    return {m.__name__: str(m.__version__) for m in (torch, transformers, peft, safetensors)}


def open_base(path: Path, dtype: Any = None) -> Base:
    """The model at `path`, a GGUF file or a folder as transformers writes it.

    Args:
        dtype: of the weights; by default float32.
    Raises:
        DataError: there is no model that can be tuned.
        MissingExtra: torch, transformers or peft is not installed.
    """
    packages()
    import torch

    dtype = dtype or torch.float32
    if path.is_file():
        base = _from_gguf(path, dtype)
    elif (path / "config.json").is_file():
        base = _from_folder(path, dtype)
    else:
        raise DataError(f"{path}: neither a GGUF file nor a folder with config.json")
    base.model.requires_grad_(False)
    base.model.config.use_cache = False
    return base


def _from_folder(path: Path, dtype: Any) -> Base:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=dtype, attn_implementation="eager", local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: transformers cannot open it: {error}") from error
    template = tokenizer.chat_template
    if not isinstance(template, str):
        raise DataError(f"{path}: its tokenizer has no chat template; take an instruct model")
    return Base(
        model=model,
        tokenizer=tokenizer,
        template=Template(template, bos=tokenizer.bos_token or "", eos=tokenizer.eos_token or ""),
        context=int(getattr(model.config, "max_position_embeddings", 0) or 2048),
        architecture=_gguf_architecture(model.config.model_type),
        sha256=weights_digest(path),
    )


def _gguf_architecture(model_type: str) -> str:
    return {"mistral": "llama"}.get(model_type, model_type)


def _from_gguf(path: Path, dtype: Any) -> Base:
    header = gguf.read_header(path)
    if header.chat_template is None:
        raise DataError(f"{path}: it has no chat template; take an instruct model")
    known = (
        header.architecture == "llama"
        and header.metadata.get("tokenizer.ggml.model") == "gpt2"
        and header.metadata.get("tokenizer.ggml.pre", "default") in _PRE_TOKENIZERS
        and "rope_freqs.weight" not in header.tensors
    )
    model, tokenizer = (
        (_llama(path, header, dtype), _bpe(header)) if known else _by_transformers(path, dtype)
    )
    return Base(
        model=model,
        tokenizer=tokenizer,
        template=Template(
            header.chat_template, bos=header.token("bos") or "", eos=header.token("eos") or ""
        ),
        context=header.context_length or 2048,
        architecture=header.architecture,
        sha256=weights_digest(path),
    )


def _by_transformers(path: Path, dtype: Any) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype, attn_implementation="eager"
        )
        return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise DataError(
            f"{path}: transformers cannot open this GGUF: {error}. Tune the same model from its "
            "safetensors folder."
        ) from error


def _llama(path: Path, header: gguf.Header, dtype: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.initialization import no_init_weights

    about = {
        key.removeprefix("llama."): value
        for key, value in header.metadata.items()
        if key.startswith("llama.")
    }
    heads = int(about["attention.head_count"])
    config = LlamaConfig(
        vocab_size=len(header.metadata["tokenizer.ggml.tokens"]),
        hidden_size=about["embedding_length"],
        intermediate_size=about["feed_forward_length"],
        num_hidden_layers=about["block_count"],
        num_attention_heads=heads,
        num_key_value_heads=int(about.get("attention.head_count_kv", heads)),
        head_dim=int(about.get("attention.key_length", about["embedding_length"] // heads)),
        max_position_embeddings=header.context_length or 2048,
        rms_norm_eps=about["attention.layer_norm_rms_epsilon"],
        rope_theta=about.get("rope.freq_base", 10000.0),
        tie_word_embeddings="output.weight" not in header.tensors,
        bos_token_id=header.metadata.get("tokenizer.ggml.bos_token_id"),
        eos_token_id=header.metadata.get("tokenizer.ggml.eos_token_id"),
        pad_token_id=header.metadata.get("tokenizer.ggml.padding_token_id"),
    )
    config._attn_implementation = "eager"
    with no_init_weights():
        model = LlamaForCausalLM(config).to(dtype)
    with warnings.catch_warnings():
        # Some are the file's own pages, which nobody may write to; they are only read.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        state = {
            name: torch.from_numpy(array).to(dtype) for name, array in _llama_weights(path, config)
        }
    missing, unknown = model.load_state_dict(state, strict=False)
    if config.tie_word_embeddings:
        missing = [name for name in missing if name != "lm_head.weight"]
        model.tie_weights()
    if missing or unknown:
        raise DataError(f"{path}: weights missing: {missing}; not known: {unknown}")
    return model.eval()


def _llama_weights(path: Path, config: Any) -> Iterator[tuple[str, Any]]:
    import numpy

    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    whole = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    for name, array in gguf.weights(path).items():
        if name in whole:
            yield whole[name], array
            continue
        _, layer, part, kind = name.split(".")
        if part in heads:
            array = halved(array, heads[part])
        yield f"model.layers.{layer}.{_NAMES[part]}.{kind}", numpy.ascontiguousarray(array)


def _bpe(header: gguf.Header) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    about = header.metadata
    tokens = about["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in about["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # As llama.cpp cuts it: SmolLM takes each digit for itself.
    digits = [pre_tokenizers.Digits(individual_digits=True)]
    cuts = digits if about.get("tokenizer.ggml.pre") == "smollm" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    control = 3
    special = [
        AddedToken(token, special=True, normalized=False)
        for token, kind in zip(tokens, about.get("tokenizer.ggml.token_type") or (), strict=False)
        if kind == control
    ]
    tokenizer.add_special_tokens(special)
    eos = header.token("eos")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=header.token("bos"),
        eos_token=eos,
        pad_token=eos,
        chat_template=header.chat_template,
    )
