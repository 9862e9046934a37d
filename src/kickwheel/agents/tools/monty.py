"""Programs that a model wrote over its tools, run in Monty.

Monty is an interpreter of a part of Python, in a process of its own that has no files, network or
environment: all that a program can reach are the functions it is given. Full Python is
`kind: program`, in a sandbox.
"""

import asyncio
import contextlib
import contextvars
import os
import queue
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import to_jsonable_python

from kickwheel.core.errors import MissingExtra

if TYPE_CHECKING:
    from pydantic_monty import MontyRuntimeError, MontySyntaxError, SyncSnapshot

Function = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramLimits:
    """What one program may use."""

    run_s: float = 5.0
    """Seconds of computing; waiting for functions does not count, and sleeping takes no time."""
    memory_bytes: int = 100_000_000
    depth: int = 200
    """Calls inside each other at most."""
    calls: int = 200
    """Calls of the given functions in all."""
    printed_bytes: int = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a program."""

    value: Any = None
    """Of the last line, where that is an expression; in terms of JSON."""
    printed: str = ""
    """What was printed, up to the error where there was one."""
    error: str = ""
    """What went wrong, beginning with the line; empty where nothing did."""
    line: int | None = None
    """The line of the error, from 1."""
    why: Literal["done", "syntax", "raised", "limit", "beyond"] = "done"
    """`syntax`: it is no Python. `raised`: an exception nobody caught, in the program or in a
    function. `limit`: it used up one of its limits. `beyond`: it needs more than Monty can do."""


async def run_program(
    source: str, functions: Mapping[str, Function], limits: ProgramLimits | None = None
) -> Outcome:
    """What the program returns and prints, or why it failed.

    Cancelled, it ends the program and the functions that run for it.

    Args:
        source: the program; it calls functions by `await`, several at once by `asyncio.gather`.
        functions: async functions by the names that the program calls them by. An exception they
            raise is raised in the program; what is no `Exception`, as a person being asked, ends
            the program and leaves here.
    Raises:
        MissingExtra: Monty is not installed.
    """
    try:
        import pydantic_monty as monty
    except ImportError as error:
        raise MissingExtra("running programs in Monty", "code") from error
    limits = limits or ProgramLimits()
    printed = monty.CollectString(max_bytes=limits.printed_bytes)
    try:
        value = await _Program(source, functions, limits, printed).run()
    except monty.MontyCrashedError as error:
        text = f"the program used up its {limits.run_s:g} s or its memory, and was ended"
        return Outcome(
            printed=printed.output,
            error=text if error.timed_out else f"{text} ({error})",
            why="limit",
        )
    except (monty.MontySyntaxError, monty.MontyRuntimeError) as error:
        return _failed(error, printed.output)
    return _finished(value, printed.output)


class _Program:
    """A program on its way.

    A thread feeds the interpreter, since Monty's own asyncio side leaves calls running when a
    program is cancelled, and can abort the whole process when Python ends (seen with 1.4.0). The
    functions run where the program was started, in tasks.
    """

    def __init__(
        self, source: str, functions: Mapping[str, Function], limits: ProgramLimits, printed: Any
    ) -> None:
        self._source = source
        self._functions = functions
        self._limits = limits
        self._printed = printed
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._calls_left = limits.calls
        self._running: set[asyncio.Task[None]] = set()
        self._results: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._early: dict[int, Any] = {}
        self._worker: int | None = None
        self._ended = False
        self._done: asyncio.Future[Any] = self._loop.create_future()
        self._stopped: asyncio.Future[BaseException] = self._loop.create_future()

    async def run(self) -> Any:
        """The program's value; whatever happens, nothing of it runs afterwards."""
        threading.Thread(target=self._work, name="kickwheel-program", daemon=True).start()
        try:
            await asyncio.wait({self._done, self._stopped}, return_when=asyncio.FIRST_COMPLETED)
            if self._stopped.done():
                raise self._stopped.result()
            return self._done.result()
        finally:
            self._ended = True
            for task in self._running:
                task.cancel()
            if not self._done.done():
                self._results.put(None)
                if self._worker is not None:
                    signal.pidfd_send_signal(self._worker, signal.SIGKILL)
            await asyncio.wait({self._done, *self._running})
            self._done.exception()

    def _work(self) -> None:
        value: Any = None
        failed: BaseException | None = None
        try:
            value = self._interpret()
        except BaseException as error:
            failed = error

        def settle() -> None:
            if self._worker is not None:
                os.close(self._worker)
                self._worker = None
            if failed is None:
                self._done.set_result(value)
            else:
                self._done.set_exception(failed)

        with contextlib.suppress(RuntimeError):  # The loop has ended: nobody waits any more.
            self._loop.call_soon_threadsafe(settle)

    def _interpret(self) -> Any:
        import pydantic_monty as monty

        limits = monty.ResourceLimits(
            max_feed_duration_secs=self._limits.run_s,
            max_memory=self._limits.memory_bytes,
            max_recursion_depth=self._limits.depth,
            # Every lookup of a name counts, too; calls are counted apart.
            max_suspensions=1000 + 4 * self._limits.calls,
        )
        # A run that resumes runs its program again: the same random numbers lead to the same calls.
        policy = monty.OSPolicy(random_start={"seed": 0}, sleep="zero")
        with (
            monty.Monty(max_processes=1) as pool,
            pool.checkout(limits=limits, os_policy=policy) as session,
        ):
            assert session.worker_pid is not None
            self._worker = os.pidfd_open(session.worker_pid)
            if self._ended:
                raise InterruptedError("the program was stopped")
            at = session.feed_start(
                self._source, external_lookup=dict(self._functions), print_callback=self._printed
            )
            while not isinstance(at, monty.MontyComplete):
                at = self._next(at)
            return at.output

    def _next(self, at: "SyncSnapshot") -> "SyncSnapshot":
        """Where the program waits next, once it has what it waits for now."""
        import pydantic_monty as monty

        if isinstance(at, monty.FutureSnapshot):
            waiting = at.pending_call_ids
            while not any(call in self._early for call in waiting):
                self._take()
            return at.resume({c: self._early.pop(c) for c in waiting if c in self._early})
        if (
            not isinstance(at, monty.FunctionSnapshot)
            or at.is_os_function
            or at.function_name not in self._functions
        ):
            assert not isinstance(at, monty.MontyComplete)
            return at.resume_auto()
        if self._calls_left <= 0:
            text = f"no more than {self._limits.calls} calls of functions in one program"
            return at.resume({"exception": RuntimeError(text)})
        self._calls_left -= 1
        function, args, kwargs = self._functions[at.function_name], at.args, at.kwargs
        self._loop.call_soon_threadsafe(
            self._begin, at.call_id, function, args, kwargs, context=self._context
        )
        return at.resume({"future": ...})

    def _take(self) -> None:
        result = self._results.get()
        if result is None:
            raise InterruptedError("the program was stopped")
        self._early[result[0]] = result[1]

    def _begin(self, call: int, function: Function, args: Any, kwargs: Any) -> None:
        async def work() -> None:
            try:
                self._results.put((call, {"return_value": await function(*args, **kwargs)}))
            except Exception as error:
                self._results.put((call, {"exception": error}))
            except asyncio.CancelledError as error:
                asking = asyncio.current_task()
                if asking is not None and asking.cancelling():
                    raise
                self._results.put((call, {"exception": RuntimeError(f"cancelled: {error}")}))
            except BaseException as error:
                if not self._stopped.done():
                    self._stopped.set_result(error)

        task = self._loop.create_task(work())
        self._running.add(task)
        task.add_done_callback(self._running.discard)


