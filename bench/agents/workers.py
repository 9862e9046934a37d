"""`kickwheel serve --workers N` against one process, interleaved.

    python bench/agents/workers.py [--workers 1 2] [--work 5] [--requests 600] [--rounds 5]

The work is that of `run.py` with a tool that computes for `--work` ms, so that whoever asks and the
stub, which share the machine's cores, take little of them. CPU is that of all the processes of the
server, by the kernel's count; each figure is the median of the rounds with its extremes.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from run import CONTESTANTS, free_port, machine, measured, running, show, stub, warm

sys.path.insert(0, str(CONTESTANTS))
from ours import written

TOOL = '''
import time


def weather(city: str) -> str:
    """The weather in a city."""
    until = time.thread_time() + WORK / 1000
    while time.thread_time() < until:
        pass
    return f"Sunny in {city}."
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--work", type=float, default=5.0, help="ms of CPU that the tool takes.")
    parser.add_argument("--requests", type=int, default=600, help="Of each measurement.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=64)
    asked = parser.parse_args()
    print(json.dumps(machine()), flush=True)
    with stub(0) as url, contextlib.ExitStack() as stack:
        served = {n: stack.enter_context(server(n, asked.work, url)) for n in asked.workers}
        asyncio.run(compared(served, asked))


@contextlib.contextmanager
def server(workers: int, work_ms: float, url: str) -> Iterator[tuple[int, int]]:
    """Port and process of a server of so many workers."""
    port, program = free_port(), str(Path(sys.executable).with_name("kickwheel"))
    with tempfile.TemporaryDirectory() as folder:
        app = written(Path(folder), url)
        (app / "city.py").write_text(TOOL.replace("WORK", str(work_ms)))
        command = [program, "serve", str(app), "--port", str(port), "--workers", str(workers)]
        with running(command, app) as pid:
            yield port, pid


async def compared(served: dict[int, tuple[int, int]], asked: argparse.Namespace) -> None:
    """The rounds, and their table."""
    rows: dict[str, list[dict[str, float]]] = {f"{n} workers": [] for n in served}
    for port, _ in served.values():
        await warm(port)
    for _ in range(asked.rounds):
        for n, (port, pid) in served.items():
            before = cpu_s(pid)
            row = await measured(port, pid, asked.requests, asked.sessions, stream=False)
            row["cpu_ms"] = 1000 * (cpu_s(pid) - before) / asked.requests
            rows[f"{n} workers"].append(row)
    show(f"{asked.sessions} sessions, a tool of {asked.work:g} ms CPU", rows)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all below it so far."""
    server = psutil.Process(pid)
    times = [process.cpu_times() for process in (server, *server.children(recursive=True))]
    return sum(one.user + one.system for one in times)


if __name__ == "__main__":
    main()
