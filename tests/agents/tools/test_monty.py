import asyncio
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.agents.tools.monty import Function, Outcome, ProgramLimits, run_program


async def search(query: str, most: int = 2) -> list[str]:
    await asyncio.sleep(0)
    return [query.upper()] * most


async def missing(city: str) -> str:
    raise ValueError(f"there is no {city}")


FUNCTIONS: dict[str, Function] = {"search": search, "missing": missing}
TIGHT = ProgramLimits(run_s=0.3, memory_bytes=20_000_000, depth=50, calls=5, printed_bytes=1000)


async def test_a_program_calls_functions_prints_and_ends_with_a_value() -> None:
    program = "found = await search('a', most=3)\nprint(len(found))\n{'first': found[0], 'n': 1.5}"
    assert await run_program(program, FUNCTIONS) == Outcome(
        value={"first": "A", "n": 1.5}, printed="3\n"
    )


async def test_functions_that_are_gathered_run_at_once_in_the_callers_context() -> None:
    who = ContextVar("who", default="nobody")
    together = asyncio.Barrier(3)

    async def meet(n: int) -> str:
        await asyncio.wait_for(together.wait(), 10)
        return f"{who.get()} {n}"

    who.set("ann")
    program = "import asyncio\nawait asyncio.gather(meet(1), meet(2), meet(3))"
    assert (await run_program(program, {"meet": meet})).value == ["ann 1", "ann 2", "ann 3"]


async def test_an_exception_of_a_function_can_be_caught_in_the_program() -> None:
    program = (
        "try:\n  await missing('Oslo')\nexcept ValueError as error:\n  told = str(error)\ntold"
    )
    assert (await run_program(program, FUNCTIONS)).value == "there is no Oslo"


@pytest.mark.parametrize(
    ("program", "why", "line", "told"),
    [
        ("x = 1\ny = = 2", "syntax", 2, "Expected an expression"),
        ("print('so far')\nawait missing('Oslo')", "raised", 2, "ValueError: there is no Oslo"),
        ("def f():\n  return 1 / 0\nf()", "raised", 2, "line 2 in f: ZeroDivisionError"),
        ("search('a')[0]", "raised", 1, "write await before the call"),
        ("search('a')", "raised", None, "write await before it"),
        ("await nothing()", "raised", 1, "name 'nothing' is not defined"),
        ("import numpy", "beyond", 1, "No module named 'numpy'. There are asyncio"),
        ("def g():\n  yield 1\nlist(g())", "beyond", 2, "knows a part of Python"),
        ("open('/etc/passwd').read()", "beyond", 1, "has no files, network or environment"),
        ("import os\nos.environ['PATH']", "beyond", 2, "has no files, network or environment"),
        ("while True: pass", "limit", None, "time limit exceeded"),
        ("'a' * 10 ** 9", "limit", 1, "memory limit exceeded"),
        ("def f(n): return f(n + 1)\nf(0)", "limit", 1, "maximum recursion depth"),
        ("for n in range(9): await search('a')", "limit", 1, "no more than 5 calls"),
        ("while True: print('x' * 500)", "limit", None, "limit exceeded"),
        ("import time\ntime.sleep(9999)\n1 / 0", "raised", 3, "ZeroDivisionError"),
    ],
)
async def test_what_a_program_cannot_is_told_with_its_line(
    program: str, why: str, line: int | None, told: str
) -> None:
    outcome = await run_program(program, FUNCTIONS, TIGHT)
    assert (outcome.why, outcome.line, outcome.value) == (why, line, None)
    assert told in outcome.error
    assert len(outcome.printed) < 3000


async def test_what_was_printed_before_an_error_is_kept() -> None:
    assert (await run_program("print('so far')\n1 / 0", {})).printed == "so far\n"


@pytest.mark.parametrize("program", ["await wait()", "import asyncio\nwhile True: pass"])
async def test_cancelling_a_program_ends_it_and_its_calls(program: str) -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    task = asyncio.create_task(run_program(program, {"wait": wait}, ProgramLimits(run_s=60)))
    if "wait()" in program:
        await begun.wait()
    else:
        await asyncio.sleep(0.2)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    assert task.cancelled()
    assert ended.is_set() == ("wait()" in program)


async def test_what_is_no_exception_ends_the_program_and_leaves_it() -> None:
    class Waiting(BaseException):
        pass

    async def ask() -> str:
        raise Waiting("may I?")

    with pytest.raises(Waiting, match="may I"):
        await run_program("try:\n  await ask()\nexcept Exception:\n  pass", {"ask": ask})


@settings(max_examples=25, deadline=None)
@given(program=st.text(max_size=200))
def test_any_text_has_an_outcome(program: str) -> None:
    outcome = asyncio.run(run_program(program, FUNCTIONS, TIGHT))
    assert (outcome.why == "done") == (outcome.error == "")


def test_python_ends_in_peace_after_a_program(tmp_path: Path) -> None:
    script = tmp_path / "once.py"
    script.write_text(
        "import asyncio\n"
        "from kickwheel.agents.tools.monty import run_program\n"
        "print(asyncio.run(run_program('6 * 7', {})).value)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert ended.stdout == "42\n"
