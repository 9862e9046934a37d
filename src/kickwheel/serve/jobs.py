"""/v1/fine_tuning/jobs: three lines take a user from a hosted model to a tuned one.

file = client.files.create(file=open("chats.jsonl", "rb"), purpose="fine-tune")
client.fine_tuning.jobs.create(
    model="smollm2-135m", training_file=file.id, extra_body={"training_type": "lora"})
"""

import re
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import nearest
from kickwheel.models.caller import Caller
from kickwheel.serve.errors import Refused, invalid
from kickwheel.serve.files import Files
from kickwheel.serve.house import House
from kickwheel.serve.job import Job, JobEvent, Jobs, JobSpec, new_id, output_of
from kickwheel.serve.listing import page, read_page
from kickwheel.serve.worker import Worker

ALLOWED = 'allowed is "lora", or "sft" with finetuning_type "lora"'


def _auto(value: Any) -> Any:
    return None if value == "auto" else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Lora(_Strict):
    """NeMo's options of the update."""

    adapter_dim: Annotated[int, Field(ge=1, le=256)] | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None


class Hyperparameters(_Strict):
    """OpenAI's names, and NeMo's for the same."""

    n_epochs: Annotated[int | None, Field(ge=1, le=1000), BeforeValidator(_auto)] = None
    batch_size: Annotated[int | None, Field(ge=1, le=1024), BeforeValidator(_auto)] = None
    learning_rate_multiplier: Annotated[float | None, Field(gt=0), BeforeValidator(_auto)] = None
    epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    lora: Lora | None = None
    training_type: str | None = None
    finetuning_type: str | None = None


class Supervised(_Strict):
    """OpenAI's newer place for the hyperparameters."""

    hyperparameters: Hyperparameters | None = None


class Method(_Strict):
    """OpenAI's newer way to say what kind of training is wanted."""

    type: str
    supervised: Supervised | None = None

    @model_validator(mode="after")
    def _known(self) -> "Method":
        if self.type != "supervised":
            raise ValueError(f'no method "{self.type}" here; allowed is "supervised"')
        return self


class JobBody(_Strict):
    """A job as it is asked for."""

    model: str
    training_file: str
    validation_file: str | None = None
    training_type: str | None = None
    finetuning_type: str | None = None
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metadata: dict[str, str] | None = None
    integrations: Annotated[list[Any], Field(max_length=0)] | None = None

    def chosen(self) -> Hyperparameters:
        """The hyperparameters, wherever they stand."""
        newer = self.method.supervised if self.method else None
        return (newer and newer.hyperparameters) or self.hyperparameters or Hyperparameters()

    @model_validator(mode="after")
    def _known(self) -> "JobBody":
        inner = self.chosen()
        kind = self.training_type or inner.training_type
        finetuning = self.finetuning_type or inner.finetuning_type
        if (kind or "lora") not in ("lora", "sft"):
            raise ValueError(f'no training_type "{kind}" here; {ALLOWED}')
        if finetuning not in (None, "lora"):
            raise ValueError(f'no finetuning_type "{finetuning}" here; {ALLOWED}')
        if kind == "sft" and finetuning is None:
            raise ValueError(f'training_type "sft" needs finetuning_type "lora"; {ALLOWED}')
        if self.suffix is not None and not re.fullmatch(r"[A-Za-z0-9._-]+", self.suffix):
            raise ValueError("suffix: only letters, digits and . _ - may stand in it")
        return self


def job_routes(house: House, files: Files, jobs: Jobs, worker: Worker) -> list[Route]:
    """The routes of /v1/fine_tuning/jobs."""

    async def create(request: Request) -> JSONResponse:
        body = _read(await request.body())
        await run_in_threadpool(check_model, house, body.model)
        job = await run_in_threadpool(new_job, body, files, jobs, request.state.caller)
        worker.wake()
        return JSONResponse(shown(job))

    def listed(request: Request) -> JSONResponse:
        asked = read_page(request)
        found = jobs.all(request.state.caller.sight)
        return JSONResponse(page(found, asked, lambda job: job.spec.id, shown))

    def one(request: Request) -> JSONResponse:
        return JSONResponse(shown(_found(jobs, request)))

    def events(request: Request) -> JSONResponse:
        return JSONResponse(_events(jobs, request))

    def checkpoints(request: Request) -> JSONResponse:
        return JSONResponse(_checkpoints(jobs, request))

    async def cancel(request: Request) -> JSONResponse:
        return await _stop(request, "cancelled", "The job was cancelled.")

    async def pause(request: Request) -> JSONResponse:
        return await _stop(request, "paused", "The job was paused.")

    async def resume(request: Request) -> JSONResponse:
        job = _found(jobs, request)
        changed = await run_in_threadpool(
            jobs.change, job.spec.id, ["paused"], status="validating_files"
        )
        if changed is None:
            raise Refused(400, f"Only a paused job can be resumed; this one is {job.status}.")
        worker.wake()
        return JSONResponse(shown(changed))

    async def _stop(
        request: Request, status: Literal["cancelled", "paused"], told: str
    ) -> JSONResponse:
        job = _found(jobs, request)
        changed = await worker.stop(job.spec.id, status, told)
        if changed is None:
            now = jobs.get(job.spec.id).status
            raise Refused(400, f"The job is {now} already; it cannot be {status}.")
        return JSONResponse(shown(changed))

    one_job = "/v1/fine_tuning/jobs/{identity}"
    return [
        Route("/v1/fine_tuning/jobs", create, methods=["POST"]),
        Route("/v1/fine_tuning/jobs", listed, methods=["GET"]),
        Route(one_job, one, methods=["GET"]),
        Route(f"{one_job}/events", events, methods=["GET"]),
        Route(f"{one_job}/checkpoints", checkpoints, methods=["GET"]),
        Route(f"{one_job}/cancel", cancel, methods=["POST"]),
        Route(f"{one_job}/pause", pause, methods=["POST"]),
        Route(f"{one_job}/resume", resume, methods=["POST"]),
    ]


