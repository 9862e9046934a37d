"""The training run: starts, stops, goes on after a kill.

LoRA (Hu et al., 2021) on every linear layer, through transformers and peft; the loss is that of the
answer's tokens alone. What makes it fast on a CPU: bfloat16 where the processor has it, one
autograd step for an adapted layer, logits only where an answer stands, batches of about equal
lengths.
"""

import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kickwheel.core.errors import StoreError
from kickwheel.core.files import write_whole
from kickwheel.core.store.files import read_record
from kickwheel.flywheel.tune import checkpoint
from kickwheel.flywheel.tune.base import open_base, packages
from kickwheel.flywheel.tune.checkpoint import State
from kickwheel.flywheel.tune.examples import batches, in_batches, parts, tokens_of
from kickwheel.flywheel.tune.export import check_names, export
from kickwheel.flywheel.tune.form import Choosing
from kickwheel.flywheel.tune.learner import Learner
from kickwheel.flywheel.tune.linear import fast_dtype
from kickwheel.flywheel.tune.options import OnStep, Options, Progress
from kickwheel.records import Adapter, CurvePoint, Dataset, Example, wire

_WARM_STEPS = 20
_RECENT_STEPS = 20
"""Steps whose mean loss is told."""
_MEASURED_STEPS = 8
"""So often it is asked anew how many steps the time allows."""


def lora(
    dataset: Dataset,
    base: Path,
    out: Path,
    options: Options | None = None,
    *,
    base_name: str | None = None,
    on_step: OnStep | None = None,
) -> Adapter:
    """Tunes an adapter on the dataset's training part and writes its files into `out`.

    Started again on the same inputs it goes on from its last checkpoint, or returns the adapter
    that it had finished.

    Args:
        dataset: its test part is not looked at.
        base: a GGUF file, or a folder as transformers writes it.
        out: gets `adapter_config.json`, `adapter_model.safetensors`, `adapter.gguf` and, last,
            `adapter.json`, the record.
        base_name: what the base is called in the record; by default its path.
        on_step: told after each step how far the run is.
    Raises:
        DataError: there is too little to learn from, an example is longer than the base can see,
            there is no base, or it has a layer that llama.cpp's adapters have no name for.
        MissingExtra: torch, transformers or peft is not installed.
        StoreError: the disk is full; a checkpoint is still there.
    """
    options = options or Options()
    versions = packages()
    train, validation = parts(dataset, options.validation_examples)
    with _threads(options.threads) as threads:
        run = _Run(dataset, base, out, options, train, validation, on_step)
        done = run.finished()
        if done is not None:
            return done
        run.train()
        config = {**asdict(options), **run.about(), "threads": threads, "versions": versions}
        return run.finish(base_name or str(base), wire.digest(dataset), config)


