"""A tuning job as NeMo Customizer's clients read it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kickwheel.serve.job import Job, Jobs

STATUSES = {
    "validating_files": "created",
    "queued": "pending",
    "running": "running",
    "paused": "paused",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def shown(jobs: Jobs, job: Job) -> dict[str, Any]:
    """The job in both families of shapes: as of 2025, and as a `spec`."""
    spec = job.spec
    far = details(jobs, job)
    rank = {} if spec.rank is None else {"adapter_dim": spec.rank}
    alpha = {} if spec.alpha is None else {"alpha": spec.alpha}
    return {
        "id": spec.id,
        "created_at": far["created_at"],
        "updated_at": far["updated_at"],
        "config": spec.model,
        "dataset": {"name": job.training_file, "namespace": "default"},
        "output_model": spec.output,
        "hyperparameters": {
            "training_type": "sft",
            "finetuning_type": "lora",
            "epochs": spec.epochs,
            "batch_size": spec.batch_size,
            "learning_rate": spec.learning_rate,
            "lora": {**rank, **alpha},
        },
        "spec": {
            "model": spec.model,
            "dataset": job.training_file,
            "training": {
                "type": "sft",
                "training_type": "sft",
                "finetuning_type": "lora",
                "lora": {"rank": spec.rank, "alpha": spec.alpha},
            },
            "schedule": {"epochs": spec.epochs},
            "batch": {"size": spec.batch_size},
            "optimizer": {"learning_rate": spec.learning_rate},
            "output": {"name": spec.output},
        },
        "status": far["status"],
        "status_details": far,
    }


def details(jobs: Jobs, job: Job) -> dict[str, Any]:
    """How far the job is, and what happened in it, oldest first."""
    newest: Mapping[str, Any] = {}
    losses: dict[str, list[dict[str, Any]]] = {"train_loss": [], "val_loss": []}
    logs = []
    latest = job.created_at
    for _, at, event in reversed(jobs.events(job.spec.id)):
        latest = at
        if event.type == "metrics":
            newest = event.data
        else:
            logs.append({"updated_at": _time(at), "message": event.message})
        for name, key in (("train_loss", "train_loss"), ("val_loss", "valid_loss")):
            value = event.data.get(key)
            if event.type != "message" and value is not None:
                entry = {"step": event.data.get("step"), "value": value, "timestamp": _time(at)}
                losses[name].append(entry)
    if job.error:
        latest = job.finished_at or latest
        ended = {"updated_at": _time(latest), "message": STATUSES[job.status]}
        logs.append({**ended, "detail": job.error["message"] or ""})
    done, steps = newest.get("step", 0), newest.get("total_steps", 0)
    share = 1.0 if job.status == "succeeded" else done / steps if steps else 0.0
    return {
        "created_at": _time(job.created_at),
        "updated_at": _time(latest),
        "status": STATUSES[job.status],
        "steps_completed": done,
        "percentage_done": round(100 * share, 2),
        "metrics": {"keys": list(losses), "metrics": losses},
        "status_logs": logs,
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
