"""/a2a/<agent>: JSON-RPC, REST and the agent's card; the default agent's card also at the root.

The SDK costs seconds to import on a busy machine, so that only those pay who are asked; but tasks
that a program left open are taken up at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.routing import BaseRoute, Route

from kickwheel.agents.work import Worker
from kickwheel.app import App, default
from kickwheel.core.errors import UsageError

CARD = "/.well-known/agent-card.json"


@asynccontextmanager
async def a2a_routes(app: App) -> AsyncGenerator[list[BaseRoute]]:
    """The routes of the app's agents, open while the block runs; none where it has no agents."""
    agents = {
        name: live
        for (shelf, name), live in app.live.items()
        if shelf == "agents" and isinstance(live, Worker)
    }
    if not agents:
        yield []
        return
    async with AsyncExitStack() as stack:
        late = _Late(app, agents, stack)
        opening = asyncio.create_task(late.take_up())
        try:
            yield [Route(CARD, late), Route("/a2a/{rest:path}", late)]
        finally:
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await opening


class _Late:
    """An ASGI app that is made when it is asked for the first time."""

    def __init__(self, app: App, agents: dict[str, Worker], stack: AsyncExitStack) -> None:
        self._app = app
        self._agents = agents
        self._stack = stack
        self._lock = asyncio.Lock()
        self._made: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await (await self._open())(scope, receive, send)

    async def take_up(self) -> None:
        """Opens at once where tasks are open that somebody must go on with, or somebody must still
        be told of one."""
        left = (
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM task WHERE ended = 0) "
            "OR EXISTS (SELECT 1 FROM task_owed)"
        )
        if await asyncio.to_thread(self._app.store.database.read, left):
            await self._open()

    async def _open(self) -> Any:
        async with self._lock:
            if self._made is None:
                routes = await asyncio.to_thread(_imported)
                self._made = await self._stack.enter_async_context(
                    routes(self._app, self._agents, _default(self._app, self._agents))
                )
            return self._made


def _imported() -> Any:
    from kickwheel.serve.a2a.routes import routes

    return routes


def _default(app: App, agents: dict[str, Worker]) -> str | None:
    """The agent whose card stands at the root; `None` where the file does not say which."""
    try:
        name = default(app.plan)
    except UsageError:
        return None
    return name if name in agents else None
