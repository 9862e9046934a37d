"""/v1/customization/jobs: NeMo Customizer's door to the same jobs as /v1/fine_tuning/jobs.

Three shapes of a job are read: Customizer's of 2025 (`config`, `dataset`, `hyperparameters`), and
two with a `spec`, of which the newer one says `schedule`, `batch`, `optimizer` and `output`. What a
shape may say and the tuning here does not do is refused by name, never passed over.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import nearest
from kickwheel.serve.errors import Refused, invalid
from kickwheel.serve.files import Files
from kickwheel.serve.house import House
from kickwheel.serve.job import Job, Jobs
from kickwheel.serve.jobs import Hyperparameters, JobBody, Lora, check_model, new_job
from kickwheel.serve.listing import count
from kickwheel.serve.worker import Worker

STATUSES = {
    "validating_files": "created",
    "queued": "pending",
    "running": "running",
    "paused": "paused",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Named(_Strict):
    """Something in a namespace; here there is only one."""

    name: Annotated[str, Field(min_length=1)]
    namespace: str | None = None


def _no_dropout(dropout: float | None) -> float | None:
    if dropout:
        raise ValueError("no dropout here: leave it out, or say 0")
    return dropout


Count = Annotated[int, Field(ge=1, le=1000)]
Rank = Annotated[int, Field(ge=1, le=256)]
Alpha = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Dropout = Annotated[float, AfterValidator(_no_dropout)]


class AdapterOptions(_Strict):
    """The update, as all three shapes name it."""

    type: Literal["lora"] = "lora"
    adapter_dim: Rank | None = None
    rank: Rank | None = None
    alpha: Alpha | None = None
    adapter_dropout: Dropout | None = None
    dropout: Dropout | None = None


class Parameters(_Strict):
    """Customizer's hyperparameters of 2025."""

    training_type: Literal["sft"] = "sft"
    finetuning_type: Literal["lora"] = "lora"
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Rate | None = None
    lora: AdapterOptions = AdapterOptions()


class Training(_Strict):
    """`spec.training`, of either year."""

    type: Literal["sft"] | None = None
    training_type: Literal["sft"] | None = None
    finetuning_type: Literal["lora"] | None = None
    peft: AdapterOptions | None = None
    lora: AdapterOptions | None = None
    epochs: Count | None = None
    batch_size: Count | None = None
    learning_rate: Rate | None = None

    @model_validator(mode="after")
    def _lora(self) -> "Training":
        if self.peft is None and self.lora is None and self.finetuning_type is None:
            raise ValueError('all weights are not tuned here; say peft: {"type": "lora"}')
        return self


class Schedule(_Strict):
    """How long."""

    epochs: Count | None = None


class Batch(_Strict):
    """How many examples a step."""

    size: Count | None = None
    global_batch_size: Count | None = None


class Optimizer(_Strict):
    """How fast."""

    learning_rate: Rate | None = None


class Spec(_Strict):
    """A job as the newer shapes say it."""

    model: str
    dataset: str | Named
    training: Training
    schedule: Schedule = Schedule()
    batch: Count | Batch = Batch()
    optimizer: Optimizer = Optimizer()
    output: Named | None = None


class CustomizationBody(_Strict):
    """A job as it is asked for: `config` with what belongs to it, or `spec`."""

    config: str | Named | None = None
    dataset: str | Named | None = None
    output_model: str | None = None
    hyperparameters: Parameters = Parameters()
    spec: Spec | None = None
    name: str | None = None
    namespace: str | None = None
    project: str | None = None
    description: str | None = None

    @model_validator(mode="after")
    def _one_shape(self) -> "CustomizationBody":
        if (self.spec is None) == (self.config is None):
            raise ValueError("say either config, dataset and hyperparameters, or spec")
        if self.spec is None and self.dataset is None:
            raise ValueError("dataset: which uploaded file to learn from")
        return self

    def job(self, training_file: str) -> JobBody:
        """The same as a fine-tuning job.

        Args:
            training_file: id of the dataset's file.
        """
        spec = self.spec
        if spec is None:
            assert self.config is not None
            asked, model, output = self.hyperparameters, _name(self.config), self.output_model
            lora, epochs, size = asked.lora, asked.epochs, asked.batch_size
            rate = asked.learning_rate
        else:
            model, output = spec.model, spec.output.name if spec.output else self.name
            lora = spec.training.peft or spec.training.lora or AdapterOptions()
            epochs = spec.schedule.epochs or spec.training.epochs
            size = spec.training.batch_size
            if isinstance(spec.batch, int):
                size = spec.batch
            else:
                size = spec.batch.size or spec.batch.global_batch_size or size
            rate = spec.optimizer.learning_rate or spec.training.learning_rate
        return JobBody(
            model=_base(model),
            training_file=training_file,
            suffix=_plain(output) if output else None,
            hyperparameters=Hyperparameters(
                epochs=epochs,
                batch_size=size,
                learning_rate=rate,
                lora=Lora(adapter_dim=lora.adapter_dim or lora.rank, alpha=lora.alpha),
            ),
        )


