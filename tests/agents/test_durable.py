"""Runs that are killed, joined, raced for, changed and waited for."""

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.agents.caller import Caller, acting_for, caller, idempotency_key
from kickwheel.agents.durable import Waiting, person, steps
from kickwheel.agents.keeper import Keeper
from kickwheel.app import check_app
from kickwheel.core.errors import (
    ModelError,
    ReplayError,
    RunLost,
    StoreError,
    ToolError,
    UsageError,
)
from kickwheel.core.journal import KeptRun
from kickwheel.core.store import Store, open_store

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "scripted.py"
ANSWER = "PLAN A-MODELA-TOOL B-MODELB-TOOL PAY yes ANSWER"
FIRST = range(1, 26)
"""Moments of `scripted.py` up to its question: four for each of six acts, one before it asks."""
LATER = range(5, 11)
"""Moments of the life that has the answer, from the question on: steps that are read back have
two, before and after, and those below them none."""


async def scripted(folder: Path, url: str | None, kill_at: int = 0) -> tuple[int, str]:
    """Exit code and output of one life of the scripted worker."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        str(folder),
        url or "",
        str(kill_at),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode in (0, -signal.SIGKILL), err.decode()
    return process.returncode, out.decode().strip()


def acts(folder: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in (folder / "acts").read_text().splitlines())


@pytest.mark.slow
async def test_a_run_killed_at_any_moment_ends_with_its_answer_and_pays_once(
    tmp_path: Path, database: str | None
) -> None:
    async def one(first: int, later: int) -> None:
        folder = tmp_path / f"{first}-{later}"
        folder.mkdir()
        url = None if database is None else f"{database}_{first}_{later}"
        lives = [await scripted(folder, url, first)]
        answered = False
        while lives[-1] != (0, ANSWER):
            assert len(lives) < 5, lives
            with open_store(folder, url) as store:
                for asked in store.runs.questions() if lives[-1][0] == 0 else ():
                    assert asked.text in lives[-1][1]
                    if asked.text == "Ship it?":
                        answered = True
                        store.runs.answer(asked.run, "yes", asked.path)
                    else:
                        made = acts(folder)["pay"]
                        killed_in_the_call.append(made)
                        told = "done: PAY" if made else "again"
                        store.runs.answer(asked.run, told, asked.path)
            lives.append(await scripted(folder, url, later if answered else 0))
            later = 0 if answered else later
        assert sum(code != 0 for code, _ in lives) == 1
        done = acts(folder)
        assert done.pop("pay") == 1
        assert set(done) == {"plan", "a-model", "a-tool", "b-model", "b-tool", "answer"}
        assert all(times <= 2 for times in done.values())
        lines = (folder / "acts").read_text().splitlines()
        assert len({line for line in lines if line.startswith("a-tool")}) == 1

    killed_in_the_call: list[int] = []
    plans = [(moment, 0) for moment in FIRST] + [(0, moment) for moment in LATER]
    for two in zip(plans[::2], [*plans[1::2], None], strict=False):
        await asyncio.gather(*(one(*plan) for plan in two if plan is not None))
    # Before it acts, and after it acted but before that was written.
    assert sorted(killed_in_the_call) == [0, 1]


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Any:
    with open_store(tmp_path, database) as opened:
        yield opened


async def until(true: Callable[[], object]) -> None:
    """Waits until `true()` is."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Acts:
    """Work whose acts are counted."""

    def __init__(self) -> None:
        self.made: list[str] = []

    async def step(self, name: str, *, effects: Any = "none", result: str = "", **more: Any) -> str:
        async def do() -> str:
            self.made.append(name)
            await asyncio.sleep(0)
            return result or name.upper()

        return await steps().step(name, name, do, str, effects=effects, **more)


def begun(acts: Acts, *names: str) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        return " ".join([await acts.step(name) for name in names])

    return work


