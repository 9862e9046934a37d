"""A fine-tuning job: what was asked, how far it is, and where that is kept."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kickwheel.core.errors import UsageError
from kickwheel.core.files import storage_error
from kickwheel.core.store import EVERYTHING, Sight, Store
from kickwheel.models.caller import Caller
from kickwheel.records import wire

Status = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
TUNED = "ft:"
"""How the names of jobs' models begin."""
WAITING: tuple[Status, ...] = ("validating_files", "queued", "running")
"""Of jobs that the worker takes up, also after a restart."""
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a job is to make: all that its runner gets."""

    id: str
    model: str
    """The base to start from, as `/v1/models` calls it."""
    output: str
    """The finished model's name, see `output_of`."""
    training_file: str
    """Path of a JSONL file in OpenAI's fine-tuning form; the job's own copy, checked."""
    validation_file: str | None = None
    folder: str
    """The job's own folder, kept over restarts: checkpoints belong here."""
    training_type: Literal["lora"] = "lora"
    epochs: int | None = None
    """`None`, here and below: as the runner finds best."""
    batch_size: int | None = None
    learning_rate: float | None = None
    learning_rate_multiplier: float | None = None
    rank: int | None = None
    alpha: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something to tell of a running job."""

    message: str
    level: Literal["info", "warn", "error"] = "info"
    type: Literal["message", "metrics", "checkpoint"] = "message"
    """`metrics`: where it stands, at most one a second is kept. `checkpoint`: where the validation
    part was read."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """For metrics: `step`, `total_steps`, `train_loss`, `valid_loss`, `tokens_per_s`,
    `seconds_left`, `trained_tokens`, as far as they are known; for checkpoints `step` and the
    losses. Numbers, no arrays."""


_PREFIX = "ftjob-"
OnEvent = Callable[[JobEvent], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job and how far it is."""

    spec: JobSpec
    status: Status
    training_file: str
    """Id of the file that was named; it may be gone since."""
    validation_file: str | None = None
    suffix: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: int
    """Unix time, seconds, here and below."""
    finished_at: int | None = None
    estimated_finish: int | None = None
    fine_tuned_model: str | None = None
    trained_tokens: int | None = None
    error: Mapping[str, str | None] | None = None
    """`code`, `message` and `param` of what ended it."""


class Jobs:
    """The jobs of one store; every method may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._database = store.database
        self.folder = store.folder / "jobs"

    def add(self, job: Job, training: Path, validation: Path | None, who: Caller) -> Job:
        """Keeps a new job of `who` with copies of its files, which then may be deleted.

        Raises:
            StoreError: the disk is full; nothing was kept.
        """
        folder = Path(job.spec.folder)
        try:
            folder.mkdir(parents=True)
            _copy(training, Path(job.spec.training_file))
            if validation is not None and job.spec.validation_file is not None:
                _copy(validation, Path(job.spec.validation_file))
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise storage_error(error, folder) from error
        row = (job.spec.id, job.created_at, wire.to_bytes(job), who.tenant, who.user)
        self._database.write(
            lambda c: c.execute(
                "INSERT INTO job (id, created_at, body, tenant, asker) VALUES (?, ?, ?, ?, ?)", row
            )
        )
        return job

    def get(self, identity: str, sight: Sight = EVERYTHING) -> Job:
        """The job of that id, among those that `sight` shows.

        Raises:
            UsageError: there is none.
        """
        theirs, values = sight.where()
        rows = self._database.read(
            f"SELECT body FROM job WHERE id = ? AND {theirs}", (identity, *values)
        )
        if not rows:
            raise UsageError(
                f'no fine-tuning job "{identity}" here; client.fine_tuning.jobs.list() shows what '
                "there is"
            )
        return wire.from_bytes(rows[0][0], Job)

    def all(self, sight: Sight = EVERYTHING) -> Sequence[Job]:
        """Every job that `sight` shows, newest first."""
        theirs, values = sight.where()
        rows = self._database.read(
            f"SELECT body FROM job WHERE {theirs} ORDER BY created_at DESC, rowid DESC", values
        )
        return [wire.from_bytes(row[0], Job) for row in rows]

    def made(self, model: str, sight: Sight) -> bool:
        """Whether a job that `sight` shows makes the model of that name."""
        theirs, values = sight.where()
        start = _PREFIX + model.rpartition(":")[2]
        rows = self._database.read(
            f"SELECT body FROM job WHERE id >= ? AND id < ? AND {theirs}",
            (start, start + "~", *values),
        )
        return any(wire.from_bytes(row[0], Job).spec.output == model for row in rows)

    def next(self) -> Job | None:
        """The oldest job that waits to be worked on."""
        return next((job for job in reversed(self.all()) if job.status in WAITING), None)

    def change(self, identity: str, only: Sequence[Status], **changes: Any) -> Job | None:
        """The job with the changes, if its status is one of `only`; otherwise `None`.

        Raises:
            UsageError: there is no such job.
        """
        self.get(identity)

        def write(connection: Any) -> Job | None:
            row = connection.execute("SELECT body FROM job WHERE id = ?", (identity,)).fetchone()
            job = wire.from_bytes(row[0], Job)
            if job.status not in only:
                return None
            changed = replace(job, **changes)
            connection.execute(
                "UPDATE job SET body = ? WHERE id = ?", (wire.to_bytes(changed), identity)
            )
            return changed

        changed: Job | None = self._database.write(write)
        return changed

    def say(self, identity: str, event: JobEvent) -> None:
        """Keeps an event of the job."""
        entry = {"created_at": int(time.time()), "event": wire.to_plain(event)}
        row = (identity, wire.to_bytes(entry))
        self._database.write(
            lambda c: c.execute("INSERT INTO job_event (job, body) VALUES (?, ?)", row)
        )

    def events(self, identity: str) -> Sequence[tuple[int, int, JobEvent]]:
        """The job's events, newest first: number, Unix time in seconds, event.

        Raises:
            UsageError: there is no such job.
        """
        self.get(identity)
        rows = self._database.read(
            "SELECT seq, body FROM job_event WHERE job = ? ORDER BY seq DESC", (identity,)
        )
        found = []
        for seq, body in rows:
            entry = wire.from_bytes(body, dict)
            found.append((seq, entry["created_at"], wire.from_plain(entry["event"], JobEvent)))
        return found


def new_id() -> str:
    """The id of a new job."""
    return _PREFIX + os.urandom(8).hex()


def output_of(identity: str, model: str, suffix: str | None) -> str:
    """The name of the model that a job makes: `ft:<base>:<suffix>:<beginning of the job's id>`."""
    return f"{TUNED}{model}:{suffix or ''}:{identity.removeprefix(_PREFIX)[:8]}"


def _copy(source: Path, target: Path) -> None:
    # A link costs nothing, and the bytes of a stored file never change.
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
