"""Blocking work beside the event loop, in a thread that nobody has to wait for."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from kickwheel.core.errors import ToolError

T = TypeVar("T")


async def in_thread(run: Callable[[], T]) -> T:
    """What `run` returns, from a thread of its own.

    Not from asyncio's pool: a function that never ends would keep its place there, and the program
    from ending.

    Raises:
        ToolError: it tried to end the program. Whatever else it raises is passed on.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def work() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = context.run(run)
        except StopIteration as raised:  # A future does not take it.
            error = RuntimeError("the function raised StopIteration")
            error.__cause__ = raised
        except Exception as raised:
            error = raised
        except BaseException as raised:
            error = ToolError(f"the function tried to end the program: {type(raised).__name__}")
        with contextlib.suppress(RuntimeError):  # The loop has ended: nobody waits any more.
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="kickwheel-tool", daemon=True).start()
    return await future