async def test_the_same_key_gets_the_same_answer_and_another_question_is_refused(
    store: Store,
) -> None:
    acts = Acts()
    async with Keeper(store) as keeper:
        asking: dict[str, Any] = {"agent": "desk", "key": "k"}
        both = await asyncio.gather(
            keeper.run(begun(acts, "a", "b"), str, asked="q", **asking),
            keeper.run(begun(acts, "a", "b"), str, asked="q", **asking),
        )
        assert both == ["A B", "A B"]
        with pytest.raises(UsageError, match="was used for another question"):
            await keeper.run(begun(acts, "c"), str, asked="other", **asking)
        with acting_for(Caller(user="ann")):
            assert await keeper.run(begun(acts, "c"), str, asked="other", **asking) == "C"
    async with Keeper(store) as later:
        assert await later.run(begun(acts, "x"), str, asked="q", **asking) == "A B"
    assert acts.made == ["a", "b", "c"]


async def test_of_a_run_that_is_done_only_question_and_answer_are_left(store: Store) -> None:
    async with Keeper(store) as keeper:
        await keeper.run(begun(Acts(), "a"), str, agent="desk", asked="q", key="k")
    assert store.database.read("SELECT COUNT(*) FROM run_step") == [(0,)]
    (row,) = store.database.read("SELECT state, result, id FROM run")
    assert row[:2] == ("done", b'"A"')
    assert store.runs.forget(time.time() - 60) == 0
    assert store.runs.forget(time.time() + 60) == 1
    assert store.runs.find(row[2]) is None


async def test_outside_a_kept_run_steps_are_just_made_and_nobody_can_be_asked() -> None:
    acts = Acts()
    assert await acts.step("a", effects="once") == "A"
    with pytest.raises(UsageError, match="this run is not kept"):
        await person("Well?")


async def test_a_run_inside_another_is_a_part_of_it(store: Store) -> None:
    acts = Acts()
    async with Keeper(store) as keeper:

        async def outer() -> str:
            return await keeper.run(begun(acts, "a"), str, agent="inner", asked="q", key="i")

        assert await keeper.run(outer, str, agent="outer", asked="q") == "A"
    assert [agent for (agent,) in store.database.read("SELECT agent FROM run")] == ["outer"]


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (("a", "x"), r"step 2: the journal has «b», and the code now makes «x»"),
        (("a",), r"step 2: the journal has «b», and the code now makes no step"),
    ],
)
async def test_other_code_on_an_old_journal_stops_loudly(
    store: Store, then: tuple[str, ...], told: str
) -> None:
    acts = Acts()

    async def waits() -> str:
        await begun(acts, "a", "b")()
        return await person("Well?")

    async with Keeper(store) as keeper:
        with pytest.raises(Waiting) as waiting:
            await keeper.run(waits, str, agent="desk", asked="q", key="k")
        await keeper.answer(waiting.value.run, "yes")
        with pytest.raises(ReplayError, match=told):
            await keeper.run(begun(acts, *then), str, agent="desk", asked="q", key="k")
        failed = await keeper.find(waiting.value.run)
        assert failed is not None
        assert (failed.state, "ReplayError" in str(failed.error)) == ("failed", True)
        # The journal is as it was: the right code goes on with it.
        assert await keeper.run(waits, str, agent="desk", asked="q", key="k") == "yes"
    assert acts.made == ["a", "b"]


async def test_other_arguments_stop_loudly_even_where_the_work_catches_everything(
    store: Store,
) -> None:
    question = "one"

    async def work() -> str:
        async def do() -> str:
            return question

        try:
            await steps().step("model", {"asked": question}, do, str)
        except Exception:
            return "nothing happened"
        return await person("Well?")

    async with Keeper(store) as keeper:
        with pytest.raises(Waiting) as waiting:
            await keeper.run(work, str, agent="desk", asked="q", key="k")
        await keeper.answer(waiting.value.run, "yes")
        question = "two"
        with pytest.raises(ReplayError, match="«model» with arguments of digest"):
            await keeper.run(work, str, agent="desk", asked="q", key="k")