def _finished(value: Any, printed: str) -> Outcome:
    text = repr(value)[:40] if isinstance(value, str) else ""
    if text.startswith("'<coroutine "):
        error = "the last line is a call that nobody waited for: write await before it"
        return Outcome(printed=printed, error=error, why="raised")
    try:
        plain = to_jsonable_python(value, fallback=_told, inf_nan_mode="strings")
    except (ValueError, RecursionError) as error:
        return Outcome(printed=printed, error=f"the value cannot be told: {error}", why="raised")
    return Outcome(value=plain, printed=printed)


def _told(value: Any) -> Any:
    """A value that Monty hands out by proxy: an object by its attributes, the rest by its name."""
    attributes = getattr(value, "attributes", None)
    if isinstance(attributes, dict):
        return attributes
    with contextlib.suppress(AttributeError):
        return f"<{value.name}>"
    return str(value)


def _failed(error: "MontySyntaxError | MontyRuntimeError", printed: str) -> Outcome:
    raised, text = error.exception(), error.display("type-msg")
    frames = error.traceback()
    line = frames[-1].line if frames else None
    why: Literal["syntax", "raised", "limit", "beyond"] = "raised"
    if isinstance(raised, NotImplementedError):
        why, text = "beyond", f"{text}. This interpreter knows a part of Python: write it otherwise"
    elif isinstance(raised, ModuleNotFoundError):
        why = "beyond"
        text += f". There are {', '.join(_MODULES)}, and the functions that the program is given"
    elif isinstance(raised, PermissionError) or "is not supported in this env" in str(raised):
        why, text = "beyond", f"{text}. A program has no files, network or environment here"
    elif isinstance(raised, SyntaxError):
        why = "syntax"
    elif _is_limit(raised):
        why = "limit"
    elif "'coroutine' object" in text:
        text += ". Functions are waited for: write await before the call"
    if line is not None:
        where = frames[-1].function_name
        inside = f" in {where}" if where and where != "<module>" else ""
        text = f"line {line}{inside}: {text}"
    return Outcome(printed=printed, error=text, line=line, why=why)


_MODULES = (
    *("asyncio", "base64", "bisect", "collections", "copy", "csv", "dataclasses", "datetime"),
    *("decimal", "functools", "hashlib", "itertools", "json", "math", "random", "re", "time"),
    *("typing", "unicodedata"),
)
"""Modules that pydantic-monty 1.4.0 knows and a program may have a use for."""


def _is_limit(raised: BaseException) -> bool:
    return isinstance(raised, MemoryError | RecursionError | TimeoutError | RuntimeError) and any(
        words in str(raised) for words in ("limit", "recursion depth", "no more than")
    )
