"""/v1/runs: how agents' runs stand, a person's answer to one that waits, and its end.

A caller sees the runs that were begun under the same key.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.agents.keeper import Keeper
from kickwheel.app import standing
from kickwheel.core.errors import UsageError
from kickwheel.core.journal import KeptRun
from kickwheel.core.store import Store
from kickwheel.models.caller import Caller
from kickwheel.serve.errors import Refused, invalid
from kickwheel.serve.listing import count

MOST = 200
"""Runs in one list at most."""


class AnswerBody(BaseModel):
    """What a person answers."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    answer: str
    """One of the choices, where there are any."""
    question: str = ""
    """The path of what is answered, where the run asks several things."""


def run_routes(store: Store, keeper: Keeper) -> list[Route]:
    """The routes of runs."""

    def found(identity: str, who: Caller) -> KeptRun:
        try:
            return store.runs.named(identity, who.user, who.tenant)
        except UsageError as error:
            what = f'no run "{identity}" of yours, nor a single one that begins so'
            told = f"{what}: GET /v1/runs lists them"
            raise Refused(404, told, param="id", code="run_not_found") from error

    def shown(run: KeptRun) -> dict[str, Any]:
        now = standing(store, run)
        return {
            "id": now.id,
            "object": "run",
            "agent": now.agent,
            "status": now.state,
            "questions": [
                {"path": q.path, "text": q.text, "choices": list(q.choices)} for q in now.questions
            ],
            "answer": now.answer or None,
            "error": now.error,
            "created_at": int(now.created),
            "updated_at": int(now.updated),
        }

    def listed(limit: int, who: Caller) -> list[dict[str, Any]]:
        return [shown(run) for run in store.runs.recent(limit, who.user, who.tenant)]

    async def all_of_them(request: Request) -> JSONResponse:
        limit = count(request.query_params.get("limit", "20"))
        if limit is None or not 0 < limit <= MOST:
            raise Refused(400, f"limit must be 1 to {MOST}", param="limit")
        data = await run_in_threadpool(listed, limit, request.state.caller)
        return JSONResponse({"object": "list", "data": data})

    async def named(request: Request) -> KeptRun:
        return await run_in_threadpool(found, request.path_params["identity"], request.state.caller)

    async def now(request: Request) -> JSONResponse:
        run = await named(request)
        return JSONResponse(await run_in_threadpool(shown, run))

    async def answer(request: Request) -> JSONResponse:
        run = await named(request)
        try:
            said = AnswerBody.model_validate_json(await request.body())
        except ValidationError as error:
            raise invalid(error) from error
        await keeper.answer(run.id, said.answer, said.question)
        return await now(request)

    async def cancel(request: Request) -> JSONResponse:
        run = await named(request)
        if not await keeper.cancel(run.id):
            raise Refused(409, f"run {run.id} has ended already: {run.state}", code="run_ended")
        return await now(request)

    return [
        Route("/v1/runs", all_of_them),
        Route("/v1/runs/{identity}", now),
        Route("/v1/runs/{identity}/answer", answer, methods=["POST"]),
        Route("/v1/runs/{identity}/cancel", cancel, methods=["POST"]),
    ]