async def test_a_person_is_waited_for_only_when_all_else_is_done(store: Store) -> None:
    acts = Acts()

    async def work() -> str:
        async def slow() -> str:
            await acts.step("first")
            await asyncio.sleep(0.02)
            return await acts.step("second")

        async def branch() -> str:
            return await steps().step("branch", 1, slow, str)

        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(coming)
                for coming in (person("Red?", ("red", "blue")), branch(), person("Size?"))
            ]
        return " ".join(task.result() for task in tasks)

    async with Keeper(store) as keeper:
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        with pytest.raises(Waiting) as waiting:
            await keeper.run(work, str, **asking)
        run = waiting.value.run
        assert acts.made == ["first", "second"]
        assert [(q.path, q.text) for q in await keeper.questions(run)] == [
            ("1", "Red?"),
            ("2", "Size?"),
        ]
        with pytest.raises(UsageError, match="asks several things"):
            await keeper.answer(run, "red")
        with pytest.raises(UsageError, match="answered by one of red, blue"):
            await keeper.answer(run, "green", "1")
        await keeper.answer(run, "RED", "1")
        with pytest.raises(Waiting, match=r"Size\?"):
            await keeper.run(work, str, **asking)
        # Without an answer nothing is done again, not even to find out.
        with pytest.raises(Waiting, match=r"Size\?"):
            await keeper.run(work, str, **asking)
        await keeper.answer(run, "L", "2")
        assert await keeper.run(work, str, **asking) == "red SECOND L"
        with pytest.raises(UsageError, match="waits for no answer"):
            await keeper.answer(run, "L")
    assert acts.made == ["first", "second"]


async def test_an_answer_that_comes_at_once_is_taken_without_doing_anything_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kickwheel.agents.kept.HOLD_S", 30.0)
    async with Keeper(store) as keeper:

        async def work() -> str:
            return await person("Well?")

        running = asyncio.create_task(keeper.run(work, str, agent="desk", asked="q"))
        await until(store.runs.questions)
        await keeper.answer(store.runs.questions()[0].run, "yes")
        assert await running == "yes"


async def test_a_call_that_asks_before_it_acts_is_not_taken_for_one_that_was_made(
    store: Store,
) -> None:
    made: list[str] = []

    async def pay() -> str:
        if await person("Pay 400?", ("yes", "no")) == "no":
            return "declined"
        made.append("paid")
        return "paid"

    async def work() -> str:
        return await steps().step("pay", 400, pay, str, effects="once")

    async with Keeper(store) as keeper:
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        with pytest.raises(Waiting, match=r"Pay 400\?") as waiting:
            await keeper.run(work, str, **asking)
        await keeper.answer(waiting.value.run, "yes")
        assert await keeper.run(work, str, **asking) == "paid"
    assert made == ["paid"]


@pytest.mark.parametrize(
    ("answers", "told", "made"),
    [
        (["done: 3 EUR"], "3 EUR", 1),
        (["again"], "PAY", 2),
        (["failed"], "error: pay failed, says a person who looked", 1),
        (["well, hm", "done: 3 EUR"], "3 EUR", 1),
    ],
)
async def test_a_call_that_may_have_been_made_is_asked_about(
    store: Store, answers: list[str], told: str, made: int
) -> None:
    acts = Acts()
    hangs = True

    async def pay() -> str:
        acts.made.append("pay")
        if hangs:
            await asyncio.sleep(60)
        return "PAY"

    async def work() -> str:
        try:
            return await steps().step("pay", {"amount": 3}, pay, str, effects="once")
        except ToolError as error:
            return f"error: {error}"

    asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
    async with Keeper(store) as keeper:
        running = asyncio.create_task(keeper.run(work, str, **asking))
        await until(lambda: acts.made)
    await asyncio.gather(running, return_exceptions=True)
    hangs = False
    async with Keeper(store) as keeper:
        for answer in answers:
            with pytest.raises(Waiting, match="may have been made") as waiting:
                await keeper.run(work, str, **asking)
            assert '{"amount":3}' in str(waiting.value)
            await keeper.answer(waiting.value.run, answer)
        assert await keeper.run(work, str, **asking) == told
    assert acts.made == ["pay"] * made


