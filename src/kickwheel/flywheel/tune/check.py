"""The exported adapter answers as the tuned model does.

The same prompts, greedily and without a grammar, through transformers in float32 and through the
engine. On an unquantised base at least 95 % of the answers must be equal, and each that is not must
part at a token where transformers' own logits were near a tie: rounding decides there. With fewer
than 40 examples, where two are more than 5 % already, so many may differ as a true rate of 5 %
leaves likely (binomial, 5 %). On the quantisation that is served, answers may differ, but not be
right less often.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.flywheel.interval import mcnemar
from kickwheel.flywheel.tune.base import Base, open_base
from kickwheel.flywheel.tune.export import fits
from kickwheel.records import Adapter, Example

Door = Callable[[str, int], Awaitable[str]]
"""Continues a prompt greedily with the adapter, without a grammar, by at most so many tokens; the
text without the token that ends the turn."""
Right = Callable[[Example, str], bool]
"""Whether a model's text answers the example."""

LEAST_EQUAL = 0.95
STRICT_FROM = 40
"""Examples from which on the share itself is held to."""
NEAR_TIE = 0.25
"""Nats between the two tokens at which answers may part."""
_SIGNIFICANT = 0.05


class ExportMismatch(DataError):
    """The exported adapter does not answer as the tuned model does."""


@dataclass(frozen=True, slots=True)
class Parting:
    """Two answers to one example, and where they part."""

    example: str
    ours: str
    engine: str
    gap: float
    """Nats by which transformers preferred its own token there; 0 is a tie."""


def check_export(
    folder: Path,
    adapter: Adapter,
    base: Path,
    examples: Sequence[Example],
    *,
    right: Right,
    served: Door | None = None,
    unquantised: Door | None = None,
    max_tokens: int = 96,
    on_token: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """What the comparison found, for `Adapter.export_check`.

    Args:
        folder: where the adapter's files are.
        examples: what is asked; validation examples, never the test's.
        served: the engine with the base and the adapter as they are served.
        unquantised: the engine with an F16 or F32 base.
        on_token: called before each token that the tuned model writes; what it raises ends the
            comparison.
    Raises:
        ExportMismatch: more answers differ than rounding explains, or the served base is right
            less often.
        DataError: the adapter was made for another base.
    """
    opened = open_base(base)
    fits(asdict(adapter), opened)
    model = _with_adapter(opened, folder)
    prompts = [opened.template.prompt(e.messages, e.tools, adapter.form) for e in examples]
    ours = _greedy(model, opened, prompts, max_tokens, on_token)
    texts = [opened.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in ours]
    found: dict[str, Any] = {"n": len(examples)}
    if unquantised is not None:
        theirs = _ask(unquantised, prompts, max_tokens)
        found["unquantised"] = _compare(model, opened, examples, prompts, texts, theirs)
    if served is not None:
        theirs = _ask(served, prompts, max_tokens)
        found["served"] = _paired(examples, texts, theirs, right)
    return found


def _compare(
    model: Any,
    base: Base,
    examples: Sequence[Example],
    prompts: Sequence[str],
    ours: Sequence[str],
    theirs: Sequence[str],
) -> dict[str, Any]:
    partings = [
        Parting(e.id, a, b, _gap(model, base, prompt, a, b))
        for e, prompt, a, b in zip(examples, prompts, ours, theirs, strict=True)
        if a.strip() != b.strip()
    ]
    equal = 1 - len(partings) / max(1, len(examples))
    far = [p for p in partings if p.gap > NEAR_TIE]
    found = {"equal": equal, "partings": [asdict(p) for p in partings]}
    n = len(examples)
    few = n < STRICT_FROM
    rarely = _rarely(n, len(partings), 1 - LEAST_EQUAL) if few else equal < LEAST_EQUAL
    if rarely or far:
        shown = "; ".join(
            f"{p.example}: {p.ours!r} against {p.engine!r} ({p.gap:.2f} nats)"
            for p in (far or partings)[:3]
        )
        raise ExportMismatch(
            f"the exported adapter is not what was tuned: {equal:.0%} of {len(examples)} answers "
            f"equal on an unquantised base (at least {LEAST_EQUAL:.0%} must be), {len(far)} part "
            f"where rounding does not explain it. {shown}"
        )
    return found


def _rarely(n: int, partings: int, rate: float) -> bool:
    """Whether so many of n are more than a rate of partings explains (binomial, 5 %): one of ten
    is no proof of more than 5 %."""
    fewer = sum(comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(partings))
    return 1 - fewer < _SIGNIFICANT


def _paired(
    examples: Sequence[Example], ours: Sequence[str], theirs: Sequence[str], right: Right
) -> dict[str, Any]:
    before = [right(e, text) for e, text in zip(examples, ours, strict=True)]
    after = [right(e, text) for e, text in zip(examples, theirs, strict=True)]
    wins = sum(b and not a for a, b in zip(before, after, strict=True))
    losses = sum(a and not b for a, b in zip(before, after, strict=True))
    p = mcnemar(wins, losses)
    found = {
        "equal": sum(a.strip() == b.strip() for a, b in zip(ours, theirs, strict=True))
        / max(1, len(examples)),
        "right_tuned": sum(before),
        "right_served": sum(after),
        "wins": wins,
        "losses": losses,
        "p": round(p, 4),
    }
    if p < _SIGNIFICANT and losses > wins:
        raise ExportMismatch(
            f"as served the adapter is right on {sum(after)} of {len(examples)} validation "
            f"questions, as tuned on {sum(before)} (McNemar p = {p:.3f}): the base's quantisation "
            "costs too much. Serve it in Q8_0 or F16."
        )
    return found


def _with_adapter(base: Base, folder: Path) -> Any:
    from peft import PeftModel

    try:
        model = PeftModel.from_pretrained(base.model, folder)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{folder}: peft cannot put this adapter on the base: {error}") from error
    return model.eval()


def _greedy(
    model: Any,
    base: Base,
    prompts: Sequence[str],
    max_tokens: int,
    on_token: Callable[[], None],
) -> list[list[int]]:
    """The tokens that follow each prompt, the end of the turn left out."""
    found: dict[int, list[int]] = {}
    rows = [base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), 16):
        part = order[start : start + 16]
        written = _group(model, base, [rows[i] for i in part], max_tokens, on_token)
        found.update(zip(part, written, strict=True))
    return [found[i] for i in range(len(rows))]


