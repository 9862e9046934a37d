"""What stands behind the door: for each agent its card and both bindings of the protocol."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

from a2a.auth.user import User
from a2a.extensions.common import HTTP_EXTENSION_HEADER, get_requested_extensions
from a2a.server.context import ServerCallContext
from a2a.server.jsonrpc_models import JSONParseError
from a2a.server.request_handlers.response_helpers import (
    agent_card_to_dict,
    build_error_response,
)
from a2a.server.routes import create_jsonrpc_routes, create_rest_routes
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import InvalidRequestError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router

from kickwheel.agents.work import Worker
from kickwheel.app import App
from kickwheel.core.plugins import nearest
from kickwheel.models.caller import Caller
from kickwheel.serve.a2a.card import card
from kickwheel.serve.a2a.door import CARD
from kickwheel.serve.a2a.handler import Handler
from kickwheel.serve.a2a.owed import Owed
from kickwheel.serve.a2a.push import notifier
from kickwheel.serve.a2a.tasks import Tasks
from kickwheel.serve.a2a.work import Works
from kickwheel.serve.errors import Refused


@asynccontextmanager
async def routes(app: App, agents: dict[str, Worker], first: str | None) -> AsyncGenerator[Router]:
    """The ASGI app of all agents; tasks that were left open go on while the block runs.

    Args:
        first: the agent whose card stands at the root.
    """
    tasks = Tasks(app.store.database)
    serve = app.plan.config.serve
    keyed = bool(serve.keys()) or serve.auth.oauth is not None
    async with (
        notifier(Owed(app.store.database), app.plan.config.serve.a2a.push_to) as push,
        Works(app, agents, tasks, push) as works,
    ):
        found: list[BaseRoute] = [Route(CARD, _root(agents, first, keyed))]
        for name, agent in agents.items():
            path = f"/a2a/{quote(name, safe='')}"
            handler = Handler(name, agent, tasks, works, push)
            found.append(Route(f"{path}{CARD}", partial(_card, agent=agent, keyed=keyed)))
            for route in (
                *create_jsonrpc_routes(handler, path, _Asking(), enable_v0_3_compat=True),
                *create_rest_routes(handler, _Asking(), enable_v0_3_compat=True, path_prefix=path),
            ):
                # The SDK also mounts the whole server at /{tenant}, which would hide other routes.
                if isinstance(route, Route):
                    endpoint = partial(_read, endpoint=route.endpoint, rpc=route.path == path)
                    found.append(Route(route.path, endpoint, methods=list(route.methods or ())))
        found.append(Route("/a2a/{name}/{rest:path}", partial(_nobody, agents=agents)))
        found.append(Route("/a2a/{name}", partial(_nobody, agents=agents), methods=["POST"]))
        yield Router(found, redirect_slashes=False)


class _Known(User):
    """Whoever the front door let in."""

    def __init__(self, who: Caller) -> None:
        self._who = who

    @property
    def is_authenticated(self) -> bool:
        return bool(self._who.user)

    @property
    def user_name(self) -> str:
        return self._who.user


class _Asking(ServerCallContextBuilder):
    """Hands on who asks, as the front door found it."""

    def build(self, request: Request) -> ServerCallContext:
        return ServerCallContext(
            user=_Known(request.state.caller),
            state={"headers": dict(request.headers), "caller": request.state.caller},
            requested_extensions=get_requested_extensions(
                request.headers.getlist(HTTP_EXTENSION_HEADER)
            ),
        )


async def _read(request: Request, endpoint: Any, rpc: bool) -> Response:
    """Looks at the body first: some that is no JSON would be a bug of ours to the SDK."""
    try:
        if request.method == "POST" and await request.body():
            await request.json()
    except (ValueError, RecursionError) as error:
        what = f"the body is no JSON: {error}"
        if rpc:
            return JSONResponse(build_error_response(None, JSONParseError(message=what)))
        return JSONResponse(build_rest_error_payload(InvalidRequestError(what)), status_code=400)
    answer: Response = await endpoint(request)
    return answer


def _root(agents: dict[str, Worker], first: str | None, keyed: bool) -> Any:
    async def answer(request: Request) -> JSONResponse:
        if first is None:
            cards = ", ".join(f"/a2a/{quote(name, safe='')}{CARD}" for name in agents)
            raise Refused(404, f"Several agents answer here, each has its card: {cards}")
        return await _card(request, agents[first], keyed)

    return answer


async def _card(request: Request, agent: Worker, keyed: bool) -> JSONResponse:
    base = f"{request.url.scheme}://{request.url.netloc}"
    shown = card(agent, f"{base}/a2a/{quote(agent.name, safe='')}", keyed=keyed)
    # It tells the address that it was asked at: nobody else's.
    return JSONResponse(agent_card_to_dict(shown), headers={"cache-control": "private, no-cache"})


async def _nobody(request: Request, agents: dict[str, Worker]) -> JSONResponse:
    name = request.path_params["name"]
    if name in agents:
        raise Refused(404, f"The protocol has no such route: {request.url.path}")
    raise Refused(404, f'no agent "{name}" here. {nearest(name, agents)}')