async def test_a_failure_that_was_handled_is_the_same_when_the_run_is_done_again(
    store: Store,
) -> None:
    tried: list[int] = []

    async def work() -> str:
        async def ask() -> str:
            tried.append(1)
            raise ModelError("busy", status=429, retry_after_s=2.0)

        try:
            await steps().step("model", 1, ask, str)
        except ModelError as error:
            return f"{error} {error.status} {error.retry_after_s} {await person('Well?')}"
        return "fine"

    async with Keeper(store) as keeper:
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        with pytest.raises(Waiting) as waiting:
            await keeper.run(work, str, **asking)
        await keeper.answer(waiting.value.run, "ok")
        assert await keeper.run(work, str, **asking) == "busy 429 2.0 ok"
    assert len(tried) == 1


async def test_who_cancels_a_run_of_another_worker_need_not_wait_until_it_looks(
    tmp_path: Path, database: str | None
) -> None:
    with open_store(tmp_path, database) as here, open_store(tmp_path, database) as there:
        async with Keeper(here, lease_s=600) as working, Keeper(there, lease_s=600) as other:
            await cancelled(working, other, there)


@pytest.mark.parametrize("broken", [False, True])
async def test_nor_need_who_shares_nothing_with_it_but_the_database(
    tmp_path: Path, postgres_url: str, broken: bool
) -> None:
    listening = "FROM pg_stat_activity WHERE query = 'LISTEN kickwheel' AND state = 'idle'"
    with (
        open_store(tmp_path / "here", postgres_url) as here,
        open_store(tmp_path / "there", postgres_url) as there,
    ):

        def listeners() -> set[int]:
            return {pid for (pid,) in there.database.read(f"SELECT pid {listening}")}

        async with Keeper(here, lease_s=600) as working, Keeper(there, lease_s=600) as other:
            await until(lambda: len(listeners()) == 2)
            if broken:
                before = listeners()
                there.database.read(f"SELECT pg_terminate_backend(pid) {listening}")
                await until(lambda: len(listeners() - before) == 2)
            await cancelled(working, other, there)


async def cancelled(working: Keeper, other: Keeper, store: Store) -> None:
    """Returns once a run that would never end was ended by another worker."""
    ended = asyncio.Event()
    acts = Acts()

    async def hangs() -> str:
        await acts.step("a")
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()
        return "never"

    running = asyncio.create_task(working.run(hangs, str, agent="desk", asked="q", key="k"))
    await until(lambda: acts.made)
    (run,) = await asyncio.to_thread(store.runs.recent)
    async with asyncio.timeout(60):
        assert await other.cancel(run.id)
        await ended.wait()
    with pytest.raises(RunLost):
        await running
    assert not await other.cancel(run.id)


async def test_a_failed_run_that_is_asked_again_makes_only_what_failed_again(
    store: Store,
) -> None:
    acts = Acts()
    fails = True

    async def work() -> str:
        async def inner() -> str:
            await acts.step("a")
            if fails:
                raise ModelError("busy", status=503)
            return await acts.step("b")

        return await steps().step("agent", 1, inner, str)

    async with Keeper(store) as keeper:
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        with pytest.raises(ModelError, match="busy"):
            await keeper.run(work, str, **asking)
        fails = False
        assert await keeper.run(work, str, **asking) == "B"
    assert acts.made == ["a", "b"]


async def test_a_run_that_nobody_waits_for_any_more_is_cancelled_at_once_and_goes_on_when_asked(
    store: Store,
) -> None:
    acts = Acts()
    cancelled = asyncio.Event()
    slow = True

    async def work() -> str:
        await acts.step("a")

        async def wait() -> str:
            try:
                if slow:
                    await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return "there"

        return await steps().step("slow", 1, wait, str)

    async with Keeper(store) as keeper:
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        one, other = (asyncio.create_task(keeper.run(work, str, **asking)) for _ in range(2))
        await until(lambda: acts.made)
        await asyncio.sleep(0.02)
        one.cancel()
        await asyncio.sleep(0.02)
        assert not cancelled.is_set()
        other.cancel()
        await asyncio.wait({one, other})
        assert cancelled.is_set()
        slow = False
        assert await keeper.run(work, str, **asking) == "there"
    assert acts.made == ["a"]


