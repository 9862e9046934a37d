import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from kickwheel.agents.caller import Caller, acting_for, call_key, idempotency_key
from kickwheel.agents.tools import InvalidArguments, Limits, calling
from kickwheel.agents.tools import attempt as attempting
from kickwheel.agents.tools.breaker import FAILURES, PAUSE_S, Breaker
from kickwheel.agents.tools.python import from_function
from kickwheel.core.errors import ToolError
from kickwheel.core.store import open_store
from kickwheel.records import ToolCall, ToolSpec, genai
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

ASKED = ToolCall(id="1", name="station", arguments="{}")


class Station:
    """A tool that does what the test wants."""

    spec = ToolSpec(name="station", parameters={"type": "object", "properties": {}})

    def __init__(self, act: Callable[[int], Awaitable[str]], **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.act = act
        self.calls = 0

    async def call(self, arguments: Mapping[str, Any]) -> str:
        self.calls += 1
        return await self.act(self.calls)


def failing(times: int, error: Exception) -> Callable[[int], Awaitable[str]]:
    async def act(number: int) -> str:
        if number <= times:
            raise error
        return "Sunny."

    return act


async def made(*tools: Station) -> list[calling.Result]:
    return [await calling.call({"station": tool}, ASKED) for tool in tools]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempting, "FIRST_PAUSE_S", 0.001)


@pytest.mark.parametrize(
    ("effects", "tries", "error", "calls"),
    [
        ("none", 3, ConnectionResetError("gone"), 3),
        ("repeatable", 3, ToolError("busy"), 3),
        ("repeatable", 2, ToolError("busy"), 2),
        ("none", 1, ToolError("busy"), 1),
        ("once", 3, ConnectionResetError("gone"), 1),
        ("none", 3, ToolError("there is no such station", lasting=True), 1),
        ("none", 3, InvalidArguments("no such day"), 1),
        ("none", 3, KeyError("a bug"), 1),
    ],
)
async def test_only_what_is_safe_to_repeat_and_may_pass_is_tried_again(
    effects: Any, tries: int, error: Exception, calls: int
) -> None:
    tool = Station(failing(9, error), effects=effects, tries=tries)
    (result,) = await made(tool)
    assert result.state in ("failed", "invalid")
    assert tool.calls == calls


async def test_a_call_that_works_at_last_has_worked_and_the_trace_counts_its_tries(
    tmp_path: Path,
) -> None:
    tool = Station(failing(2, ToolError("busy")), effects="none")
    with open_store(tmp_path) as store:
        traces = Traces(store)
        with Recorder(traces) as recorder, recorder.trace("desk", "desk"):
            assert await made(tool) == [calling.Result("Sunny.")]
        (trace,) = traces.all()
    assert trace.spans[1].attributes[genai.TOOL_TRIES] == 3
    assert trace.spans[1].error is None


async def test_a_tool_is_called_no_sooner_than_it_said() -> None:
    loop = asyncio.get_running_loop()
    at: list[float] = []

    async def act(number: int) -> str:
        at.append(loop.time())
        if number == 1:
            raise ToolError("slow down", retry_after_s=0.05)
        return "Sunny."

    await made(Station(act, effects="none"))
    assert at[1] - at[0] >= 0.05


async def test_all_tries_share_the_time_of_one_call() -> None:
    async def hang(number: int) -> str:
        await asyncio.sleep(60)
        return ""

    slow = Station(hang, effects="none", timeout_s=0.05)
    later = Station(failing(9, ToolError("closed", retry_after_s=60)), effects="none")
    results = await made(slow, later)
    assert [result.text for result in results] == [
        "error: no answer within 0.05 s",
        "error: closed (it may be called again in 60 s)",
    ]
    assert (slow.calls, later.calls) == (1, 1)


async def test_a_call_and_its_repetition_have_one_key_and_other_calls_have_others() -> None:
    keys: list[str | None] = []

    async def act(number: int) -> str:
        keys.append(idempotency_key())
        if number == 1:
            raise ToolError("busy")
        return "Sunny."

    tool = Station(act, effects="repeatable")
    await made(tool, tool)
    assert idempotency_key() is None
    assert keys[0] is not None
    assert keys[0] == keys[1] != keys[2]


async def test_further_calls_wait_for_a_free_place_whoever_makes_them() -> None:
    running = most = 0

    async def act(number: int) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return "Sunny."

    tool = Station(act, parallel=2)
    await asyncio.gather(*(made(tool) for _ in range(7)))
    assert most == 2
    assert tool.calls == 7


