"""The doors beside OpenAI's: what else an open app answers over HTTP, a line each."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

from starlette.routing import BaseRoute

from kickwheel.app import App
from kickwheel.serve.a2a.door import a2a_routes
from kickwheel.serve.house import House
from kickwheel.serve.mcp.door import mcp_routes


@asynccontextmanager
async def doors(app: App, house: House, *, alone: bool = True) -> AsyncGenerator[list[BaseRoute]]:
    """The routes of all doors, open while the block runs.

    Args:
        app: the open app.
        house: what answers under which name.
        alone: whether no other process answers at the same port.
    """
    async with AsyncExitStack() as stack:
        routes: list[BaseRoute] = []
        if _installed("a2a", "sse_starlette"):
            routes += await stack.enter_async_context(a2a_routes(app))
        if _installed("mcp", "mcp_types"):  # Version 2; CrewAI and Semantic Kernel bring the first.
            routes += await stack.enter_async_context(mcp_routes(app, alone=alone))
        yield routes


def _installed(*packages: str) -> bool:
    """Whether the packages that a door needs are there; they are not imported."""
    return all(find_spec(package) is not None for package in packages)