async def test_a_run_can_be_cancelled_from_another_process(store: Store) -> None:
    started = asyncio.Event()

    async def work() -> str:
        started.set()
        await asyncio.sleep(60)
        return "never"

    async with Keeper(store, lease_s=0.2) as keeper, Keeper(store) as other:
        running = asyncio.create_task(keeper.run(work, str, agent="desk", asked="q", key="k"))
        await started.wait()
        ((run,),) = store.database.read("SELECT id FROM run")
        assert await other.cancel(run)
        with pytest.raises(RunLost, match="was cancelled"):
            await running
        assert not await other.cancel(run)


async def test_what_a_worker_left_is_gone_on_with_by_another_for_whom_it_was_asked(
    tmp_path: Path, database: str | None
) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.durable import steps
from kickwheel.agents.keeper import Keeper
from kickwheel.app import check_app
from kickwheel.core.store import open_store

async def work():
    async def fast():
        return "fast"
    async def slow():
        print("there", flush=True)
        await asyncio.sleep(60)
    await steps().step("fast", 1, fast, str)
    await steps().step("slow", 1, slow, str)

async def main():
    with open_store(Path(sys.argv[1]), sys.argv[2] or None) as store:
        async with Keeper(store) as keeper:
            with acting_for(Caller(user="ann", tenant="acme")):
                await keeper.run(work, str, agent="desk", asked="q", key="k")
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), database or "", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"there\n"
    with open_store(tmp_path, database) as store:
        await until(lambda: len(store.database.read("SELECT path FROM run_step")) == 2)
        acts = Acts()
        who: list[Caller] = []

        async def begun_slow() -> str:
            async def do() -> str:
                return "!"

            return await steps().step("slow", 1, do, str)

        async def fast(run: KeptRun) -> str:
            who.append(caller())

            async def never() -> str:
                raise AssertionError("it was done before")

            first = await steps().step("fast", 1, never, str)
            return first + await begun_slow()

        async with Keeper(store) as keeper:
            await keeper.resume(fast)
            await asyncio.sleep(0.05)
            assert not who  # Its worker lives.
            process.kill()
            await process.wait()
            await keeper.resume(fast)
            with acting_for(Caller(user="ann", tenant="acme")):
                told = await keeper.run(begun(acts, "x"), str, agent="desk", asked="q", key="k")
        assert told == "fast!"
        assert who == [Caller(user="ann", tenant="acme")]


async def test_of_two_workers_one_gets_a_run_and_both_get_its_answer(store: Store) -> None:
    for round_ in range(8):
        acts = Acts()
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": f"k{round_}"}
        async with Keeper(store, lease_s=0.2) as one, Keeper(store, lease_s=0.2) as other:
            told = await asyncio.gather(
                one.run(begun(acts, "a", "b"), str, **asking),
                other.run(begun(acts, "a", "b"), str, **asking),
            )
        assert told == ["A B", "A B"]
        assert acts.made == ["a", "b"]


async def test_jumps_of_the_clock_take_no_run_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, jump = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + jump[0])
    acts = Acts()

    async def work() -> str:
        await acts.step("a")
        for days in (400, -400, 0):
            jump[0] = 86_400.0 * days
            await asyncio.sleep(0.1)
        return await acts.step("b")

    async def again(run: KeptRun) -> str:
        raise AssertionError("its worker lives")

    async with Keeper(store, lease_s=0.2) as one, Keeper(store, lease_s=0.2) as other:
        await other.resume(again)
        assert await one.run(work, str, agent="desk", asked="q", key="k") == "B"
    assert acts.made == ["a", "b"]


async def test_a_worker_that_shows_no_life_loses_its_runs_and_does_nothing_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = Acts()
    taken = asyncio.Event()

    async def hangs() -> str:
        await acts.step("a")
        await taken.wait()
        return await acts.step("pay", effects="once")

    async def goes_on(run: KeptRun | None = None) -> str:
        await acts.step("a")
        return await acts.step("pay", effects="once")

    silent = Keeper(store, lease_s=0.2)
    monkeypatch.setattr(silent, "_beat", lambda: asyncio.sleep(0))
    async with silent, Keeper(store, lease_s=0.2) as other:
        running = asyncio.create_task(silent.run(hangs, str, agent="desk", asked="q", key="k"))
        await until(lambda: acts.made)
        await other.resume(goes_on)
        told = await other.run(goes_on, str, agent="desk", asked="q", key="k")
        assert told == "PAY"
        taken.set()
        with pytest.raises(RunLost, match="another worker goes on with it"):
            await running
    assert acts.made == ["a", "pay"]


