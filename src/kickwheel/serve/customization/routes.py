"""The routes of /v1/customization/jobs."""

from pathlib import Path

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import nearest
from kickwheel.core.store import Sight
from kickwheel.models.caller import Caller
from kickwheel.serve.customization.asked import CustomizationBody
from kickwheel.serve.customization.told import STATUSES, details, shown
from kickwheel.serve.errors import Refused, invalid
from kickwheel.serve.files import Files
from kickwheel.serve.house import House
from kickwheel.serve.job import Job, Jobs
from kickwheel.serve.jobs import check_model, new_job
from kickwheel.serve.listing import count
from kickwheel.serve.worker import Worker

ORDERS = ("-created_at", "created_at")
"""Newest first, and oldest first."""


def customization_routes(house: House, files: Files, jobs: Jobs, worker: Worker) -> list[Route]:
    """The routes of /v1/customization/jobs."""

    async def create(request: Request) -> JSONResponse:
        try:
            asked = CustomizationBody.model_validate_json(await request.body())
            who: Caller = request.state.caller
            body = asked.job(await run_in_threadpool(_file, files, asked.learned_from, who.sight))
        except ValidationError as error:
            raise invalid(error) from error
        await run_in_threadpool(check_model, house, body.model)
        job = await run_in_threadpool(new_job, body, files, jobs, who)
        worker.wake()
        answer = await run_in_threadpool(shown, jobs, job)
        return JSONResponse(answer, status_code=201)

    def listed(request: Request) -> JSONResponse:
        number, size = (_count(request, *of) for of in (("page", 1), ("page_size", 10)))
        found = _wanted(jobs, request)
        part = found[(number - 1) * size : number * size]
        pagination = {
            "page": number,
            "page_size": size,
            "current_page_size": len(part),
            "total_pages": -(-len(found) // size),
            "total_results": len(found),
        }
        data = [shown(jobs, job) for job in part]
        return JSONResponse({"object": "list", "data": data, "pagination": pagination})

    def one(request: Request) -> JSONResponse:
        return JSONResponse(shown(jobs, _found(jobs, request)))

    def status(request: Request) -> JSONResponse:
        return JSONResponse(details(jobs, _found(jobs, request)))

    async def cancel(request: Request) -> JSONResponse:
        job = await run_in_threadpool(_found, jobs, request)
        changed = await worker.stop(job.spec.id, "cancelled", "The job was cancelled.")
        if changed is None:
            what = f"The job is {STATUSES[job.status]} already; it cannot be cancelled."
            # Clients send a 409 once more by themselves, which would be no use.
            raise Refused(409, what, again=False)
        return JSONResponse(await run_in_threadpool(shown, jobs, changed))

    job = "/v1/customization/jobs/{identity}"
    return [
        Route("/v1/customization/jobs", create, methods=["POST"]),
        Route("/v1/customization/jobs", listed, methods=["GET"]),
        Route(job, one, methods=["GET"]),
        Route(f"{job}/status", status, methods=["GET"]),
        Route(f"{job}/cancel", cancel, methods=["POST"]),
    ]


def _wanted(jobs: Jobs, request: Request) -> list[Job]:
    """The jobs that the request filters out, in its order."""
    found = list(jobs.all(request.state.caller.sight))
    for key, value in request.query_params.items():
        if key == "sort" and value in ORDERS:
            found = found if value == ORDERS[0] else found[::-1]
        elif key == "filter[status]":
            found = [job for job in found if STATUSES[job.status] == value]
        elif key == "filter[base_model]":
            found = [job for job in found if job.spec.model == value]
        elif key not in ("page", "page_size"):
            what = (
                f"{key}={value} is not understood here: there are page, page_size, sort of "
                f"{' or '.join(ORDERS)}, filter[status] and filter[base_model]"
            )
            raise Refused(400, what, param=key)
    return found


def _file(files: Files, name: str, sight: Sight) -> str:
    """Id of the uploaded file among those that `sight` shows: by its id, or the newest of that
    name."""
    wanted = name.rstrip("/").rpartition("/")[2]
    known = files.all(sight)
    for file in known:
        if wanted and wanted in (file.id, file.filename, Path(file.filename).stem):
            return file.id
    what = f'no dataset "{name}" here: upload it at /v1/files, and name it by its id or file name. '
    listed = [f.filename for f in known]
    raise Refused(400, what + nearest(wanted, listed), param="dataset", code="dataset_not_found")


def _count(request: Request, name: str, usual: int) -> int:
    said = request.query_params.get(name, str(usual))
    asked = count(said)
    if asked is None or not 1 <= asked <= 1000:
        raise Refused(400, f"{name} must be from 1 to 1000, not {said}", param=name)
    return asked


def _found(jobs: Jobs, request: Request) -> Job:
    try:
        return jobs.get(request.path_params["identity"], request.state.caller.sight)
    except UsageError as error:
        raise Refused(404, str(error), param="id", code="job_not_found") from error
