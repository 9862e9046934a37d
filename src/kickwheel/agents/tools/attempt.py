"""A tool at work, within its limits: a free place, time, and another try where that is safe.

    breaker ─▶ a free place (`parallel`) ─▶ the tool, until `timeout_s` ─▶ its text
       ▲                                          │ fails, may pass, may be repeated
       └──────────── a random pause ◀─────────────┘

All tries of a call share its `timeout_s`, so that no retry makes a slow thing slower.
"""

import asyncio
import random
import weakref
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from kickwheel.agents import durable
from kickwheel.agents.caller import call_key, idempotency_key
from kickwheel.agents.tools.breaker import Breaker, Unavailable
from kickwheel.agents.tools.tool import InvalidArguments, Limits, Tool
from kickwheel.core.errors import ToolError
from kickwheel.core.identity import fresh
from kickwheel.records import genai
from kickwheel.trace.record import OpenSpan

FIRST_PAUSE_S = 0.2
"""The pause before the second try lies between 0 and this; each further one may be twice as long
(full jitter, Brooker 2015, «Exponential Backoff And Jitter»)."""
LONGEST_PAUSE_S = 5.0

_BUGS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    NotImplementedError,
    TypeError,
    ValueError,
)
"""What would fail again in the same way: a mistake in the code, or arguments it cannot take."""

_left: set[asyncio.Task[str]] = set()


async def attempts(
    tool: Tool, name: str, arguments: dict[str, Any], limits: Limits, noted: OpenSpan
) -> str:
    """What the tool has to say, after as many tries as its limits allow.

    Raises:
        Unavailable: it failed too often a moment ago.
        ToolError: no answer in time.
        Exception: as the tool, at its last try.
    """
    breaker, places = _shared(tool, limits)
    tries = 1 if limits.effects == "once" else limits.tries
    clock = asyncio.get_running_loop().time
    deadline = clock() + limits.timeout_s
    with call_key(_key(limits)):
        made = 0
        while True:
            if made:
                noted.attributes[genai.TOOL_TRIES] = made + 1
            try:
                if places is None:
                    return await _once(tool, name, arguments, limits, breaker, deadline)
                async with _place(places, name, limits):
                    if made == 0:  # Waiting for a place is no work.
                        deadline = clock() + limits.timeout_s
                    return await _once(tool, name, arguments, limits, breaker, deadline)
            except Exception as error:
                made += 1
                pause_s = _pause_s(made, error)
                if made >= tries or not _passes(error) or clock() + pause_s >= deadline:
                    raise
            await asyncio.sleep(pause_s)


def _key(limits: Limits) -> str:
    """A kept run has given the call its key already; it stays the same when the run is resumed."""
    kept = idempotency_key()
    if kept is None or limits.effects == "none" or isinstance(durable.steps(), durable.Unkept):
        return fresh(16)
    return kept


async def _once(
    tool: Tool,
    name: str,
    arguments: Mapping[str, Any],
    limits: Limits,
    breaker: Breaker,
    deadline: float,
) -> str:
    breaker.admit(name)
    try:
        text = await _within(limits.timeout_s, deadline, tool, arguments)
    except Exception as error:
        if _passes(error):
            breaker.failed()
        else:
            breaker.spared()
        raise
    except BaseException:
        breaker.spared()
        raise
    breaker.worked()
    if not isinstance(text, str):
        raise ToolError(f"the tool gave {type(text).__name__} where text was due", lasting=True)
    return text


def _passes(error: Exception) -> bool:
    """Whether the same call may work in a moment."""
    if isinstance(error, ToolError):
        return not (error.lasting or isinstance(error, InvalidArguments | Unavailable))
    return not isinstance(error, _BUGS)


def _pause_s(made: int, error: Exception) -> float:
    pause_s = random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (made - 1)))
    asked_for = getattr(error, "retry_after_s", None)
    return pause_s if asked_for is None else max(pause_s, float(asked_for))


@asynccontextmanager
async def _place(places: asyncio.Semaphore, name: str, limits: Limits) -> AsyncGenerator[None]:
    """One of the places in which calls of the tool may run at once."""
    try:
        async with asyncio.timeout(limits.timeout_s):
            await places.acquire()
    except TimeoutError:
        raise ToolError(
            f"{name} is busy: {limits.parallel} calls of it run already, and none of them ended "
            f"within {limits.timeout_s:g} s",
            lasting=True,
        ) from None
    try:
        yield
    finally:
        places.release()


async def _within(
    timeout_s: float, deadline: float, tool: Tool, arguments: Mapping[str, Any]
) -> Any:
    # A task of its own, so that a tool which does not want to end can be left behind.
    task = asyncio.create_task(_guarded(tool, arguments))
    try:
        done, _ = await asyncio.wait({task}, timeout=deadline - asyncio.get_running_loop().time())
    except asyncio.CancelledError:
        _leave(task)
        raise
    if not done:
        _leave(task)
        raise ToolError(f"no answer within {timeout_s:g} s")
    return task.result()


async def _guarded(tool: Tool, arguments: Mapping[str, Any]) -> str:
    try:
        return await tool.call(arguments)
    except SystemExit as error:
        raise ToolError("the tool tried to end the program", lasting=True) from error
    except asyncio.CancelledError as error:
        asking = asyncio.current_task()
        if asking is not None and asking.cancelling():
            raise
        raise ToolError("the tool cancelled itself", lasting=True) from error


def _leave(task: asyncio.Task[str]) -> None:
    """Cancels the task without waiting for it: it may not want to end."""
    task.cancel()
    _left.add(task)
    task.add_done_callback(_forget)


def _forget(task: asyncio.Task[str]) -> None:
    _left.discard(task)
    if not task.cancelled():
        task.exception()  # Looked at, so that asyncio does not complain.


class _Shared:
    """What all calls of a tool share, whoever makes them."""

    __slots__ = ("breaker", "places", "tool")

    def __init__(self, limits: Limits) -> None:
        self.breaker = limits.breaker or Breaker()
        self.places = None if limits.parallel is None else asyncio.Semaphore(limits.parallel)
        self.tool: Tool | None = None


_tools: dict[int, _Shared] = {}


def _shared(tool: Tool, limits: Limits) -> tuple[Breaker, asyncio.Semaphore | None]:
    if limits.breaker is not None and limits.parallel is None:
        return limits.breaker, None
    found = _tools.get(id(tool))
    if found is None:
        found = _tools[id(tool)] = _Shared(limits)
        try:
            weakref.finalize(tool, _tools.pop, id(tool), None).atexit = False
        except (
            TypeError
        ):  # A class with slots may not be watched: it stays, so its id is not reused.
            found.tool = tool
    return found.breaker, found.places