async def test_a_step_knows_its_key_and_the_same_step_has_the_same(store: Store) -> None:
    keys: list[str | None] = []

    async def call() -> str:
        keys.append(idempotency_key())
        if len(keys) == 1:
            raise ModelError("busy")
        return ""

    async def work() -> str:
        return await steps().step("put", 1, call, str, effects="repeatable")

    async with Keeper(store) as keeper:
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        with pytest.raises(ModelError):
            await keeper.run(work, str, **asking)
        await keeper.run(work, str, **asking)
    assert keys[0] == keys[1] is not None


async def test_what_cannot_be_kept_is_an_error_of_its_run_alone(store: Store) -> None:
    async def bad() -> str:
        return await Acts().step("half a pair \ud800")

    async with Keeper(store) as keeper:
        told = await asyncio.gather(
            keeper.run(bad, str, agent="desk", asked="q", key="bad"),
            *(
                keeper.run(begun(Acts(), "a"), str, agent="desk", asked="q", key=str(n))
                for n in range(5)
            ),
            return_exceptions=True,
        )
    assert told[1:] == ["A"] * 5
    assert isinstance(told[0], Exception)


async def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_room(tmp_path: Path) -> None:
    acts = Acts()

    async def work() -> str:
        said = await acts.step("a")
        for number in range(50):
            said = await acts.step(f"big {number}", result="x" * 4000)
            await asyncio.sleep(0.001)
        return said

    with open_store(tmp_path) as store:
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        async with Keeper(store) as keeper:
            # SQLite's own way to be full.
            pages = store.database.read("PRAGMA page_count")[0][0]
            store.database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 8}"))
            with pytest.raises(StoreError, match="the disk is full"):
                await keeper.run(work, str, **asking)
            store.database.write(lambda c: c.execute("PRAGMA max_page_count = 100000"))
            assert await keeper.run(work, str, **asking) == "x" * 4000
    assert set(acts.made) == {"a", *(f"big {n}" for n in range(50))}


async def test_the_work_on_the_page_asks_and_goes_on(store: Store) -> None:
    page = (ROOT / "docs/durable.md").read_text("utf-8")
    _, refund = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(refund, "durable.md", "exec"), names)
    assert await names["refund"]("order 7", 100) == "100 cents of order 7 were paid back"
    async with Keeper(store) as keeper:
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        with pytest.raises(Waiting, match="Pay back 4000 cents") as waiting:
            await keeper.run(lambda: names["refund"]("order 7", 4000), str, **asking)
        await keeper.answer(waiting.value.run, "no")
        told = await keeper.run(lambda: names["refund"]("order 7", 4000), str, **asking)
        assert told == "A person said no."


def test_the_app_on_the_page_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/durable.md").read_text("utf-8")
    (tmp_path / "app.yml").write_text("".join(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)))
    monkeypatch.setenv("CLINIC_STORE", "postgresql://ann@host/clinic")
    assert check_app(tmp_path).database == "postgresql://ann@host/clinic"


Tree = st.recursive(
    st.sampled_from(["none", "repeatable", "once"]),
    lambda inner: st.tuples(st.sampled_from(["row", "at once"]), st.lists(inner, max_size=3)),
    max_leaves=8,
)


