"""What becomes of a function in its thread when nobody waits for it any more."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kickwheel.agents import durable
from kickwheel.agents.keeper import Keeper
from kickwheel.agents.tools import Limits, Stopped, calling
from kickwheel.agents.tools.python import from_function
from kickwheel.core.errors import ToolError
from kickwheel.core.store import open_store
from kickwheel.records import ToolCall

ENDS_S = 30.0
"""Far more than any end takes, so that a test which fails does not hang."""


def counts() -> None:
    n = 0
    while True:
        n += 1


def naps() -> None:
    while True:
        time.sleep(0.001)


def carries_on() -> None:
    while True:
        with contextlib.suppress(Exception):
            naps()


class Watched:
    """A function that tells when it begins and how it ends."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.begun, self.over = threading.Event(), threading.Event()
        self.steps: list[str] = []
        self._work = work

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Something that has to be given back."""
        self.steps.append("taken")
        try:
            yield
        finally:
            time.sleep(0.01)  # A second exception would break this off.
            self.steps.append("given back")

    def __call__(self) -> str:
        """Works."""
        try:
            with self.lock():
                self.begun.set()
                self._work()
        except BaseException as error:
            self.steps.append(type(error).__name__)
            raise
        finally:
            self.over.set()
        return "done"


async def cancelled(watched: Watched, **limits: Any) -> None:
    """A call of it that is cancelled when it has begun."""
    call = ToolCall(id="1", name="watched", arguments="{}")
    tool = from_function(watched, Limits(**limits))
    task = asyncio.create_task(calling.call({"watched": tool}, call))
    assert await asyncio.to_thread(watched.begun.wait, ENDS_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("work", [counts, naps, carries_on])
async def test_a_cancelled_function_ends_and_gives_back_what_it_holds(
    work: Callable[[], None],
) -> None:
    watched = Watched(work)
    await cancelled(watched)
    assert await asyncio.to_thread(watched.over.wait, ENDS_S)
    assert watched.steps == ["taken", "given back", "Stopped"]


async def test_a_function_that_takes_too_long_ends_too() -> None:
    watched = Watched(counts)
    call = ToolCall(id="1", name="w", arguments="{}")
    while not watched.begun.is_set():  # It may be over before its thread began.
        tool = from_function(watched, Limits(timeout_s=0.2, tries=1))
        result = await calling.call({"w": tool}, call)
        assert result.text == "error: no answer within 0.2 s"
    assert await asyncio.to_thread(watched.over.wait, ENDS_S)
    assert watched.steps == ["taken", "given back", "Stopped"]


async def test_a_call_outside_python_is_waited_for_by_nobody_and_nothing_comes_after_it() -> None:
    returns = threading.Event()

    def waits() -> None:
        returns.wait()  # Stands in a C call, as a socket does.
        watched.steps.append("went on")

    watched = Watched(waits)
    await cancelled(watched)
    assert watched.steps == ["taken"]
    returns.set()
    assert await asyncio.to_thread(watched.over.wait, ENDS_S)
    assert watched.steps == ["taken", "given back", "Stopped"]


async def test_a_function_that_raises_what_stops_functions_only_fails() -> None:
    def stops_itself() -> None:
        raise Stopped

    with pytest.raises(ToolError, match="the function was stopped"):
        await from_function(stops_itself).call({})


async def test_no_cancel_reaches_another_call_or_the_thread_behind_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cancels that race with the end of their call, at every moment of it."""
    stray: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", stray.append)
    before = set(threading.enumerate())

    def short(turns: int) -> str:
        return str(sum(range(turns)))

    tool = from_function(short)
    outcomes: set[str] = set()
    for number in range(200):
        turns = number * 40
        task = asyncio.create_task(tool.call({"turns": turns}))
        # From before the thread begins to after it has ended, the GIL being switched meanwhile.
        await asyncio.sleep(number % 20 * 0.00002)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        outcomes.add(type(outcome).__name__)
        assert await tool.call({"turns": turns}) == str(sum(range(turns)))
    assert outcomes <= {"CancelledError", "str"}
    for thread in set(threading.enumerate()) - before:
        thread.join(ENDS_S)
    assert stray == []


async def test_a_cancelled_call_that_must_not_be_made_twice_stands_as_begun(
    tmp_path: Path,
) -> None:
    watched = Watched(counts)
    asking: dict[str, Any] = {"agent": "clerk", "asked": "x", "key": "1"}
    made: list[str] = []

    def again() -> str:
        made.append("again")
        return "done"

    async def work(tool: Any) -> str:
        call = ToolCall(id="1", name="move", arguments="{}")
        return (await calling.call({"move": tool}, call)).text

    once = Limits(effects="once")
    with open_store(tmp_path) as store:
        async with Keeper(store) as keeper:
            tool = from_function(watched, once)
            run = asyncio.create_task(keeper.run(lambda: work(tool), str, **asking))
            assert await asyncio.to_thread(watched.begun.wait, ENDS_S)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert await asyncio.to_thread(watched.over.wait, ENDS_S)
        async with Keeper(store) as keeper:
            with pytest.raises(durable.Waiting) as waiting:
                await keeper.run(lambda: work(from_function(again, once)), str, **asking)
    assert "it may have been made" in waiting.value.questions[0].text
    assert made == []
