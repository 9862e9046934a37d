"""The doors beside OpenAI's: what else an open app answers over HTTP, a line each."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.routing import BaseRoute

from kickwheel.app import App
from kickwheel.serve.house import House


@asynccontextmanager
async def doors(app: App, house: House) -> AsyncGenerator[list[BaseRoute]]:
    """The routes of all doors, open while the block runs.

    Args:
        app: the open app.
        house: what answers under which name.
    """
    async with AsyncExitStack():
        routes: list[BaseRoute] = []
        yield routes