def shown(job: Job) -> dict[str, Any]:
    """The job as OpenAI's clients read it."""
    spec = job.spec
    parameters = {
        "n_epochs": spec.epochs or "auto",
        "batch_size": spec.batch_size or "auto",
        "learning_rate_multiplier": spec.learning_rate_multiplier or "auto",
    }
    return {
        "id": spec.id,
        "object": "fine_tuning.job",
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "estimated_finish": job.estimated_finish,
        "model": spec.model,
        "fine_tuned_model": job.fine_tuned_model,
        "organization_id": "kickwheel",
        "status": job.status,
        "error": job.error,
        "training_type": spec.training_type,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "hyperparameters": parameters,
        "method": {"type": "supervised", "supervised": {"hyperparameters": parameters}},
        "seed": spec.seed,
        "user_provided_suffix": job.suffix,
        "trained_tokens": job.trained_tokens,
        "result_files": [],
        "integrations": [],
        "metadata": dict(job.metadata),
    }


def _read(body: bytes) -> JobBody:
    try:
        return JobBody.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error


_NO_BASE = (
    "There are none: the app file has no base of its own. It declares one by "
    "`models: {base: {kind: local}}`."
)


def check_model(house: House, name: str) -> None:
    """Returns if jobs may start from the model.

    Raises:
        Refused: they may not; the text names the nearest.
    """
    tunable = {card.id: card for card in house.models() if card.tunable}
    if name not in tunable:
        others = nearest(name, tunable) if tunable else _NO_BASE
        what = f'"{name}" cannot be tuned here. {others}'
        raise Refused(400, what, param="model", code="model_not_found")


def new_job(body: JobBody, files: Files, jobs: Jobs, who: Caller) -> Job:
    """Keeps a new job of `who`, for the worker to take up.

    Raises:
        Refused: a file that it names is not there, or not one of theirs.
    """
    paths = {}
    for param in ("training_file", "validation_file"):
        named: str | None = getattr(body, param)
        try:
            paths[param] = None if named is None else files.path(named, who.sight)
        except UsageError as error:
            raise Refused(400, str(error), param=param, code="file_not_found") from error
    training, validation = paths["training_file"], paths["validation_file"]
    assert training is not None
    identity = new_id()
    folder = jobs.folder / identity
    chosen = body.chosen()
    spec = JobSpec(
        id=identity,
        model=body.model,
        output=output_of(identity, body.model, body.suffix),
        training_file=str(folder / "training.jsonl"),
        validation_file=None if validation is None else str(folder / "validation.jsonl"),
        folder=str(folder),
        epochs=chosen.n_epochs or chosen.epochs,
        batch_size=chosen.batch_size,
        learning_rate=chosen.learning_rate,
        learning_rate_multiplier=chosen.learning_rate_multiplier,
        rank=chosen.lora.adapter_dim if chosen.lora else None,
        alpha=chosen.lora.alpha if chosen.lora else None,
        seed=body.seed or 0,
    )
    job = Job(
        spec=spec,
        status="validating_files",
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        metadata=body.metadata or {},
        created_at=int(time.time()),
    )
    jobs.add(job, training, validation, who)
    jobs.say(identity, JobEvent(message=f"Created fine-tuning job: {identity}"))
    return job


def _events(jobs: Jobs, request: Request) -> Mapping[str, Any]:
    def entry(found: tuple[int, int, JobEvent]) -> dict[str, Any]:
        number, created_at, event = found
        return {
            "id": f"ftevent-{number}",
            "object": "fine_tuning.job.event",
            "created_at": created_at,
            "level": event.level,
            "message": event.message,
            "type": "metrics" if event.type == "metrics" else "message",
            "data": dict(event.data),
        }

    found = jobs.events(_found(jobs, request).spec.id)
    return page(found, read_page(request), lambda e: f"ftevent-{e[0]}", entry)


def _checkpoints(jobs: Jobs, request: Request) -> Mapping[str, Any]:
    job = _found(jobs, request)

    def entry(found: tuple[int, int, JobEvent]) -> dict[str, Any]:
        number, created_at, event = found
        metrics = {key: value for key, value in event.data.items() if key != "total_steps"}
        return {
            "id": f"ftckpt-{number}",
            "object": "fine_tuning.job.checkpoint",
            "created_at": created_at,
            "fine_tuning_job_id": job.spec.id,
            "fine_tuned_model_checkpoint": f"{job.spec.output}:ckpt-step-{metrics.get('step', 0)}",
            "step_number": metrics.get("step", 0),
            "metrics": metrics,
        }

    found = [entry for entry in jobs.events(job.spec.id) if entry[2].type == "checkpoint"]
    return page(found, read_page(request, usual=10), lambda e: f"ftckpt-{e[0]}", entry)


def _found(jobs: Jobs, request: Request) -> Job:
    try:
        return jobs.get(request.path_params["identity"], request.state.caller.sight)
    except UsageError as error:
        raise Refused(404, str(error), param="id", code="job_not_found") from error