class _Run:
    def __init__(
        self,
        dataset: Dataset,
        base: Path,
        out: Path,
        options: Options,
        train: Sequence[Example],
        validation: Sequence[Example],
        on_step: OnStep | None,
    ) -> None:
        self.options, self.out, self.on_step = options, out, on_step
        self.train_part, self.validation_part = train, validation
        precision = {"auto": fast_dtype, "float32": _float32, "bfloat16": _bfloat16}
        self.dtype = precision[options.precision]()
        self.base = open_base(base, self.dtype)
        same_bits = {
            **asdict(options),
            "dataset": wire.digest([dataset.part("train"), dataset.part("validation")]),
            "base": self.base.sha256,
            "dtype": str(self.dtype),
            "checkpoint": checkpoint.VERSION,
        }
        for free in ("threads", "checkpoint_s"):
            del same_bits[free]
        self.id = wire.digest(same_bits)
        self.checkpoint = out / "checkpoint.pt"
        self.plan = out / "plan.json"

    def finished(self) -> Adapter | None:
        """The adapter, where this very run was already finished."""
        try:
            adapter = read_record(self.out, Adapter)
        except StoreError:
            return None
        return adapter if adapter.config.get("run") == self.id else None

    def train(self) -> None:
        self.learner = Learner(self.base, self.options, self.dtype)
        check_names(self.learner.model, self.base)
        choosing = Choosing(
            learner=self.learner,
            base=self.base,
            options=self.options,
            train=self.train_part,
            validation=self.validation_part,
            on_step=self.on_step,
        )
        self.form, spent = choosing.form(self.plan, self.id)
        rows = [tokens_of(e, self.base, self.form) for e in self.train_part]
        self.validation = in_batches(
            [tokens_of(e, self.base, self.form) for e in self.validation_part]
        )
        self.tokens_per_example = sum(map(len, rows)) / len(rows)
        whole = math.ceil(self.options.epochs * math.ceil(len(rows) / self.options.batch_size))
        learner = self.learner
        state = checkpoint.load(
            self.checkpoint, self.id, learner.masters, learner.best, learner.optimizer
        )
        if state is None:
            self.state = State(run=self.id, steps=whole, seconds=spent)
        else:
            self.state = state
            learner.push()
        self._loop(whole)
        learner.take_best()

    def about(self) -> dict[str, Any]:
        """What the record says of the run beside its options."""
        return {
            "run": self.id,
            "dtype": str(self.dtype).removeprefix("torch."),
            "steps": self.state.step,
            "examples": len(self.train_part),
            "validation": len(self.validation_part),
            "answers": dict(Counter(example.kind for example in self.train_part)),
            "tokens_per_example": round(self.tokens_per_example, 1),
            "validation_loss": self.state.best,
            "trainable": sum(p.numel() for p in self.learner.masters),
            "targets": sorted(self.learner.targets),
        }

    def finish(self, base_name: str, dataset_id: str, config: dict[str, Any]) -> Adapter:
        config["gguf"] = export(self.learner.for_export(base_name), self.base, self.out)
        adapter = Adapter(
            base=base_name,
            base_sha256=self.base.sha256,
            dataset=dataset_id,
            form=self.form,
            config=config,
            curve=tuple(self.state.curve),
        )
        write_whole(self.out / "adapter.json", wire.to_bytes(adapter))
        self.checkpoint.unlink(missing_ok=True)
        self.plan.unlink(missing_ok=True)
        return adapter

    def _loop(self, whole: int) -> None:
        options, state, learner = self.options, self.state, self.learner
        source = batches(
            self.train_part,
            self.base,
            self.form,
            size=options.batch_size,
            seed=options.seed,
            skip=state.step,
        )
        began = time.perf_counter()
        before, first, learned = state.seconds, state.step, state.tokens
        saved = began
        while state.step < state.steps and state.since_best < options.patience:
            group = next(source)
            loss = learner.step(group, self._rate())
            state.step += 1
            state.progress += (1 - state.progress) / (state.steps - state.step + 1)
            state.recent = [*state.recent[-_RECENT_STEPS + 1 :], loss]
            state.tokens += group.tokens
            mean = sum(state.recent) / len(state.recent)
            now = time.perf_counter()
            state.seconds = before + now - began
            if state.progress * options.evaluations >= state.readings + 1 - 1e-9:
                self._read(mean)
                state.seconds = before + time.perf_counter() - began
                self._replan(whole, (time.perf_counter() - began) / (state.step - first))
            elif (state.step - first) % _MEASURED_STEPS == 0:
                self._replan(whole, (now - began) / (state.step - first))
            if now - saved > options.checkpoint_s:
                saved = now
                checkpoint.save(
                    self.checkpoint, state, learner.masters, learner.best, learner.optimizer
                )
            if self.on_step is not None:
                pace = (now - began) / (state.step - first)
                last = state.curve[-1].validation_loss if state.curve else None
                self.on_step(
                    Progress(
                        phase="tuning",
                        step=state.step,
                        steps=state.steps,
                        tokens=state.tokens,
                        tokens_per_s=(state.tokens - learned) / (now - began),
                        loss=mean,
                        validation_loss=last,
                        seconds=state.seconds,
                        seconds_left=pace * (state.steps - state.step),
                    )
                )

    def _rate(self) -> float:
        state = self.state
        warm = min(1.0, (state.step + 1) / min(_WARM_STEPS, max(1, state.steps // 5)))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, state.progress)))
        return self.options.learning_rate * warm * (0.03 + 0.97 * cosine)

    def _replan(self, whole: int, pace: float) -> None:
        """As many steps as the time allows, now that the time of one is known."""
        if self.options.minutes is None:
            return
        left = self.options.minutes * 60 - self.state.seconds
        possible = self.state.step + max(1, int(left / pace))
        self.state.steps = min(whole, possible)

    def _read(self, train_loss: float) -> None:
        state, learner = self.state, self.learner
        loss = learner.loss(self.validation)
        state.readings += 1
        state.curve.append(
            CurvePoint(
                step=state.step,
                train_loss=round(train_loss, 5),
                validation_loss=round(loss, 5),
            )
        )
        if state.best is None or loss < state.best:
            state.best, state.since_best = loss, 0
            learner.keep_best()
        else:
            state.since_best += 1


def _float32() -> Any:
    import torch

    return torch.float32


def _bfloat16() -> Any:
    import torch

    return torch.bfloat16


@contextmanager
def _threads(wanted: int | None) -> Iterator[int]:
    import torch

    before = torch.get_num_threads()
    affinity = getattr(os, "sched_getaffinity", None)
    number = wanted or (len(affinity(0)) if affinity else os.cpu_count() or 1)
    torch.set_num_threads(number)
    try:
        yield number
    finally:
        torch.set_num_threads(before)
