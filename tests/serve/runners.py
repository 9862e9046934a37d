"""Runners of fine-tuning jobs that stand for the tuning: called in a job's own process."""

import os
import signal
import time
from pathlib import Path

from kickwheel.core.errors import DataError
from kickwheel.serve.job import JobEvent, JobSpec, OnEvent


def quick(spec: JobSpec, on_event: OnEvent, *, made: str) -> str:
    """Says where it stands, and makes the model."""
    print("a library prints to standard output")
    lines = Path(spec.training_file).read_text().count("\n")
    data = {"step": 1, "total_steps": 2, "train_loss": 0.5, "seconds_left": 60, "trained_tokens": 7}
    on_event(JobEvent(message="Step 1/2", type="metrics", data=data))
    on_event(JobEvent(message=f"{lines} lines, {spec.epochs} epochs, seed {spec.seed}"))
    checkpoint = {"step": 1, "valid_loss": 0.4}
    on_event(JobEvent(message="Kept", type="checkpoint", data=checkpoint))
    return _make(spec, made)


def patient(spec: JobSpec, on_event: OnEvent, *, made: str) -> str:
    """Takes twenty steps, each kept in the job's folder, and goes on where it was killed."""
    kept = Path(spec.folder) / "steps"
    done = len(kept.read_text()) if kept.exists() else 0
    on_event(JobEvent(message=f"starts at step {done}, process {os.getpid()}"))
    for step in range(done, 20):
        with kept.open("a") as file:
            file.write("x")
        on_event(JobEvent(message=f"step {step}", type="checkpoint", data={"step": step}))
        time.sleep(0.05)
    return _make(spec, made)


def too_long(spec: JobSpec, on_event: OnEvent, *, made: str) -> str:
    """Finds what only a tokenizer can find."""
    raise DataError("training.jsonl:3: the answer has 9000 tokens; the context is 8192")


def broken(spec: JobSpec, on_event: OnEvent, *, made: str) -> str:
    """Has a bug."""
    return str(1 / 0)


def killed(spec: JobSpec, on_event: OnEvent, *, made: str) -> str:
    """Dies as by the kernel's hand."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def lost(spec: JobSpec, on_event: OnEvent, *, made: str) -> str:
    """Ends well, but leaves no model."""
    return spec.output


def _make(spec: JobSpec, made: str) -> str:
    (Path(made) / spec.id).write_text(spec.output)
    return spec.output