def grown(tree: Any, made: Counter[str], where: str = "") -> Callable[[], Awaitable[str]]:
    """Work that takes the tree's steps, and tells where each of them is."""

    async def leaf() -> str:
        made[where] += 1
        await asyncio.sleep(0)
        return where

    async def node() -> str:
        how, inner = tree
        works = [grown(one, made, f"{where}/{n}") for n, one in enumerate(inner)]
        kinds = [one if isinstance(one, str) else "none" for one in inner]

        def step(n: int) -> Awaitable[str]:
            return steps().step(f"s{n}", where, works[n], str, effects=kinds[n])

        if how == "row":
            return f"({' '.join([await step(n) for n in range(len(works))])})"
        return f"({' '.join(await asyncio.gather(*(step(n) for n in range(len(works)))))})"

    return leaf if isinstance(tree, str) else node


@settings(max_examples=25, deadline=None)
@given(tree=Tree.filter(lambda tree: not isinstance(tree, str)), data=st.data())
def test_steps_however_nested_come_to_the_same_from_any_cut_of_the_journal(
    tmp_path_factory: pytest.TempPathFactory, tree: Any, data: st.DataObject
) -> None:
    async def whole() -> None:
        folder = tmp_path_factory.mktemp("runs")
        asking: dict[str, Any] = {"agent": "desk", "asked": "q", "key": "k"}
        with open_store(folder) as store:
            first: Counter[str] = Counter()

            async def waits() -> str:
                said = await grown(tree, first)()
                await person("Well?")
                return said

            async with Keeper(store) as keeper:
                with pytest.raises(Waiting) as waiting:
                    await keeper.run(waits, str, **asking)
                run = waiting.value.run
                await keeper.answer(run, "yes")
                # The journal is cut: a step may be gone, or begun and not done, but only with all
                # the steps around it, and a call that is made once only as a whole.
                rows = store.database.read(
                    "SELECT path FROM run_step WHERE name <> 'person' ORDER BY ended DESC, path"
                )
                cut = data.draw(st.integers(0, len(rows)))
                gone = [path for (path,) in rows[:cut]]
                begun_only = data.draw(st.booleans())
                for path in gone:
                    above = [path.rsplit(".", n)[0] for n in range(path.count(".") + 1)]
                    for one in above:
                        sql = (
                            "UPDATE run_step SET state = 'started', result = NULL"
                            if one != path or (begun_only and effects(tree, path) != "once")
                            else "DELETE FROM run_step"
                        )
                        store.database.write(
                            lambda c, sql=sql, one=one: c.execute(f"{sql} WHERE path = ?", (one,))
                        )
                again: Counter[str] = Counter()

                async def goes_on() -> str:
                    said = await grown(tree, again)()
                    await person("Well?")
                    return said

                told = await keeper.run(goes_on, str, **asking)
        assert told == await grown(tree, Counter())()
        assert all(times == 1 for times in first.values())
        assert all(times == 1 for times in again.values())
        assert sum(again.values()) <= len(gone)

    asyncio.run(whole())


def effects(tree: Any, path: str) -> str:
    for place in path.split("."):
        tree = tree[1][int(place) - 1]
    return tree if isinstance(tree, str) else "none"


async def test_an_answer_is_kept_for_a_day_and_a_question_until_it_is_answered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, days, forgotten = time.time, [0.0], Counter[float]()
    monkeypatch.setattr(time, "time", lambda: real() + 86_400 * days[0])
    forget, acts = store.runs.forget, Acts()

    def forgets(before: float) -> int:
        forgotten[days[0]] += forget(before)
        return 0

    monkeypatch.setattr(store.runs, "forget", forgets)

    async def asks() -> str:
        return f"{await acts.step('a')} {await person('Well?')}"

    async with Keeper(store) as keeper:
        await keeper.run(begun(acts, "b"), str, agent="desk", asked="b", key="b")
        with pytest.raises(Waiting) as waiting:
            await keeper.run(asks, str, agent="desk", asked="a", key="a")
    for days[0] in (0.9, 1.1, 400.0):
        async with Keeper(store, lease_s=0.2):
            await until(lambda: days[0] in forgotten)
    assert [forgotten[day] for day in (0.0, 0.9, 1.1, 400.0)] == [0, 0, 1, 0]
    async with Keeper(store) as keeper:
        await keeper.answer(waiting.value.run, "yes")
        assert await keeper.run(asks, str, agent="desk", asked="a", key="a") == "A yes"
    assert acts.made == ["b", "a"]
