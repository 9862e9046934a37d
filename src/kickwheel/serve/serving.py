"""An app served inside a program of one's own, for what reaches models by URL.

    async with kickwheel.serving("app.yml") as url:
        model = langchain.model("concierge", url)

Signals stay the program's. What `kickwheel serve` does beside answering is not done here: no
fine-tuning jobs, and no going on with runs that another program left.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from kickwheel.app import App, check_app, open_app
from kickwheel.serve.doors import doors
from kickwheel.serve.opened import opened
from kickwheel.serve.recorded import Passing
from kickwheel.serve.server import Front, serve
from kickwheel.serve.tokens import tokens
from kickwheel.serve.worker import Runner


@asynccontextmanager
async def serving(app: App | Path | str, *, port: int = 0) -> AsyncGenerator[str]:
    """The URL of the app's OpenAI protocol on this machine, up to `/v1`, while the block runs.

    Args:
        app: the file, its folder, or an app that is open.
        port: 0 takes a free one.
    Raises:
        ConfigError: the file has mistakes.
        KickwheelError: a part does not open; the text names it.
        UsageError: the port is busy.
    """
    async with AsyncExitStack() as stack:
        if not isinstance(app, App):
            app = await stack.enter_async_context(open_app(check_app(Path(app))))
        door = await stack.enter_async_context(front(app))
        ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        running: asyncio.Future[Any] = asyncio.create_task(
            serve(door, "127.0.0.1", port, on_ready=ready.set_result, signals=False)
        )
        try:
            await asyncio.wait([ready, running], return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                running.result()  # Raises why it did not start.
            yield f"{ready.result()}/v1"
        finally:
            running.cancel()
            await asyncio.wait([running])


@asynccontextmanager
async def front(
    app: App, *, alone: bool = True, runner: Runner | None = None, recorded: Passing | None = None
) -> AsyncGenerator[Front]:
    """All that an open app answers over HTTP, for whom its file lets in.

    Args:
        alone: whether no other process answers at the same port.
        runner: what does fine-tuning jobs; without one they fail with a clear error.
        recorded: passes on what is asked at `/t/<project>/v1`.
    """
    config = app.plan.config.serve
    async with opened(app) as house, doors(app, house, alone=alone) as routes:
        yield Front(
            house,
            app.store,
            app.traces,
            app.recorder,
            keys=config.keys(),
            tokens=tokens(config),
            runner=runner,
            keeper=app.keeper,
            doors=routes,
            recorded=recorded,
        )
