"""Frameworks that do not await: their work in a thread, and our tools called from one."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from kickwheel.agents.bridges.bridge import told
from kickwheel.agents.events import as_it_happens
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools.threads import in_thread
from kickwheel.core.errors import UsageError

T = TypeVar("T")


async def iterated(make: Callable[[], Iterator[T]]) -> AsyncGenerator[T]:
    """What an iterator gives, each as soon as it is there; it is made and runs in a thread.

    Reading no further stops it, see `Stopped`: what waits in a call outside Python ends after that.
    """

    def work(tell: Callable[[T], None]) -> None:
        for item in make():
            tell(item)

    async def beside(tell: Callable[[T], None]) -> None:
        await in_thread(partial(work, across(tell)), stop=True)

    async with aclosing(as_it_happens(beside)) as items:
        async for item in items:
            yield item


def across(tell: Callable[[T], None]) -> Callable[[T], None]:
    """What may be called from any thread to `tell` something in the event loop that runs here."""
    loop = asyncio.get_running_loop()

    def say(item: T) -> None:
        loop.call_soon_threadsafe(tell, item)

    return say


def waiting(ours: Offered) -> Callable[..., str]:
    """Our tool as a function that waits for its result.

    It is called from other threads than that of the event loop in which it was made, where the tool
    goes on working meanwhile.

    Raises:
        UsageError: no event loop runs here; or, when called, it is the loop's own thread.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError as error:
        raise UsageError("make the tools where the app is open, inside its event loop") from error
    home = threading.get_ident()

    def call(**arguments: Any) -> str:
        if threading.get_ident() == home:
            raise UsageError(
                f"{ours.spec.name} would wait for itself: it was called in the thread of the event "
                "loop that it works in. Call whoever calls it by asyncio.to_thread"
            )
        return asyncio.run_coroutine_threadsafe(told(ours, arguments), loop).result()

    return call
