"""What a fine-tuning job does in its process: the tuning of `kickwheel tune`, on one file."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kickwheel.core.store import open_store
from kickwheel.flywheel import curate as curating
from kickwheel.flywheel.tune import Options, Progress
from kickwheel.flywheel.tuned import tuned
from kickwheel.models import catalog
from kickwheel.records import Dataset, Example, Split
from kickwheel.serve.job import JobEvent, JobSpec, OnEvent
from kickwheel.trace.forms import chat


def run(
    spec: JobSpec,
    on_event: OnEvent,
    *,
    store: str,
    options: Mapping[str, Any],
    database: str | None = None,
) -> str:
    """Tunes an adapter on the job's file and points the ref `spec.output` at it.

    Args:
        spec: the job.
        on_event: told of progress and checkpoints.
        store: folder of the store that takes dataset and adapter.
        options: of `flywheel.tune` in the app file; the job's own come first.
        database: URL of the store's database where it is no file in the folder.
    Raises:
        DataError: the file has too little to learn from, or an answer is longer than the context.
    """
    with open_store(Path(store), database) as opened:
        dataset = _dataset(spec)
        identity = opened.artifacts.add("dataset", curating.save(dataset))
        on_event(JobEvent(message=f"Dataset {identity}: {len(dataset.examples)} examples."))
        steps = _Steps(on_event)
        files = tuned(
            dataset,
            identity,
            catalog.base(spec.model),
            Path(spec.folder) / "tuning",
            _options(spec, options),
            on_step=steps,
            on_check=steps.ended,
        )
        target = f"adapter/{opened.artifacts.add('adapter', files)}"
        before = opened.refs.read(spec.output)
        if before != target:
            opened.refs.move(spec.output, target, expected=before, why=f"job {spec.id}")
    return spec.output


def _dataset(spec: JobSpec) -> Dataset:
    training = _curated(Path(spec.training_file), spec)
    if spec.validation_file is None:
        return training
    validation = _curated(Path(spec.validation_file), spec)
    seen = {example.id for example in training.examples}
    examples = (
        *(_placed(example, "train") for example in training.examples),
        *(
            _placed(example, "validation")
            for example in validation.examples
            if example.id not in seen
        ),
    )
    return replace(training, examples=examples)


def _curated(file: Path, spec: JobSpec) -> Dataset:
    with file.open("rb") as lines:
        traces = [
            chat.read(line, workload=spec.output, source=f"{file.name}:{number}")
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    return curating.curate(traces, curating.Options(name=spec.output, test=0))


def _placed(example: Example, split: Split) -> Example:
    return replace(example, split=split)


def _options(spec: JobSpec, given: Mapping[str, Any]) -> Options:
    usual = Options(**given)
    rate = spec.learning_rate or usual.learning_rate * (spec.learning_rate_multiplier or 1.0)
    return replace(
        usual,
        seed=spec.seed,
        # Who asks for epochs gets them, however long they take.
        minutes=None if spec.epochs else usual.minutes,
        epochs=spec.epochs or usual.epochs,
        batch_size=spec.batch_size or usual.batch_size,
        learning_rate=rate,
        rank=spec.rank or usual.rank,
        alpha=spec.alpha or usual.alpha,
    )


class _Steps:
    """Tells of steps, and of a checkpoint at each new reading of the validation part."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._read: float | None = None
        self._tokens = 0

    def __call__(self, now: Progress) -> None:
        self._tokens = now.tokens if now.phase == "tuning" else 0
        what = "Step" if now.phase == "tuning" else "Choosing the prompt, step"
        data = {
            "step": now.step,
            "total_steps": now.steps,
            "train_loss": now.loss,
            "valid_loss": now.validation_loss,
            "tokens_per_s": now.tokens_per_s,
            "seconds_left": now.seconds_left,
            "trained_tokens": self._tokens,
        }
        message = f"{what} {now.step} of {now.steps}: loss {now.loss:.4f}"
        self._on_event(JobEvent(message=message, type="metrics", data=data))
        if now.phase == "tuning" and now.validation_loss not in (None, self._read):
            self._read = now.validation_loss
            losses = {key: data[key] for key in ("step", "train_loss", "valid_loss")}
            told = f"Validation loss {now.validation_loss:.4f} at step {now.step}"
            self._on_event(JobEvent(message=told, type="checkpoint", data=losses))

    def ended(self) -> None:
        """The training has ended: of the steps not all were told, but of their tokens all are."""
        # Nothing was learned anew where the training had ended before the process was killed.
        data = {"trained_tokens": self._tokens} if self._tokens else {}
        self._on_event(JobEvent(message="Tuned; the export is checked now.", data=data))
