"""The routes of /v1/responses."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kickwheel.agents.keeper import Keeper
from kickwheel.core.errors import StoreError
from kickwheel.core.identity import fresh
from kickwheel.core.store import Store
from kickwheel.models.caller import Caller
from kickwheel.models.chat import Delta, Done
from kickwheel.models.pictures import sent
from kickwheel.serve import outgoing, pictures
from kickwheel.serve.answering import Answering, Question, unless_left
from kickwheel.serve.errors import Refused, refusal
from kickwheel.serve.listing import count, page, read_page
from kickwheel.serve.outgoing import Outgoing, Receive, Send, Told
from kickwheel.serve.responses.background import RESPONSE_ID, Background
from kickwheel.serve.responses.kept import KeptResponses
from kickwheel.serve.responses.request import Asked, read
from kickwheel.serve.responses.unfolding import SETTLED, Event, Unfolding, begun


class Responses:
    """What makes responses, and keeps them."""

    def __init__(self, answering: Answering, store: Store, keeper: Keeper | None = None) -> None:
        self.kept = KeptResponses(store)
        self.background = Background(answering, self.kept, keeper)
        self._answering = answering
        self._artifacts = store.artifacts

    async def make(self, request: Request, send: Send) -> None:
        """Answers a request with a new response, streamed or whole.

        Raises:
            Refused: before anything was sent; whoever called answers.
            KickwheelError: as the model raises, before anything was sent.
        """
        who: Caller = request.state.caller
        asked = read(await request.body())
        before: Sequence[Mapping[str, Any]] = ()
        if asked.body.previous_response_id:
            before = await run_in_threadpool(
                self.kept.conversation, asked.body.previous_response_id, who
            )
        trace = request.state.identity.removeprefix("req-")
        wanted = asked.request(before)
        if sent(wanted.messages):
            wanted = await pictures.kept(wanted, self._artifacts, "input")
        question = Question(
            name=asked.body.model,
            request=wanted,
            identity=RESPONSE_ID + trace,
            trace=trace,
            project=request.state.project,
        )
        model = await self._answering.model(question.name, question.project)
        response = begun(asked, question.identity)
        if asked.body.background:
            await self.background.begin(model, question, response, _named(asked), who)
            answer = await self._in_background(request, asked, question.identity)
            await answer(request.scope, request.receive, send)
            return
        told = _Making(response, send, stream=bool(asked.body.stream))

        async def work() -> None:
            await self._answering.answer(model, question, told)
            if asked.stored:
                await self._keep(asked, told, who)
            await told.close()

        await unless_left(request.receive, told, work)

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """While the block runs, responses go on in the background."""
        watching = asyncio.create_task(self.background.watch())
        try:
            yield
        finally:
            watching.cancel()
            await self.background.close()

    async def _in_background(self, request: Request, asked: Asked, identity: str) -> Response:
        """The first answer about a response that goes on: as it stands, or its stream."""
        who: Caller = request.state.caller
        if asked.body.stream:
            return _streamed(self.background.events(identity, who), identity)
        return JSONResponse(
            (await self.background.now(identity, who)).response, headers=_trace(identity)
        )

    async def _keep(self, asked: Asked, told: "_Making", who: Caller) -> None:
        try:
            await run_in_threadpool(self.kept.add, told.response, _named(asked), who)
        except StoreError as error:
            if not told.begun:
                raise
            await told.fail(error)


def response_routes(responses: Responses) -> list[Route]:
    """The routes of /v1/responses."""
    kept, background = responses.kept, responses.background

    async def one(request: Request) -> Response:
        identity, who = request.path_params["identity"], request.state.caller
        found = await background.now(identity, who)
        if not _flag(request, "stream"):
            return JSONResponse(found.response)
        said = request.query_params.get("starting_after")
        after = -1 if said is None else count(said)
        if after is None:
            what = f"starting_after must be the number of an event, not {said}"
            raise Refused(400, what, param="starting_after")
        return _streamed(background.events(identity, who, after), identity)

    async def cancel(request: Request) -> Response:
        identity, who = request.path_params["identity"], request.state.caller
        return JSONResponse(await background.cancel(identity, who))

    async def delete(request: Request) -> Response:
        identity, who = request.path_params["identity"], request.state.caller
        if (await background.now(identity, who)).response["status"] not in SETTLED:
            await background.cancel(identity, who)
        await run_in_threadpool(kept.delete, identity, who)
        return JSONResponse({"id": identity, "object": "response", "deleted": True})

    async def items(request: Request) -> Response:
        wanted = read_page(request)
        identity, who = request.path_params["identity"], request.state.caller
        found = await run_in_threadpool(kept.get, identity, who)
        newest_first = list(reversed(found.items))
        return JSONResponse(page(newest_first, wanted, lambda item: str(item["id"]), dict))

    return [
        Route("/v1/responses", _Create(responses), methods=["POST"]),
        Route("/v1/responses/{identity}", one, methods=["GET"]),
        Route("/v1/responses/{identity}", delete, methods=["DELETE"]),
        Route("/v1/responses/{identity}/cancel", cancel, methods=["POST"]),
        Route("/v1/responses/{identity}/input_items", items, methods=["GET"]),
    ]


class _Create:
    """The route that makes a response: an ASGI app, since it writes its answer itself."""

    def __init__(self, responses: Responses) -> None:
        self._responses = responses

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._responses.make(Request(scope, receive), send)


class _Making(Told):
    """A response on its way to the client, streamed or whole."""

    def __init__(self, response: dict[str, Any], send: Send, *, stream: bool) -> None:
        trace = response["id"].removeprefix(RESPONSE_ID)
        super().__init__(Outgoing(send, trace, stream=stream))
        self._waiting: list[bytes] = []
        self._unfolding = Unfolding(response, self._tell)

    @property
    def response(self) -> dict[str, Any]:
        """As far as it has come."""
        return self._unfolding.response

    async def add(self, delta: Delta) -> None:
        """Takes the next piece, and sends it where the client wants pieces."""
        if not self._unfolding.told:
            self._unfolding.begin()
        self._unfolding.add(delta)
        if self.out.stream and not isinstance(delta, Done):
            await self._flush()

    async def fail(self, error: Exception) -> None:
        """Ends a stream with the error."""
        if self.response["status"] in SETTLED:
            # It was whole, but could not be kept: whoever goes on from it must know.
            self._waiting.pop()
        self._unfolding.fail(refusal(error, self.response["id"]))

    async def close(self) -> None:
        """Sends what is left: the whole response, or the end of the stream."""
        if self.out.stream:
            await self._flush(last=True)
        else:
            await self.out.whole(self.response)

    def _tell(self, event: Event) -> None:
        if self.out.stream:
            self._waiting.append(outgoing.event(event, event["type"]))

    async def _flush(self, *, last: bool = False) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        await self.out.events(data, last=last)


def _streamed(events: AsyncGenerator[Event], identity: str) -> Response:
    async def frames() -> AsyncGenerator[bytes]:
        async with aclosing(events):
            async for event in events:
                yield outgoing.event(event, event["type"])

    headers = {**_trace(identity), "cache-control": "no-cache", "x-accel-buffering": "no"}
    return StreamingResponse(frames(), media_type="text/event-stream", headers=headers)


def _trace(identity: str) -> dict[str, str]:
    return {"x-trace-id": identity.removeprefix(RESPONSE_ID)}


def _flag(request: Request, name: str) -> bool:
    said = request.query_params.get(name, "false").lower()
    if said not in ("true", "false"):
        raise Refused(400, f"{name} must be true or false, not {said}", param=name)
    return said == "true"


_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco"}


def _named(asked: Asked) -> list[Mapping[str, Any]]:
    """The input, each item with an id."""
    return [
        {"id": f"{_PREFIXES.get(item['type'], 'rs')}_{fresh(16)}", **item} for item in asked.items
    ]
