"""How much more training examples help: the same tuning on parts of the training examples.

Measured on the validation part, through the engine as it serves; the test part is not looked at.
"""

import contextlib
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kickwheel.core.errors import DataError, ModelError
from kickwheel.flywheel.evaluate import Asking, match
from kickwheel.flywheel.interval import wilson
from kickwheel.flywheel.tune import Options, lora
from kickwheel.models.catalog import Base, weights
from kickwheel.models.chat import complete
from kickwheel.models.engines.engine import open_engine
from kickwheel.records import Dataset

SHARES = (0.25, 0.5)
"""Parts of the training examples that are tuned on, besides all of them."""


class Point(NamedTuple):
    """A point of the learning curve."""

    examples: int
    """Training examples."""
    share: float
    """Right answers on validation, 0 to 1."""
    low: float
    high: float
    """Wilson's interval at 95 %."""


async def point(dataset: Dataset, base: Base, adapter: Path) -> Point:
    """What an adapter reaches on the dataset's validation part.

    Raises:
        DataError: there is no such part.
    """
    examples = dataset.part("validation")
    if not examples:
        raise DataError(
            f"{dataset.name}: no validation part to measure a learning curve on. Raise "
            "flywheel.curate.validation, or bring more traffic"
        )
    asking = Asking(dataset)
    right = 0
    async with open_engine(base) as engine:
        model = await engine.model(adapter)
        for example in examples:
            # No answer is no right answer.
            with contextlib.suppress(ModelError):
                answer = await complete(model, asking.request(example))
                right += match.judge(answer.message, example).right
    low, high = wilson(right, len(examples))
    return Point(len(dataset.part("train")), right / len(examples), low, high)


def tuned_on(dataset: Dataset, base: Base, work: Path, options: Options) -> Path:
    """The folder of an adapter tuned on the dataset, for a point of the curve and no other use."""
    lora(dataset, weights(base), work, options, base_name=base.name)
    return work


def part_of(dataset: Dataset, share: float) -> Dataset:
    """The dataset with this share of its training examples, chosen by hash: smaller parts lie in
    larger ones."""
    train = sorted(dataset.part("train"), key=lambda e: hashlib.sha256(e.id.encode()).digest())
    kept = {example.id for example in train[: max(2, round(share * len(train)))]}
    return replace(
        dataset,
        examples=tuple(e for e in dataset.examples if e.split != "train" or e.id in kept),
    )
