"""Work of a scripted agent in a process of its own, killed where it is told to be.

    python scripted.py FOLDER URL KILL_AT      (URL may be empty: SQLite; KILL_AT 0: never)

Every act (a model asked, a tool called) appends a line to FOLDER/acts. The process kills itself
with SIGKILL at the moment KILL_AT, counted over all moments: before a step, as it acts, after it
acted, after it was done. It prints the run's answer, or `waiting: QUESTION`.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from kickwheel.agents.caller import idempotency_key
from kickwheel.agents.durable import Waiting, person, steps
from kickwheel.agents.keeper import Keeper
from kickwheel.core.store import open_store

moment = 0


def passed(kill_at: int) -> None:
    """One more moment at which the process might be killed."""
    global moment
    moment += 1
    if moment == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def work(folder: Path, kill_at: int) -> Callable[[], Awaitable[str]]:
    """A model, two agents at once with a tool each, a call that must not be made twice, a person,
    and the model again."""

    async def act(name: str, effects: Any = "none", seconds: float = 0.0) -> str:
        async def do() -> str:
            passed(kill_at)
            await asyncio.sleep(seconds)
            with (folder / "acts").open("a") as acts:
                key = "" if effects == "none" else f" {idempotency_key()}"
                acts.write(f"{name}{key}\n")
            passed(kill_at)
            return name.upper()

        passed(kill_at)
        result = await steps().step(name, {"of": name}, do, str, effects=effects)
        passed(kill_at)
        return result

    async def agent(name: str, seconds: float) -> str:
        async def do() -> str:
            first = await act(f"{name}-model", seconds=seconds)
            return first + await act(f"{name}-tool", "repeatable")

        return await steps().step(f"agent {name}", name, do, str)

    async def whole() -> str:
        said = [await act("plan")]
        async with asyncio.TaskGroup() as group:
            both = [group.create_task(agent("a", 0.01)), group.create_task(agent("b", 0.0))]
        said += [task.result() for task in both]
        said.append(await act("pay", "once"))
        passed(kill_at)
        said.append(await person("Ship it?", ("yes", "no")))
        passed(kill_at)
        said.append(await act("answer"))
        return " ".join(said)

    return whole


async def main(folder: Path, url: str, kill_at: int) -> None:
    with open_store(folder, url or None) as store:
        async with Keeper(store, lease_s=1.0) as keeper:
            try:
                print(
                    await keeper.run(
                        work(folder, kill_at), str, agent="desk", asked="ship", key="order-1"
                    )
                )
            except Waiting as waiting:
                for question in waiting.questions:
                    print(f"waiting: {question.text}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
