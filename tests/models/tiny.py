"""A llama of two layers that knows bytes only: it answers nonsense, but as a real one does."""

from pathlib import Path

from kickwheel.models.catalog import Base, pull

WIDTH, HEADS, KV_HEADS, HIDDEN, LAYERS, CONTEXT = 64, 4, 2, 128, 2, 512
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def letters() -> list[str]:
    """The 256 letters that GPT-2's byte-level BPE writes bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {byte: chr(byte) for byte in plain}
    table |= {byte: chr(256 + number) for number, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


def shapes(width: int = WIDTH) -> dict[str, tuple[int, int]]:
    """Rows and columns of one layer's matrices, by their GGUF name."""
    kv = width // HEADS * KV_HEADS
    return {
        **{"attn_q": (width, width), "attn_k": (kv, width), "attn_v": (kv, width)},
        **{"attn_output": (width, width), "ffn_gate": (HIDDEN, width)},
        **{"ffn_up": (HIDDEN, width), "ffn_down": (width, HIDDEN)},
    }


def write_base(path: Path, *, width: int = WIDTH, seed: int = 1) -> Path:
    """A base with random weights; the same seed gives the same bytes."""
    import gguf
    import numpy as np

    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(int(gguf.LlamaFileType.ALL_F32))
    tokens = [*SPECIAL, *letters()]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * 256)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def add(name: str, *shape: int) -> None:
        values = rng.normal(0, 0.2, shape) if len(shape) == 2 else np.ones(shape)
        writer.add_tensor(name, values.astype(np.float32))

    add("token_embd.weight", len(tokens), width)
    add("output_norm.weight", width)
    for layer in range(LAYERS):
        add(f"blk.{layer}.attn_norm.weight", width)
        add(f"blk.{layer}.ffn_norm.weight", width)
        for name, shape in shapes(width).items():
            add(f"blk.{layer}.{name}.weight", *shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_adapter(folder: Path, *, width: int = WIDTH, seed: int = 2, rank: int = 4) -> Path:
    """The folder, with an adapter in it that is strong enough to change every answer."""
    import gguf
    import numpy as np

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(folder / "adapter.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    for layer in range(LAYERS):
        for name, (rows, columns) in shapes(width).items():
            weight = f"blk.{layer}.{name}.weight"
            a, b = rng.normal(0, 0.5, (rank, columns)), rng.normal(0, 0.5, (rows, rank))
            writer.add_tensor(f"{weight}.lora_a", a.astype(np.float32))
            writer.add_tensor(f"{weight}.lora_b", b.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder


def tiny(folder: Path, **how: int) -> Base:
    """The base as the catalog hands it out."""
    return pull(str(write_base(folder / "tiny.gguf", **how)))