def customization_routes(house: House, files: Files, jobs: Jobs, worker: Worker) -> list[Route]:
    """The routes of /v1/customization/jobs."""

    async def create(request: Request) -> JSONResponse:
        try:
            asked = CustomizationBody.model_validate_json(await request.body())
            dataset = asked.spec.dataset if asked.spec else asked.dataset
            assert dataset is not None
            body = asked.job(await run_in_threadpool(_file, files, _name(dataset)))
        except ValidationError as error:
            raise invalid(error) from error
        await run_in_threadpool(check_model, house, body.model)
        job = await run_in_threadpool(new_job, body, files, jobs)
        worker.wake()
        return JSONResponse(_shown(job), status_code=201)

    def listed(request: Request) -> JSONResponse:
        number, size = (_count(request, *of) for of in (("page", 1), ("page_size", 10)))
        found = jobs.all()
        part = found[(number - 1) * size : number * size]
        pagination = {
            "page": number,
            "page_size": size,
            "current_page_size": len(part),
            "total_pages": -(-len(found) // size),
            "total_results": len(found),
        }
        data = [_shown(job) for job in part]
        return JSONResponse({"object": "list", "data": data, "pagination": pagination})

    def one(request: Request) -> JSONResponse:
        return JSONResponse(_shown(_found(jobs, request)))

    def status(request: Request) -> JSONResponse:
        return JSONResponse(_status(jobs, _found(jobs, request)))

    async def cancel(request: Request) -> JSONResponse:
        job = await run_in_threadpool(_found, jobs, request)
        changed = await worker.stop(job.spec.id, "cancelled", "The job was cancelled.")
        if changed is None:
            raise Refused(409, f"The job is {job.status} already; it cannot be cancelled.")
        return JSONResponse(_shown(changed))

    job = "/v1/customization/jobs/{identity}"
    return [
        Route("/v1/customization/jobs", create, methods=["POST"]),
        Route("/v1/customization/jobs", listed, methods=["GET"]),
        Route(job, one, methods=["GET"]),
        Route(f"{job}/status", status, methods=["GET"]),
        Route(f"{job}/cancel", cancel, methods=["POST"]),
    ]


def _shown(job: Job) -> dict[str, Any]:
    """The job in both families of shapes: as of 2025, and as a `spec`."""
    spec = job.spec
    created = _time(job.created_at)
    rank = {} if spec.rank is None else {"adapter_dim": spec.rank}
    alpha = {} if spec.alpha is None else {"alpha": spec.alpha}
    return {
        "id": spec.id,
        "created_at": created,
        "updated_at": _time(job.finished_at or job.created_at),
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
        "status": STATUSES[job.status],
        "status_details": dict(job.error) if job.error else {},
    }


def _status(jobs: Jobs, job: Job) -> dict[str, Any]:
    """How far the job is."""
    newest: Mapping[str, Any] = {}
    losses: dict[str, list[dict[str, Any]]] = {"train_loss": [], "val_loss": []}
    for _, at, event in reversed(jobs.events(job.spec.id)):
        if event.type == "metrics":
            newest = event.data
        for name, key in (("train_loss", "train_loss"), ("val_loss", "valid_loss")):
            value = event.data.get(key)
            if event.type != "message" and value is not None:
                entry = {"step": event.data.get("step"), "value": value, "timestamp": _time(at)}
                losses[name].append(entry)
    done, steps = newest.get("step", 0), newest.get("total_steps", 0)
    share = 1.0 if job.status == "succeeded" else done / steps if steps else 0.0
    return {
        "created_at": _time(job.created_at),
        "updated_at": _time(job.finished_at or job.created_at),
        "status": STATUSES[job.status],
        "steps_completed": done,
        "percentage_done": round(100 * share, 2),
        "metrics": {"keys": list(losses), "metrics": losses},
        "status_details": dict(job.error) if job.error else {},
    }


def _file(files: Files, name: str) -> str:
    """Id of the uploaded file: by its id, or the newest of that name."""
    wanted = name.rstrip("/").rpartition("/")[2]
    known = files.all()
    for file in known:
        if wanted and wanted in (file.id, file.filename, Path(file.filename).stem):
            return file.id
    what = f'no dataset "{name}" here: upload it at /v1/files, and name it by its id or file name. '
    listed = [f.filename for f in known]
    raise Refused(400, what + nearest(wanted, listed), param="dataset", code="dataset_not_found")


def _name(named: str | Named) -> str:
    return named if isinstance(named, str) else named.name


def _base(model: str) -> str:
    """The base that a configuration is named for: `smollm2-135m@v1.0.0+cpu` is `smollm2-135m`."""
    return model.partition("@")[0]


def _plain(output: str) -> str:
    """The suffix of a model's name that an output is named by: `default/mine@v1` is `mine`."""
    name = output.partition("@")[0].rpartition("/")[2]
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)[:64]


def _count(request: Request, name: str, usual: int) -> int:
    said = request.query_params.get(name, str(usual))
    asked = count(said)
    if asked is None or not 1 <= asked <= 1000:
        raise Refused(400, f"{name} must be from 1 to 1000, not {said}", param=name)
    return asked


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def _found(jobs: Jobs, request: Request) -> Job:
    try:
        return jobs.get(request.path_params["identity"])
    except UsageError as error:
        raise Refused(404, str(error), param="id", code="job_not_found") from error
