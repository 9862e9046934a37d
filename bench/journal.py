"""What keeping a run costs: CPU a step and a run, beside the same work that is not kept.

    python bench/journal.py [RUNS] [POSTGRES_URL]

Each run has three steps with arguments and results of 1 KB, as between a model and a tool; the
process's own CPU time is counted, the journal's thread included. Rounds of each kind alternate.
Steps that take no time are written together with their run; those of 30 ms are written one by one,
begun and done.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from kickwheel.agents.durable import steps
from kickwheel.agents.keeper import Keeper
from kickwheel.core.store import open_store

ROUNDS = 5
STEPS = 3
TEXT = "x" * 1000


async def do() -> str:
    await asyncio.sleep(0)
    return TEXT


async def work() -> str:
    for number in range(STEPS):
        await steps().step(f"step {number}", {"messages": TEXT}, do, str)
    return TEXT


async def slow() -> str:
    async def asked() -> str:
        await asyncio.sleep(0.03)
        return TEXT

    for number in range(STEPS):
        await steps().step(f"step {number}", {"messages": TEXT}, asked, str)
    return TEXT


async def once() -> str:
    for number in range(STEPS):
        await steps().step(f"step {number}", {"messages": TEXT}, do, str, effects="once")
    return TEXT


async def measure(
    keeper: Keeper,
    runs: int,
    sessions: int,
    kept: bool,
    what: Callable[[], Awaitable[str]],
    key: str,
) -> tuple[float, float]:
    """CPU and wall milliseconds a run."""
    left = iter(range(runs))

    async def session() -> None:
        for number in left:
            if kept:
                named = f"{key}-{number}" if key else ""
                await keeper.run(what, str, agent="a", asked={"messages": TEXT}, key=named)
            else:
                await what()

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(session() for _ in range(sessions)))
    await keeper._runs.writer.written("")
    return (time.process_time() - cpu) / runs * 1e3, (time.perf_counter() - wall) / runs * 1e3


async def main(runs: int, url: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder), url) as store:
        async with Keeper(store) as keeper:
            load = os.getloadavg()[0]
            print(f"{runs} runs of {STEPS} steps a round, {ROUNDS} rounds, load {load:.1f}")
            print(f"on {'Postgres' if url else 'SQLite'}; ms a run: median [lowest, highest]")
            cases = {
                f"{name}, {sessions} sessions": (sessions, kept, what, key, share)
                for sessions in (1, 64)
                for name, kept, what, key, share in (
                    ("not kept", False, work, "", 1),
                    ("kept", True, work, "", 1),
                    ("not kept, steps of 30 ms", False, slow, "", 1 if sessions > 1 else 10),
                    ("kept, steps of 30 ms", True, slow, "", 1 if sessions > 1 else 10),
                    ("kept under a key", True, work, "k", 1),
                    ("kept, calls made once", True, once, "", 10),
                )
            }
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
            for round_ in range(ROUNDS):
                for name, (sessions, kept, what, key, share) in cases.items():
                    named = key and f"{key}{round_}{sessions}"
                    result = await measure(keeper, runs // share, sessions, kept, what, named)
                    found[name].append(result)
            for name, results in found.items():
                cpu, wall = ([r[i] for r in results] for i in (0, 1))
                print(f"{name:36} CPU {told(cpu)}   wall {told(wall)}")


def told(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


if __name__ == "__main__":
    given = sys.argv[1:]
    asyncio.run(main(int(given[0]) if given else 500, given[1] if len(given) > 1 else None))
