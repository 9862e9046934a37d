"""One ASGI app for all that is served, and the process around it.

    front = Front(house, store, traces, recorder, keys=keys, runner=runner)
    await serve(front, "127.0.0.1", 8000, on_ready=print)

The hot route is plain ASGI; Starlette serves the rest. Around both stand the same things: who may
come in, how much a body may hold, an id on every answer, errors in OpenAI's shape.
"""

import asyncio
import contextlib
import errno
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from kickwheel.agents.keeper import Keeper
from kickwheel.core.errors import KickwheelError, UsageError
from kickwheel.core.identity import fresh
from kickwheel.core.store import Store
from kickwheel.models.caller import Caller, acting_for
from kickwheel.serve import otlp
from kickwheel.serve.answering import Answering
from kickwheel.serve.auth import Keys, check_host
from kickwheel.serve.completions import completion_routes
from kickwheel.serve.contract import contract_route
from kickwheel.serve.contracts import contract_routes
from kickwheel.serve.customization import customization_routes
from kickwheel.serve.embeddings import embedding_routes
from kickwheel.serve.errors import Refused, refusal
from kickwheel.serve.files import Files, file_routes
from kickwheel.serve.health import health_routes
from kickwheel.serve.house import House
from kickwheel.serve.job import Jobs
from kickwheel.serve.jobs import job_routes
from kickwheel.serve.metrics import Metrics, metric_routes
from kickwheel.serve.openai import PATH, Chat, model_routes
from kickwheel.serve.outgoing import Receive, Send
from kickwheel.serve.recorded import Passing
from kickwheel.serve.recorded.place import PROJECTS, place
from kickwheel.serve.responses import Responses, response_routes
from kickwheel.serve.runs import run_routes
from kickwheel.serve.seen import SeenHouse
from kickwheel.serve.tokens import Tokens
from kickwheel.serve.traces import ANSWER_ID, trace_routes
from kickwheel.serve.worker import Runner, Worker
from kickwheel.serve.workers import shared_listener
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

BODY_BYTES = 16 << 20
FILE_BYTES = 512 << 20
GRACE_S = 30.0
"""Time that running answers have to end when the server is told to stop."""
TICK_S = 1.0
"""How old the header `Date` may be."""


