"""MCP over standard input and output, for programs that start their servers themselves.

Nothing but the protocol goes to standard output: what anything else prints there, also from below
Python, comes out at standard error. Nobody else reads standard input.
"""

import asyncio
import os
import signal
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from kickwheel.app import open_app, resumed
from kickwheel.core.errors import MissingExtra, UsageError
from kickwheel.serve.mcp.offer import offer, offers


async def serve(path: Path) -> None:
    """Answers one client until it closes its end, or SIGTERM comes.

    Raises:
        MissingExtra: the SDK is not installed.
        UsageError: the file offers nothing.
        KickwheelError: the app does not open.
    """
    try:
        from mcp.server.stdio import stdio_server

        from kickwheel.serve.mcp.server import server
    except ImportError as error:
        raise MissingExtra("an MCP server", "mcp") from error
    # Claimed first: an app's own code prints when it is imported, an engine when it starts.
    lines = _Lines()
    async with stdio_server(stdin=cast(Any, lines)) as (read, write):
        serving = asyncio.create_task(_serve(path, server, read, write))
        with suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
        await asyncio.wait({serving})
        # Both ends of the wire wait for these where the server never came to serve.
        lines.end()
        await write.aclose()
    if not serving.cancelled():
        serving.result()


async def _serve(path: Path, server: Any, read: Any, write: Any) -> None:
    async with open_app(path) as app:
        if not offers(app):
            raise UsageError(
                f"{app.plan.file}: offers nothing over MCP. Add an agent, or name tools: "
                "serve: {mcp: {offer: [NAME]}}"
            )
        with offer(app) as offered:
            await app.keeper.resume(
                partial(resumed, app), lambda agent: ("agents", agent) in app.live
            )
            one = server(offered)
            await one.run(read, write, one.create_initialization_options())


class _Lines:
    """The lines of standard input, which others find empty from now on.

    The SDK's own reader waits in a thread that nothing interrupts, so that an app that does not
    open, or SIGTERM, would end nothing until the client closes its end.
    """

    def __init__(self) -> None:
        self._handle = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, daemon=True).start()

    def end(self) -> None:
        """No more lines come."""
        self._lines.put_nowait(b"")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        line = await self._lines.get()
        if not line:
            raise StopAsyncIteration
        return line.decode("utf-8", "replace")

    def _read(self) -> None:
        rest = b""
        # Once the program has ended nobody is there to be told.
        with suppress(RuntimeError, OSError):
            while data := os.read(self._handle, 1 << 16):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._loop.call_soon_threadsafe(self._lines.put_nowait, line + b"\n")
            self._loop.call_soon_threadsafe(self._lines.put_nowait, b"")
