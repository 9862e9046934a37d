"""Tuning against plain TRL, on the same data and base, in one interleaved run.

    python bench/tune.py [DATASET] [BASE] [--minutes 6] [--rounds 3]

1. Speed at the same settings: float32, the same LoRA, batch and examples, prompts without tools;
   rounds of ours and of TRL's by turns. Tokens without padding count.
2. Time to quality: TRL's `SFTTrainer` with these settings for so many minutes, then our defaults
   with half as many, their readings of the validation loss included.

DATASET is a folder that `kickwheel curate` made, by default the concierge's traffic, curated; BASE
is a GGUF file or a folder of safetensors, by default smollm2-135m. TRL is no dependency of
kickwheel, and without it nothing is measured: `pip install trl datasets`.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kickwheel.core.store import open_store
from kickwheel.flywheel import curate as curating
from kickwheel.flywheel.curate import load
from kickwheel.flywheel.tune import Options, Progress, lora
from kickwheel.flywheel.tune.base import open_base
from kickwheel.flywheel.tune.examples import batch, parts, tokens_of
from kickwheel.models import catalog
from kickwheel.records import Dataset, PromptForm
from kickwheel.trace import chatlog
from kickwheel.trace.store import Traces

FORM = PromptForm(tools="none", system=False)
SAME = Options(
    minutes=None,
    prompt="none",
    keep_system=False,
    precision="float32",
    evaluations=1,
)


class Enough(Exception):
    """The measured part is over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, nargs="?")
    parser.add_argument("base", type=Path, nargs="?")
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=25, help="Steps of a round.")
    told = parser.parse_args()
    missing = [name for name in ("trl", "datasets") if find_spec(name) is None]
    if missing:
        print(f"skipped: nothing to compare with, pip install {' '.join(missing)}")
        return
    dataset = load(told.dataset) if told.dataset else concierge()
    base = told.base or catalog.weights(catalog.base("smollm2-135m"))
    print(json.dumps(machine()))
    ours, theirs = [], []
    for _ in range(told.rounds):
        ours.append(our_speed(dataset, base, told.steps))
        theirs.append(Trl(dataset, base).speed(told.steps))
        print(f"tokens/s: ours {ours[-1]:.0f}, TRL {theirs[-1]:.0f}, load {os.getloadavg()[0]:.1f}")
    if told.rounds:
        ratio = statistics.median(ours) / statistics.median(theirs)
        print(f"same settings, median of {told.rounds}: {ratio:.2f} times TRL's tokens/s")
    if told.minutes:
        loss = Trl(dataset, base).loss_after(told.minutes * 60)
        print(f"TRL after {told.minutes:g} min: validation loss {loss:.4f}")
        given = told.minutes / 2
        best, seconds = ours_within(dataset, base, given, loss)
        reached = f"TRL's after {seconds / 60:.2f} min" if seconds else "TRL's not reached"
        busy = os.getloadavg()[0]
        print(f"our defaults, given {given:g} min: {best:.4f}, {reached}, load {busy:.1f}")


def concierge() -> Dataset:
    """What the blueprint's traffic makes, with the blueprint's size of the test."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "blueprints" / "concierge"))
    import traffic

    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder)) as store:
        traces = Traces(store)
        chatlog.import_(traffic.write(Path(folder)), traces)
        return curating.curate(traces.all(), curating.Options(name="concierge", test=150))


def machine() -> dict[str, Any]:
    names = ("torch", "transformers", "peft", "trl")
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def our_speed(dataset: Dataset, base: Path, steps: int) -> float:
    last: list[Progress] = []

    def watch(now: Progress) -> None:
        last.append(now)
        if now.step >= steps:
            raise Enough

    with tempfile.TemporaryDirectory() as out, contextlib.suppress(Enough):
        lora(dataset, base, Path(out), SAME, on_step=watch)
    return last[-1].tokens_per_s


def ours_within(
    dataset: Dataset, base: Path, minutes: float, loss: float
) -> tuple[float, float | None]:
    """Our lowest validation loss, and the training seconds until a reading was at most `loss`."""
    options = replace(Options(), prompt="none", keep_system=False, minutes=minutes)
    readings: dict[float, float] = {}

    def watch(now: Progress) -> None:
        if now.validation_loss is not None and now.validation_loss not in readings:
            readings[now.validation_loss] = now.seconds
            print(f"  ours after {now.seconds / 60:.2f} min: {now.validation_loss:.4f}")

    with tempfile.TemporaryDirectory() as out:
        lora(dataset, base, Path(out), options, on_step=watch)
    reached = (seconds for read, seconds in readings.items() if read <= loss)
    return min(readings), min(reached, default=None)


class Trl:
    """Plain `SFTTrainer` with the same LoRA, rate and batch, on the same tokens."""

    def __init__(self, dataset: Dataset, base: Path) -> None:
        self.base = open_base(base)
        train, validation = parts(dataset, 64)
        self.train = [tokens_of(e, self.base, FORM) for e in train]
        self.validation = [tokens_of(e, self.base, FORM) for e in validation]

    def speed(self, steps: int) -> float:
        began: list[float] = []
        trainer = self._trainer(steps, lambda: began.append(time.perf_counter()))
        trainer.train()
        return self._tokens / (time.perf_counter() - began[0])

    def loss_after(self, seconds: float) -> float:
        end = time.perf_counter() + seconds
        trainer = self._trainer(100_000, lambda: None, end=lambda: time.perf_counter() > end)
        trainer.train()
        return self._loss(trainer.model)

    def _trainer(self, steps: int, on_begin: Any, end: Any = lambda: False) -> Any:
        import datasets
        from peft import LoraConfig
        from transformers import TrainerCallback
        from trl import SFTConfig, SFTTrainer

        outer = self
        outer._tokens = 0

        class Watch(TrainerCallback):  # type: ignore[misc]
            def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
                on_begin()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if end():
                    control.should_training_stop = True

        class Counted(SFTTrainer):  # type: ignore[misc]
            def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
                outer._tokens += int(inputs["attention_mask"].sum())
                return super().training_step(model, inputs, *args, **kwargs)

        # A fingerprint of our own, as computing one pickles the whole table.
        table = datasets.table.InMemoryTable.from_pylist(
            [
                {
                    "input_ids": [*t.prompt, *t.answer],
                    "labels": [-100] * len(t.prompt) + list(t.answer),
                }
                for t in self.train
            ]
        )
        rows = datasets.Dataset(table, fingerprint="train")
        config = SFTConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=SAME.batch_size,
            learning_rate=SAME.learning_rate,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=20,
            max_steps=steps,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            seed=0,
        )
        adapter = LoraConfig(
            r=SAME.rank, lora_alpha=SAME.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return Counted(
            model=self.base.model,
            args=config,
            train_dataset=rows,
            processing_class=self.base.tokenizer,
            peft_config=adapter,
            callbacks=[Watch()],
        )

    def _loss(self, model: Any) -> float:
        import torch

        model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(self.validation), 16):
                group = batch(self.validation[start : start + 16])
                logits = model(input_ids=group.ids, attention_mask=group.mask).logits[:, :-1]
                loss = torch.nn.functional.cross_entropy(
                    logits.reshape(-1, logits.shape[-1]).float(),
                    group.targets.reshape(-1),
                    ignore_index=-100,
                    reduction="sum",
                )
                total, count = total + float(loss), count + int((group.targets != -100).sum())
        return total / count


if __name__ == "__main__":
    main()
