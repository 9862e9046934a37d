"""Things that a tool keeps from one call to the next, for as long as the request runs."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import Generic, TypeVar

from kickwheel.core.errors import ToolError
from kickwheel.trace.record import OpenSpan, root

T = TypeVar("T")

IDLE_S = 900.0
"""After so long without a call a thing is closed, though its request goes on."""
_PAUSE_S = 0.5


class PerRun(Generic[T]):
    """A thing for each request: opened at its first call, closed when the request has ended.

    Outside a trace all calls share one.

    Args:
        most: how many there are at once at most; more requests are told to come later.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]], most: int = 64) -> None:
        self._make = make
        self._most = most
        self._kept: dict[OpenSpan | None, _Kept[T]] = {}

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[T]:
        """The thing of the request that runs here; it stays open at least for the block.

        Raises:
            ToolError: too many requests hold one.
        """
        request = root()
        kept = self._kept.get(request)
        if kept is None:
            if len(self._kept) >= self._most:
                raise ToolError(f"{self._most} requests use this at once; try again later")
            kept = self._kept[request] = _Kept()
        kept.users += 1
        try:
            async with kept.lock:
                if not kept.made:
                    kept.made.append(await kept.stack.enter_async_context(self._make()))
            yield kept.made[0]
        finally:
            kept.users -= 1
            kept.used = time.monotonic()
            if not kept.made and not kept.users:
                self._kept.pop(request, None)

    async def sweep(self) -> None:
        """Closes what nobody needs any more, for ever."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            now = time.monotonic()
            for request, kept in list(self._kept.items()):
                over = request is not None and request.end_ns
                if not kept.users and (over or now - kept.used > IDLE_S):
                    del self._kept[request]
                    await kept.close()

    async def close(self) -> None:
        """Closes all of them."""
        while self._kept:
            await self._kept.popitem()[1].close()


class _Kept(Generic[T]):
    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        self.lock = asyncio.Lock()
        self.made: list[T] = []
        self.users = 0
        self.used = time.monotonic()

    async def close(self) -> None:
        with suppress(Exception):  # What does not close in order is closed all the same.
            await self.stack.aclose()


@asynccontextmanager
async def per_run(
    make: Callable[[], AbstractAsyncContextManager[T]], most: int = 64
) -> AsyncGenerator[PerRun[T]]:
    """A thing for each request, all of them closed when the block ends."""
    things = PerRun(make, most)
    sweeping = asyncio.create_task(things.sweep())
    try:
        yield things
    finally:
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
        await things.close()
