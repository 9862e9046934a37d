"""How fast OTLP comes in, and how fast a large trace opens.

    python bench/otlp.py [--traces 8160] [--spans 33000]

Through the real server in a process of its own, on a store in a temporary folder, on disk:

ingest   spans a second, in requests of 512 spans in protobuf, gzipped, one after the other and four
         at once, with the server's CPU time; each of an agent with two model calls, a tool and a
         guard, as in bench/ingest.py
late     the same, where the spans of each trace come in five requests, children first
large    one trace of so many spans that comes in requests of 512, shuffled; then its root, a page
         of 100 of a level, and a page of the widest level, by GET /v1/traces/{id}
"""

import argparse
import asyncio
import gzip
import os
import platform
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parent))
from ingest import SPANS, generated, show
from kickwheel.records import Span, Trace
from kickwheel.trace.otlp import protobuf
from kickwheel.trace.otlp.write import write

REQUEST = 510
"""Spans of one request: whole traces of five."""


def bodies(traces: Sequence[Trace]) -> list[bytes]:
    """Requests with whole traces."""
    step = REQUEST // SPANS
    return [
        gzip.compress(protobuf.write(write(traces[first : first + step])), 1)
        for first in range(0, len(traces), step)
    ]


def late(traces: Sequence[Trace]) -> list[bytes]:
    """Requests with the last span of each trace, then with those before, the roots at the end."""
    pieces = [
        replace(trace, spans=trace.spans[n : n + 1])
        for n in reversed(range(SPANS))
        for trace in traces
    ]
    return [
        gzip.compress(protobuf.write(write(pieces[first : first + REQUEST])), 1)
        for first in range(0, len(pieces), REQUEST)
    ]


def large(spans: int) -> Trace:
    """A trace as long as an agent's that ran for days: a root, steps below it, calls below those,
    and one step with a third of all."""
    drawn, start = random.Random(1), time.time_ns()
    (some,) = generated(1)
    made = [replace(some.spans[0], id=f"{1:016x}", parent=None, start_ns=start)]
    for n in range(2, spans + 1):
        above = 2 if n % 3 == 0 and n > 2 else drawn.randrange(1, max(2, n // 8))
        model = replace(some.spans[2], id=f"{n:016x}", parent=f"{above:016x}")
        made.append(replace(model, start_ns=start + n, end_ns=start + 2 * n))
    return replace(some, id="b" * 32, spans=tuple(made))


async def send(url: str, requests: Sequence[bytes], at_once: int) -> float:
    """Seconds that it took."""
    waiting = iter(requests)
    headers = {"content-type": protobuf.CONTENT_TYPE, "content-encoding": "gzip"}

    async def one(session: aiohttp.ClientSession) -> None:
        for body in waiting:
            async with session.post(f"{url}/v1/traces", data=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                assert not await answer.read()

    started = time.perf_counter()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one(session))
    return time.perf_counter() - started


async def opened(url: str, trace: str, repeats: int = 30) -> None:
    """Shows how long the levels of a trace take."""
    async with aiohttp.ClientSession() as session:
        for what, query in {
            "its root": "",
            "100 of the level below": f"?parent={1:016x}",
            "100 of the widest level": f"?parent={2:016x}",
            "1000 of the widest level": f"?parent={2:016x}&limit=1000",
        }.items():
            times = []
            for _ in range(repeats):
                started = time.perf_counter()
                async with session.get(f"{url}/v1/traces/{trace}{query}") as answer:
                    page = await answer.json()
                times.append(1000 * (time.perf_counter() - started))
            times.sort()
            show(
                f"open a trace of {page['spans']:,} spans: {what}",
                f"p50 {times[repeats // 2]:.1f} ms, most {times[-1]:.1f} ms",
                f"n = {repeats}; target at most 300 ms",
            )


def served(folder: str) -> Iterator[tuple[str, int]]:
    """URL and process id of a server in a process of its own."""
    (Path(folder) / "app.yml").write_text("store: store\n")
    command = [sys.executable, "-m", "kickwheel", "serve", folder, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0].removesuffix("/v1"), process.pid
        finally:
            process.terminate()


def cpu_s(process: int) -> float:
    """CPU time that the process took so far, of all its threads; what others do is not in it."""
    told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def shuffled(trace: Trace) -> list[Trace]:
    """The trace in pieces, its spans in any order."""
    spans: list[Span] = list(trace.spans)
    random.Random(2).shuffle(spans)
    return [
        replace(trace, spans=tuple(spans[first : first + REQUEST]))
        for first in range(0, len(spans), REQUEST)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=int, default=8160, help="for each measurement of ingest")
    parser.add_argument("--spans", type=int, default=33_000, help="of the large trace")
    options = parser.parse_args()
    load = os.getloadavg()
    print(
        f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.platform()}, {os.cpu_count()} cores, load {load[0]:.1f} {load[1]:.1f}"
    )
    made = list(generated(3 * options.traces))
    parts = [made[n * options.traces : (n + 1) * options.traces] for n in range(3)]
    with tempfile.TemporaryDirectory(prefix="kickwheel-otlp-") as folder:
        for url, process in served(folder):
            for what, requests, at_once in (
                ("one request at a time", bodies(parts[0]), 1),
                ("four at once", bodies(parts[1]), 4),
                ("spans of a trace in five requests", late(parts[2]), 1),
            ):
                before, spans = cpu_s(process), options.traces * SPANS
                took = asyncio.run(send(url, requests, at_once))
                cost = (cpu_s(process) - before) / spans * 1e6
                show(
                    f"ingest, {what}",
                    f"{spans / took:,.0f} spans/s, {cost:.0f} µs of the server's CPU a span",
                    f"n = {spans:,} spans in {took:.1f} s; target 2,000/s",
                )
            trace = large(options.spans)
            requests = [gzip.compress(protobuf.write(write([p])), 1) for p in shuffled(trace)]
            took = asyncio.run(send(url, requests, 1))
            show("one large trace comes", f"{options.spans / took:,.0f} spans/s", f"{took:.1f} s")
            asyncio.run(opened(url, trace.id))
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
