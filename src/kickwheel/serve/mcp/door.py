"""/mcp: streamable HTTP, every version of the protocol at one address.

The SDK costs a second to import, so that only those pay who are asked.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from starlette.routing import BaseRoute, Route

from kickwheel.app import App
from kickwheel.models.caller import Caller
from kickwheel.serve.mcp.offer import Offer, offer, offers

PATH = "/mcp"
BODY_BYTES = 4 << 20


@asynccontextmanager
async def mcp_routes(app: App, *, alone: bool = True) -> AsyncGenerator[list[BaseRoute]]:
    """The route, open while the block runs; none where nothing is offered.

    Args:
        alone: whether all requests come to this process. Where several answer, the older protocol
            has no sessions, since each request may come to another.
    Raises:
        UsageError: two things that are offered have the same name.
    """
    if not offers(app):
        yield []
        return
    with ExitStack() as stack:
        late = _Late(stack.enter_context(offer(app)), alone)
        try:
            yield [Route(PATH, late)]
        finally:
            await late.close()


class _Late:
    """An ASGI app that is made when it is asked for the first time."""

    def __init__(self, offered: Offer, alone: bool) -> None:
        self._offered = offered
        self._alone = alone
        self._lock = asyncio.Lock()
        self._made: Any = None
        self._keeping: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._made is None:
            async with self._lock:
                if self._made is None:
                    self._made = await self._open()
        _sign(scope)
        await self._made(scope, receive, send)

    async def close(self) -> None:
        """Ends all sessions."""
        self._end.set()
        if self._keeping is not None:
            await self._keeping

    async def _open(self) -> Any:
        manager = await asyncio.to_thread(_manager, self._offered, self._alone)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeping = asyncio.create_task(self._keep(manager, ready))
        await ready
        return manager.handle_request

    async def _keep(self, manager: Any, ready: "asyncio.Future[None]") -> None:
        # In a task of its own: whoever opens it must be who closes it.
        async with manager.run():
            ready.set_result(None)
            await self._end.wait()


def _manager(offered: Offer, alone: bool) -> Any:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from kickwheel.serve.mcp.server import server

    # Who may come in and from where was checked before.
    return StreamableHTTPSessionManager(
        server(offered), stateless=not alone, max_request_body_size=BODY_BYTES
    )


def _sign(scope: Any) -> None:
    """Writes who asks where the SDK looks: a session belongs to whoever began it."""
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

    who: Caller = scope["state"]["caller"]
    token = AccessToken(token="", client_id=who.user, scopes=[], subject=who.tenant)
    scope["user"] = AuthenticatedUser(token)
