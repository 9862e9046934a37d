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
    vocabulary = {text: number for number, text in enumerate([*specials, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
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
