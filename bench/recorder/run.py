"""What the recorder costs beside a bare aiohttp proxy.

    python bench/recorder/run.py [--sessions 1 16 64 256] [--rounds 12] [--rate 200]

Three processes: an upstream that costs little, `kickwheel serve --record`, and a proxy of a few
lines of aiohttp, each with uvloop. The same client asks one and the other in turns, round by round,
whole and streamed, with so many sessions at once; each request has a conversation of its own of
2 kB, and six tools. The upstream thinks so long that `--rate` requests a second come to pass. With
`--rate 0` it does not think, and what is measured is a machine at its limit, where most of the
latency is waiting for the processor.

Printed are the latency (of a stream also to its first byte), and the CPU time that the
proxy's process took for a request, the recorder's thread and its store among it: medians over
rounds, and in brackets the quartiles of their differences.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import aiohttp
import uvloop

HERE = Path(__file__).parent
TEXT = "The parcel was to come on Monday and nobody has seen it since it left the depot in Oslo. "
NUMBER = "#00000"
"""Stands in every message but the system's, and differs from request to request."""


@dataclass
class Taken:
    """What the requests of one proxy took, in milliseconds."""

    latency: list[list[float]] = field(default_factory=list)
    """Each request's, a list a round; so too the next."""
    first: list[list[float]] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """A request's share, a figure a round."""


def body(stream: bool) -> bytes:
    """A request as an agent makes it."""
    messages = [{"role": "system", "content": TEXT * 8}]
    for turn in range(6):
        messages.append({"role": "user", "content": f"{turn} of {NUMBER}: {TEXT}"})
        messages.append({"role": "assistant", "content": f"{NUMBER}: {TEXT}"})
    messages.append({"role": "user", "content": f"Where is {NUMBER} now?"})
    parameters = {"type": "object", "properties": {"parcel": {"type": "string"}}}
    tools = [
        {
            "type": "function",
            "function": {"name": f"tool_{i}", "description": TEXT, "parameters": parameters},
        }
        for i in range(6)
    ]
    return json.dumps(
        {"model": "stub", "messages": messages, "tools": tools, "stream": stream}
    ).encode()


def cpu_ms(pid: int) -> float:
    """CPU time that a process has taken, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


async def ask(
    session: aiohttp.ClientSession, url: str, data: bytes, think_ms: float, taken: Taken
) -> None:
    """One request, read to its end."""
    headers = {"content-type": "application/json", "authorization": "Bearer none"}
    if think_ms:
        headers["x-think-ms"] = f"{think_ms:.0f}"
    started = time.perf_counter()
    async with session.post(url, data=data, headers=headers) as got:
        await got.content.readany()
        first = time.perf_counter()
        while not got.content.at_eof():
            await got.content.readany()
        assert got.status == 200
    ended = time.perf_counter()
    taken.latency[-1].append((ended - started) * 1e3)
    taken.first[-1].append((first - started) * 1e3)


async def round_of(
    url: str, pid: int, data: bytes, sessions: int, requests: int, rate: float, taken: Taken
) -> None:
    """So many requests, from so many sessions at once."""
    taken.latency.append([])
    taken.first.append([])
    left = iter(range(requests))
    think_ms = 1e3 * sessions / rate if rate else 0.0
    connector = aiohttp.TCPConnector(limit=0)

    async def one(session: aiohttp.ClientSession, place: int) -> None:
        # Not all at the same moment: sessions are people's.
        await asyncio.sleep(think_ms / 1e3 * place / sessions)
        for number in left:
            asked = data.replace(NUMBER.encode(), b"#%05d" % number)
            await ask(session, f"{url}/chat/completions", asked, think_ms, taken)

    async with aiohttp.ClientSession(connector=connector) as session:
        before = cpu_ms(pid)
        await asyncio.gather(*(one(session, place) for place in range(sessions)))
        await asyncio.sleep(0.2)  # What is written later belongs to it.
        taken.cpu.append((cpu_ms(pid) - before) / requests)


@contextmanager
def process(*command: str, folder: str) -> Iterator[tuple[str, int]]:
    """A server by its URL and process id."""
    started = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        assert started.stdout is not None
        yield started.stdout.readline().split(" ")[0].strip(), started.pid
    finally:
        started.terminate()
        print(*started.communicate()[0].splitlines())


async def measure(asked: argparse.Namespace, folder: str) -> None:
    """All of it, a line for each number of sessions."""
    with (
        process(sys.executable, str(HERE / "upstream.py"), folder=folder) as (upstream, _),
        process(sys.executable, str(HERE / "bare.py"), upstream, folder=folder) as bare,
        process(
            *(sys.executable, "-m", "kickwheel", "serve", "--port", "0", f"--record={upstream}"),
            folder=folder,
        ) as ours,
    ):
        served = {"bare": bare, "ours": (ours[0].replace("PROJECT", "bench"), ours[1])}
        for stream in (False, True):
            data = body(stream)
            print(f"{'streamed' if stream else 'whole'}, requests of {len(data)} bytes")
            for sessions in asked.sessions:
                taken = {name: Taken() for name in served}
                for url, pid in served.values():
                    await round_of(url, pid, data, sessions, max(50, sessions), 0, Taken())
                for number in range(asked.rounds):
                    order = list(served) if number % 2 else list(reversed(served))
                    count = max(asked.requests, 2 * sessions)
                    for name in order:
                        await round_of(
                            *served[name], data, sessions, count, asked.rate, taken[name]
                        )
                told(sessions, taken, stream)


def told(sessions: int, taken: dict[str, Taken], stream: bool) -> None:
    """Prints the comparison, each round of one with the round of the other beside it."""
    bare, ours = taken["bare"], taken["ours"]
    line = f"  {sessions:4} at once: p50 {_medians(bare.latency, ours.latency)}"
    if stream:
        line += f", first byte {_medians(bare.first, ours.first)}"
    line += f", CPU {_paired(bare.cpu, ours.cpu, 3)}"
    print(f"{line}; n = {sum(map(len, ours.latency))} each", flush=True)


def _medians(bare: list[list[float]], ours: list[list[float]]) -> str:
    return _paired([*map(statistics.median, bare)], [*map(statistics.median, ours)], 2)


def _paired(bare: list[float], ours: list[float], digits: int) -> str:
    """Medians of the rounds; of their differences the median and the quartiles."""
    more = [one - other for one, other in zip(ours, bare, strict=True)]
    low, middle, high = (f"{one:+.{digits}f}" for one in statistics.quantiles(more, n=4))
    one, other = statistics.median(bare), statistics.median(ours)
    return f"{one:.{digits}f} → {other:.{digits}f} ms ({middle} [{low}, {high}])"


def main() -> None:
    """Measures, and says on what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--requests", type=int, default=150, help="a round")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--rate", type=float, default=200)
    asked = parser.parse_args()
    names = ", ".join(f"{p} {version(p)}" for p in ("kickwheel", "aiohttp", "uvicorn", "uvloop"))
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{names}; load {os.getloadavg()[0]:.1f}; {asked.rate:g} requests a second")
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(measure(asked, folder))
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