async def test_who_finds_no_free_place_in_time_is_told_and_the_tool_is_not_blamed() -> None:
    released = asyncio.Event()

    async def act(number: int) -> str:
        await released.wait()
        return "Sunny."

    tool = Station(act, parallel=1, timeout_s=60)
    first = asyncio.create_task(made(tool))
    await asyncio.sleep(0.01)
    tool.limits = Limits(parallel=1, timeout_s=0.2)
    (second,) = await made(tool)
    assert second.text == (
        "error: station is busy: 1 calls of it run already, and none of them ended within 0.2 s"
    )
    released.set()
    assert (await first)[0].text == "Sunny."


async def test_a_box_whose_tools_fail_again_and_again_is_left_in_peace_and_tried_later() -> None:
    class Clock:
        now = 0.0

        def __call__(self) -> float:
            return self.now

    clock = Clock()
    shared = Breaker(clock)
    broken = Station(failing(99, ConnectionRefusedError("refused")), breaker=shared)
    other = Station(failing(0, ToolError()), breaker=shared)
    await made(*[broken] * FAILURES)
    assert broken.calls == FAILURES
    refused, beside = await made(broken, other)
    assert refused.text.startswith("error: station is not available until ")
    assert beside.text.startswith("error: station is not available until ")
    assert (broken.calls, other.calls) == (FAILURES, 0), "not called"
    clock.now += PAUSE_S
    assert (await made(other, other))[1].text == "Sunny."


@pytest.mark.parametrize(
    "error", [InvalidArguments("no"), KeyError("bug"), ToolError("not found", lasting=True)]
)
async def test_what_says_nothing_about_the_tool_opens_no_breaker(error: Exception) -> None:
    tool = Station(failing(99, error))
    await made(*[tool] * (FAILURES + 3))
    assert tool.calls == FAILURES + 3


async def test_a_tool_without_a_box_has_a_breaker_of_its_own() -> None:
    broken = Station(failing(99, ConnectionRefusedError("refused")))
    await made(*[broken] * (FAILURES + 2))
    assert broken.calls == FAILURES
    assert await made(Station(failing(0, ToolError()))) == [calling.Result("Sunny.")]


async def test_what_is_known_of_a_tool_ends_with_it() -> None:
    tool = Station(failing(0, ToolError()))
    await made(tool)
    identity = id(tool)
    assert identity in attempting._tools
    del tool
    gc.collect()
    assert identity not in attempting._tools


async def test_the_end_of_the_run_ends_a_pause_a_wait_and_a_call_at_once() -> None:
    ended: list[str] = []

    async def hang(number: int) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("call")
        return ""

    waiting = Station(hang, parallel=1)
    pausing = Station(failing(9, ToolError("busy", retry_after_s=20)), effects="none")
    tasks = [asyncio.create_task(made(tool)) for tool in (waiting, waiting, pausing)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    # None of them has run out by then: the call takes 60 s, the pause 20.
    await asyncio.wait(tasks, timeout=5)
    assert all(task.cancelled() for task in tasks)
    assert ended == ["call"]
    assert (waiting.calls, pausing.calls) == (1, 1)


async def test_a_function_in_a_thread_is_left_behind_when_its_run_ends() -> None:
    released, ended = threading.Event(), threading.Event()

    def work() -> str:
        released.wait(60)
        ended.set()
        return "late"

    call = ToolCall(id="1", name="work", arguments="{}")
    task = asyncio.create_task(calling.call({"work": from_function(work)}, call))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
    assert not ended.is_set(), "Python cannot stop it"
    released.set()


async def test_the_function_on_the_page_books_once_whatever_is_repeated() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tools" / "calling.md").read_text("utf-8")
    names: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], names)
    transfer = from_function(names["transfer_money"])

    async def call(key: str, **arguments: Any) -> str:
        with acting_for(Caller(user="ann")), call_key(key):
            return await transfer.call(arguments)

    for _ in range(2):
        assert await call("1", to="ben", amount=50.0) == "ben got 50 EUR from ann."
    assert names["ACCOUNTS"] == {"ann": 250.0, "ben": 70.0}
    with pytest.raises(InvalidArguments):
        await call("2", to="zoe", amount=1.0)
    with pytest.raises(ToolError) as caught:
        await call("3", to="ben", amount=251.0)
    assert caught.value.lasting
