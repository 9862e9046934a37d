"""Examples as tokens: what the prompt holds, what is learned, and in which batches.

The batches of a pass follow from the seed and the number of the pass alone, so that a run that was
killed finds the very batches that it had not yet seen.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.flywheel.tune.base import Base
from kickwheel.records import Dataset, Example, PromptForm

_BATCHES_A_CHUNK = 12


@dataclass(frozen=True, slots=True)
class Tokens:
    """One example as the model reads it."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    """With the token that ends the turn."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples side by side, padded on the right."""

    ids: Any
    """[examples, tokens]."""
    mask: Any
    """[examples, tokens], 1 where there is a token."""
    targets: Any
    """[examples, tokens - 1], -100 where nothing is learned."""
    tokens: int
    """Without the padding."""


def parts(dataset: Dataset, limit: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """What is learned from, and at most `limit` examples that tell when to stop.

    A dataset without a validation part lends every eighth training example.

    Raises:
        DataError: there is too little to learn from.
    """
    train, validation = dataset.part("train"), dataset.part("validation")
    if len(train) < 2 or (not validation and len(train) < 3):
        raise DataError(
            f"{dataset.name}: {len(train)} training and {len(validation)} validation examples. "
            "Tuning needs at least 2 to learn from and 1 to tell when to stop; some hundred are "
            "where it begins to pay."
        )
    if not validation:
        lent = max(1, len(train) // 8)
        validation, train = train[:lent], train[lent:]
    # By id, whose order has nothing to do with content.
    return train, tuple(sorted(validation, key=lambda example: example.id))[:limit]


def tokens_of(example: Example, base: Base, form: PromptForm) -> Tokens:
    """The example as tokens.

    Raises:
        DataError: the answer's call cannot be written, or the example is longer than the context.
    """
    prompt = base.template.prompt(example.messages, example.tools, form)
    answer = base.template.answer(example.answer, example.tools)
    found = Tokens(tuple(_encode(base, prompt)), tuple(_encode(base, answer)))
    if len(found) > base.context:
        long = "answer" if len(found.answer) > base.context else "prompt with its answer"
        raise DataError(
            f"example {example.id}: its {long} has "
            f"{len(found.answer) if long == 'answer' else len(found)} tokens, more than the "
            f"{base.context} that the base can see. Shorten it or leave it out."
        )
    return found


def batches(
    train: Sequence[Example],
    base: Base,
    form: PromptForm,
    *,
    size: int,
    seed: int,
    skip: int = 0,
) -> Iterator[Batch]:
    """Batches without end, pass after pass, each of examples of about the same length.

    Args:
        skip: batches from the beginning that were already seen.
    """
    rows = [tokens_of(example, base, form) for example in train]
    number = 0
    per_pass = -(-len(train) // size)
    while True:
        if number + per_pass <= skip:
            number += per_pass
            continue
        turn = number // per_pass
        for group in _groups(rows, size, f"{seed}/{turn}"):
            number += 1
            if number > skip:
                yield batch(group)


def in_batches(rows: Sequence[Tokens]) -> list[Batch]:
    """Examples of about equal length together, for what is only read."""
    ordered = sorted(rows, key=len)
    return [batch(ordered[i : i + 16]) for i in range(0, len(ordered), 16)]


def batch(group: Sequence[Tokens]) -> Batch:
    """The examples side by side."""
    import torch

    width = max(len(tokens) for tokens in group)
    # The padding is masked, so that any token serves.
    ids = torch.zeros((len(group), width), dtype=torch.long)
    mask = torch.zeros((len(group), width), dtype=torch.long)
    targets = torch.full((len(group), width - 1), -100, dtype=torch.long)
    for row, tokens in enumerate(group):
        whole = torch.tensor(tokens.prompt + tokens.answer)
        ids[row, : len(whole)] = whole
        mask[row, : len(whole)] = 1
        targets[row, len(tokens.prompt) - 1 : len(whole) - 1] = whole[len(tokens.prompt) :]
    return Batch(ids, mask, targets, sum(len(tokens) for tokens in group))


def _groups(rows: Sequence[Tokens], size: int, seed: str) -> Iterator[list[Tokens]]:
    order = random.Random(seed)
    rows = list(rows)
    order.shuffle(rows)
    groups: list[list[Tokens]] = []
    # Sorted within chunks only, so that each pass has other neighbours.
    for start in range(0, len(rows), size * _BATCHES_A_CHUNK):
        chunk = sorted(rows[start : start + size * _BATCHES_A_CHUNK], key=len)
        groups += [chunk[i : i + size] for i in range(0, len(chunk), size)]
    order.shuffle(groups)
    yield from groups


def _encode(base: Base, text: str) -> list[int]:
    found: list[int] = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found