class Front:
    """The ASGI app."""

    def __init__(
        self,
        house: House,
        store: Store,
        traces: Traces,
        recorder: Recorder,
        *,
        keys: Iterable[str] | Mapping[str, Caller] = (),
        tokens: Tokens | None = None,
        runner: Runner | None = None,
        keeper: Keeper | None = None,
        doors: Iterable[BaseRoute] = (),
        recorded: Passing | None = None,
        body_bytes: int = BODY_BYTES,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        """
        Args:
            keys: API keys, of which one must be shown, and who shows it; as they are, or `sha256:`
                and the digest.
            tokens: what may be shown in place of a key.
            runner: what does fine-tuning jobs; without one they fail with a clear error.
            keeper: keeps the runs of the house's agents; without one there are no /v1/runs.
            doors: routes of what else is answered (`serve.doors`).
            recorded: passes on what is asked at `/t/<project>/v1`; without, the house answers that.
            body_bytes: most that a body may hold; `file_bytes` for uploads.
        """
        self.keys = Keys(keys, tokens)
        self._body_bytes = body_bytes
        self._file_bytes = file_bytes
        self._recorded = recorded
        files, jobs = Files(store), Jobs(store)
        self._worker = Worker(jobs, house, runner)
        seen = SeenHouse(house, jobs)
        answering = Answering(seen, recorder, passing=recorded is not None)
        self._chat = Chat(answering, store.artifacts)
        metrics = Metrics(recorder)
        self._responses = Responses(answering, store, keeper)
        self._rest = Starlette(
            routes=[
                *health_routes(house),
                *contract_routes(seen),
                *metric_routes(metrics),
                *model_routes(seen),
                *file_routes(files),
                *job_routes(seen, files, jobs, self._worker),
                *customization_routes(seen, files, jobs, self._worker),
                *trace_routes(traces, recorder),
                *otlp.otlp_routes(traces),
                *response_routes(self._responses),
                *completion_routes(answering),
                *embedding_routes(answering),
                *(run_routes(store, keeper) if keeper is not None else ()),
                *(tokens.routes() if tokens is not None else ()),
                *doors,
            ],
            exception_handlers={
                Refused: _refuse,
                HTTPException: _refuse_route,
                KickwheelError: _refuse,
                Exception: _refuse,
            },
            lifespan=self._lifespan,
        )
        # A redirect would lead to whatever the client says its host is.
        self._rest.router.redirect_slashes = False
        told = contract_route(self._rest.routes, [("POST", PATH)], keyed=bool(self.keys))
        self._rest.router.routes.append(told)
        paths = (getattr(route, "path", "") for route in self._rest.routes)
        self.counted = metrics.around(self, [PATH, PROJECTS.rstrip("/"), *paths])
        """The same app, as `/v1/metrics` counts it."""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._rest(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        trace = fresh(16)
        project, path = place(scope["path"])
        hot = path == PATH
        identity = ANSWER_ID + trace if hot else "req-" + trace
        scope["state"] = {**scope.get("state", {}), "identity": identity, "project": project}
        began = False

        async def send_named(message: Any) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                headers = [*message["headers"], (b"x-request-id", identity.encode())]
                message = {**message, "headers": headers}
            await send(message)

        try:
            who = scope["state"]["caller"] = await self.keys.admit(scope)
            # Here for all doors: whatever they note or look up is this caller's.
            with acting_for(who):
                if project:
                    if self._recorded is not None and path != otlp.PATH:
                        await self._recorded(scope, receive, send, project, path, trace)
                        return
                    scope = {**scope, "path": path}
                limited = self._limited(scope, receive)
                if not hot:
                    await self._rest(scope, limited, send_named)
                    return
                if scope["method"] != "POST":
                    raise Refused(405, f"{PATH} wants POST, not {scope['method']}", allow="POST")
                body = await _body(limited)
                await self._chat(body, receive, send_named, identity, trace, project)
        except _Gone:
            return
        except Exception as error:
            # Starlette has answered and logged already, and raises once more.
            if hot or not began:
                refused = refusal(error, identity)
            if not began:
                await _answer(refused, send_named)

    def _limited(self, scope: Any, receive: Receive) -> Receive:
        larger = {"/v1/files": self._file_bytes, otlp.PATH: otlp.BYTES}
        limit = larger.get(scope["path"], self._body_bytes)
        too_large = Refused(413, f"The body is larger than {limit} bytes.", code="body_too_large")
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > limit:
            raise too_large
        taken = 0

        async def counted() -> Any:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise too_large
            return message

        return counted

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        worker = asyncio.create_task(self._worker.run())
        try:
            async with self._responses.working():
                yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


async def serve(
    front: Front,
    host: str,
    port: int,
    *,
    on_ready: Callable[[str], None] = lambda url: None,
    grace_s: float = GRACE_S,
    shared: bool = False,
    signals: bool = True,
) -> None:
    """Serves until SIGINT, SIGTERM or cancellation, then lets running answers end.

    Args:
        port: 0 takes a free one.
        on_ready: called with the server's URL once it answers.
        grace_s: how long running answers may take to end; a second signal ends them at once.
        shared: whether other processes listen on the same port (`serve.workers`).
        signals: whether SIGINT and SIGTERM are this server's, and not the program's around it.
    Raises:
        UsageError: the port is busy, the address is not ours, or others could reach a server that
            has no key.
    """
    check_host(host, front.keys)
    listening = _listen(host, port, shared=shared)
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listening.getsockname()[1]}"
    config = uvicorn.Config(
        front.counted,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=max(1, round(grace_s)),
    )
    server = _Server(config, lambda: on_ready(url), signals)
    running = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        server.end()
        await running
        raise


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The fastest event loop that is installed, for `asyncio.Runner(loop_factory=…)`."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


class _Server(uvicorn.Server):
    """A server that says when it answers and does not raise the signal that stopped it again.

    Raised again, SIGTERM would end the process before the app has closed its engines. It is told
    when to end: looking ten times a second is most of what a server costs that nobody asks.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], signals: bool) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._signals = signals
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Lets running answers end, and then the server."""
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._ending.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.end()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # Which also brings the header `Date` up to date.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._ending.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        if not self._signals or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, self.handle_exit) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Gone(Exception):
    """The client left before its request was whole."""


async def _body(receive: Receive) -> bytes:
    message = await receive()
    if not message.get("more_body"):
        if message["type"] == "http.disconnect":
            raise _Gone
        return bytes(message["body"])
    parts = [message["body"]]
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def _answer(refused: Refused, send: Send) -> None:
    body = refused.body()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *((name.encode(), value.encode()) for name, value in refused.headers().items()),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(request: Request, error: Exception) -> Response:
    refused = refusal(error, request.state.identity)
    return Response(
        refused.body(),
        status_code=refused.status,
        media_type="application/json",
        headers=dict(refused.headers()),
    )


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = error.detail
    if error.status_code == 404:
        what = f"no route {request.method} {request.url.path} here; /openapi.json tells all"
        if request.scope["path"].startswith(PROJECTS):
            what += ". The URL of a project is /t/<project>/v1; its name has letters, digits, - . _"
        elif f"/v1{request.url.path}" in (PATH, *map(_path, request.app.routes)):
            what += ". The base URL of clients ends with /v1"
    if error.status_code == 405:
        what = f"{request.url.path} does not take {request.method}"
    allow = (error.headers or {}).get("Allow")
    return await _refuse(request, Refused(error.status_code, what, allow=allow))


def _path(route: object) -> str:
    return getattr(route, "path", "")


def _listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = shared_listener(family) if shared else socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {host} is busy. Stop what uses it, or take another: --port"
            ) from error
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return listening