def _group(
    model: Any,
    base: Base,
    rows: list[list[int]],
    max_tokens: int,
    on_token: Callable[[], None],
) -> list[list[int]]:
    import torch

    end = base.tokenizer.eos_token_id
    width = max(map(len, rows))
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
    out: list[list[int]] = [[] for _ in rows]
    going = [True] * len(rows)
    past = None
    with torch.no_grad():
        for _ in range(max_tokens):
            on_token()
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            answer = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            past = answer.past_key_values
            ids = answer.logits[:, -1].argmax(-1, keepdim=True)
            for i, token in enumerate(ids[:, 0].tolist()):
                going[i] = going[i] and token != end
                if going[i]:
                    out[i].append(token)
            if not any(going):
                break
            mask = torch.cat([mask, torch.ones((len(rows), 1), dtype=torch.long)], dim=1)
    return out


def _gap(model: Any, base: Base, prompt: str, ours: str, theirs: str) -> float:
    """Nats by which our first differing token was ahead of the engine's."""
    import torch

    def tokens(text: str) -> list[int]:
        found: list[int] = base.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    end = [base.tokenizer.eos_token_id]
    a, b = tokens(ours) + end, tokens(theirs) + end
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if shared is None:
        return 0.0
    ids = torch.tensor([tokens(prompt) + a[:shared]])
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
    return abs(float(logits[a[shared]] - logits[b[shared]]))


def _ask(door: Door, prompts: Sequence[str], max_tokens: int) -> list[str]:
    # One after another: side by side an engine rounds differently each time, and the record of a
    # run that was killed would be another one.
    async def all_of_them() -> list[str]:
        return [await door(prompt, max_tokens) for prompt in prompts]

    return asyncio.run(all_of_them())
