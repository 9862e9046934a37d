"""/v1/traces: the list of traces, one level by level, and what somebody says of its answer.

    GET  /v1/traces?workload=NAME&limit=100        the newest; after=CURSOR goes on
    GET  /v1/traces/export?workload=NAME           all, oldest first, a line of OTLP JSON each
    GET  /v1/traces/{id}                           the trace's line, and its root
    GET  /v1/traces/{id}?parent=SPAN&limit=100     the spans right below one; after=CURSOR goes on
    POST /v1/traces/{id}/feedback                  what somebody says of the answer

Of a large trace only the spans of the level are read. Each caller finds what `core.store.sight`
shows them; with `tenant=NAME` the house lists and exports one tenant's. `serve.otlp` takes traces.
"""

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kickwheel.core.errors import UsageError
from kickwheel.core.store import Sight
from kickwheel.flywheel.export import line
from kickwheel.flywheel.traffic import check_right
from kickwheel.records import Feedback, wire
from kickwheel.records.openai import message_from_openai
from kickwheel.serve.errors import Refused, invalid
from kickwheel.serve.listing import count
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

T = TypeVar("T")

MOST = 1000
"""Traces that one page of the list has at most, and spans that one of a level has."""
ANSWER_ID = "chatcmpl-"
_BEFORE = re.compile(r"chatcmpl-|cmpl-|resp_")
"""What an answer's id has before the id of its trace."""


class FeedbackBody(BaseModel):
    """What is said of an answer."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    verdict: Literal["good", "bad"]
    answer: dict[str, Any] | str | None = None
    """The answer that would have been right: an OpenAI message, or its text."""
    note: str = ""


def trace_routes(traces: Traces, recorder: Recorder) -> list[Route]:
    """The routes of traces."""

    def say(identity: str, said: Feedback, sight: Sight) -> str:
        trace = _found(partial(traces.get, sight=sight), recorder, identity)
        if said.answer is not None:
            try:
                check_right(trace, said.answer)
            except UsageError as error:
                raise Refused(400, f"answer: {error}", param="answer") from error
        return traces.feedback(trace.id, said)

    async def feedback(request: Request) -> JSONResponse:
        said = _read(await request.body())
        identity = _trace_of(request.path_params["identity"])
        trace = await run_in_threadpool(say, identity, said, request.state.caller.sight)
        return JSONResponse({"object": "trace.feedback", "trace": trace, "verdict": said.verdict})

    def level(
        identity: str, sight: Sight, parent: str | None, limit: int, after: str | None
    ) -> dict[str, Any]:
        summary = _found(partial(traces.summary, sight=sight), recorder, identity)
        steps = traces.steps(summary.id, parent, limit=limit + 1, after=after)
        return {
            "object": "trace",
            **wire.to_plain(summary),
            "steps": steps[:limit],
            "after": steps[limit - 1].cursor if len(steps) > limit else None,
        }

    def listed(sight: Sight, workload: str | None, limit: int, after: str | None) -> dict[str, Any]:
        recorder.flush()
        found = traces.list(workload, sight=sight, limit=limit + 1, before=after)
        return {
            "object": "list",
            "data": [{"object": "trace", **wire.to_plain(one)} for one in found[:limit]],
            "after": found[limit - 1].cursor if len(found) > limit else None,
        }

    async def all_of_them(request: Request) -> Response:
        asked = request.query_params
        limit = _limit(asked.get("limit", "100"))
        found = await run_in_threadpool(
            listed, _sight(request), asked.get("workload"), limit, asked.get("after")
        )
        return Response(wire.to_bytes(found), media_type="application/json")

    async def export(request: Request) -> Response:
        await run_in_threadpool(recorder.flush)
        found = traces.all(request.query_params.get("workload"), sight=_sight(request))
        return StreamingResponse(map(line, found), media_type="application/x-ndjson")

    async def show(request: Request) -> Response:
        asked = request.query_params
        identity = _trace_of(request.path_params["identity"])
        sight = request.state.caller.sight
        limit = _limit(asked.get("limit", "100"))
        found = await run_in_threadpool(
            level, identity, sight, asked.get("parent"), limit, asked.get("after")
        )
        return Response(wire.to_bytes(found), media_type="application/json")

    return [
        Route("/v1/traces", all_of_them, methods=["GET"]),
        Route("/v1/traces/export", export, methods=["GET"]),
        Route("/v1/traces/{identity}/feedback", feedback, methods=["POST"]),
        Route("/v1/traces/{identity}", show),
    ]


def _sight(request: Request) -> Sight:
    """What the list holds: all that the caller sees, or what of it is one tenant's."""
    sight: Sight = request.state.caller.sight
    tenant = request.query_params.get("tenant")
    return sight.within(tenant) if tenant else sight


def _limit(written: str) -> int:
    limit = count(written)
    if limit is not None and 1 <= limit <= MOST:
        return limit
    raise Refused(400, f"limit must be between 1 and {MOST}, not {written}", param="limit")


def _found(look_up: Callable[[str], T], recorder: Recorder, identity: str) -> T:
    try:
        return look_up(identity)
    except UsageError:
        # The trace of an answer that has just come may still wait to be written.
        recorder.flush()
    try:
        return look_up(identity)
    except UsageError as error:
        what = f'no trace "{identity}" of yours, nor a single one that begins so'
        told = f"{what}: GET /v1/traces lists them"
        raise Refused(404, told, param="id", code="trace_not_found") from error


def _trace_of(identity: str) -> str:
    """The trace's own id, of an answer of any protocol."""
    named = _BEFORE.match(identity)
    return identity if named is None else identity[named.end() :]


def _read(body: bytes) -> Feedback:
    try:
        said = FeedbackBody.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from error
    answer = said.answer
    if isinstance(answer, str):
        answer = {"content": answer}
    try:
        message = None if answer is None else message_from_openai({"role": "assistant", **answer})
    except ValueError as error:
        raise Refused(400, f"answer: {error}", param="answer") from error
    if message is not None and message.role != "assistant":
        raise Refused(400, "answer: must be a message of role assistant", param="answer")
    if message is not None and message.content is None and not message.tool_calls:
        raise Refused(400, "answer: needs content or tool_calls", param="answer")
    return Feedback(verdict=said.verdict, answer=message, note=said.note, time_ns=time.time_ns())
