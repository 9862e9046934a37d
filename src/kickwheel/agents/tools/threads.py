"""Blocking work beside the event loop, in a thread that nobody has to wait for."""

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kickwheel.core.errors import ToolError

T = TypeVar("T")


class Stopped(BaseException):
    """Raised inside a function that nobody waits for any more; no `Exception`, so that the
    function's own handling of errors does not take it for one."""


async def in_thread(run: Callable[[], T], *, stop: bool = False) -> T:
    """What `run` returns, from a thread of its own.

    Not from asyncio's pool: a function that never ends would keep its place there, and the program
    from ending.

    Args:
        stop: raise `Stopped` inside `run`, once, when nobody waits for it any more. Otherwise it
            goes on to its end, as code must that leaves things half done when it is broken off.
    Raises:
        ToolError: it tried to end the program. Whatever else it raises is passed on.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def tell(result: Any, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended: nobody waits any more.
            loop.call_soon_threadsafe(settle, result, error)

    work = _Work(run, tell)
    thread = threading.Thread(target=work, name="kickwheel-tool", daemon=True)
    thread.start()
    try:
        return await future
    finally:
        if stop:
            work.stop(thread)


class _Work(Generic[T]):
    """A function at work in a thread, until it is over or stopped.

    Python raises `Stopped` wherever the thread is at that moment. So it is sent only between
    `_begin` and `_end`, once, and what of it is still on its way at the end is taken back: nothing
    but this call ever sees it.
    """

    def __init__(
        self, run: Callable[[], T], tell: Callable[[T | None, BaseException | None], None]
    ) -> None:
        self._run = run
        self._tell = tell
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._running = self._unwanted = False

    def __call__(self) -> None:
        """The thread's whole work."""
        try:
            if self._begin():
                outcome = self._outcome()
                self._end()
                self._tell(*outcome)
        except Stopped:  # Wherever it came; a second one is never sent.
            self._end()
            self._tell(None, ToolError("the function was stopped"))

    def stop(self, thread: threading.Thread) -> None:
        """Raises `Stopped` in the function, unless it is over."""
        with self._lock:
            if self._running and not self._unwanted:
                _raise_in(thread, Stopped)
            self._unwanted = True

    def _begin(self) -> bool:
        with self._lock:
            self._running = not self._unwanted
            return self._running

    def _outcome(self) -> tuple[T | None, BaseException | None]:
        try:
            return self._context.run(self._run), None
        except StopIteration as raised:  # A future does not take it.
            error = RuntimeError("the function raised StopIteration")
            error.__cause__ = raised
            return None, error
        except Stopped:
            raise
        except Exception as raised:
            return None, raised
        except BaseException as raised:
            told = f"the function tried to end the program: {type(raised).__name__}"
            return None, ToolError(told)

    def _end(self) -> None:
        with self._lock:
            if self._unwanted:
                _raise_in(threading.current_thread(), None)
            self._running = False


def _raise_in(thread: threading.Thread, error: type[BaseException] | None) -> None:
    """Has the thread raise `error` at its next instruction of Python; `None` takes back what it
    was to raise and has not yet.

    Source: PyThreadState_SetAsyncExc, «Python/C API», Initialization, Finalization, and Threads.
    """
    import ctypes

    send = ctypes.pythonapi.PyThreadState_SetAsyncExc
    raised = ctypes.py_object() if error is None else ctypes.py_object(error)
    send(ctypes.c_ulong(thread.ident or 0), raised)
