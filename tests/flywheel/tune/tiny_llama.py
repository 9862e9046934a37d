"""A tiny llama with random weights, a real tokenizer and a handful of examples."""

import random
from pathlib import Path
from typing import Any

import pytest

from kickwheel.records import (
    Cleanliness,
    Dataset,
    Example,
    Message,
    ToolCall,
    ToolSpec,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n'}}"
    "{% endif %}"
)

MERGED = "\u0120t"
"""The one token of two bytes: llama.cpp wants a merge."""

FIND = ToolSpec(
    name="find_events",
    description="Finds events.",
    parameters={
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["Music", "Theater"]},
            "city": {"type": "string", "description": "As 'City, State'."},
            "date": {"type": "string", "description": "In the format MM/DD/YYYY."},
        },
        "required": ["kind", "city"],
    },
)


def event(number: int, split: Any, chance: random.Random) -> Example:
    city = chance.choice(["Berkeley", "Austin", "Portland", "Chicago", "Boston"])
    kind = chance.choice(["Music", "Theater"])
    day = chance.randint(1, 28)
    return Example(
        id=f"{number:04}",
        messages=(
            Message(role="system", content="You help with events."),
            Message(role="user", content=f"A {kind.lower()} event in {city} on March {day}th"),
        ),
        tools=(FIND,),
        answer=Message(
            role="assistant",
            tool_calls=(
                ToolCall(
                    id="call_0",
                    name="find_events",
                    arguments=f'{{"kind":"{kind}","city":"{city}","date":"03/{day:02}/2023"}}',
                ),
            ),
        ),
        kind="call",
        split=split,
        cluster=str(number),
        source=f"trace-{number}",
    )


def dataset_of(examples: list[Example]) -> Dataset:
    proof = Cleanliness(tested=0, exact=0, near=0, threshold=0.8, overlaps=(), clean=True)
    return Dataset(name="events", examples=tuple(examples), steps=(), dropped=(), cleanliness=proof)


def make_base(folder: Path, seed: int = 0, context: int = 512) -> Path:
    """A llama of two layers in a folder as transformers writes it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("peft")
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {text: number for number, text in enumerate([*specials, *letters, MERGED])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(MERGED[0], MERGED[1])]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_gguf(folder: Path, target: Path) -> Path:
    """The tiny llama as llama.cpp reads it, in F32."""
    import gguf
    from safetensors.numpy import load_file
    from transformers import AutoConfig, AutoTokenizer

    from kickwheel.models.checkpoint import interleaved

    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if text.startswith("<|") else 1 for text in tokens])
    writer.add_token_merges([" ".join(MERGED)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for key, array in load_file(folder / "model.safetensors").items():
        name = names.get_name(key.removesuffix(".weight"))
        if name is None:
            continue
        if "attn_q" in name:
            array = interleaved(array, config.num_attention_heads)
        if "attn_k" in name:
            array = interleaved(array, config.num_key_value_heads)
        writer.add_tensor(f"{name}.weight", array.astype("float32", order="C"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
