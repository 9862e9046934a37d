"""The same agent work on kickwheel, its peers and the least code that does it, interleaved.

    python bench/agents/run.py [--requests 300] [--rounds 2] [--delays 0 50] [--peers FOLDER]

The work: two calls of a model that costs nothing (`stub.py`), one tool between them. Once in
process, once over HTTP where a contestant serves; 1, 16, 64 and 256 sessions; streamed and not.
CPU is that of the contestant's own process, by the kernel's count; each figure is the median of the
rounds with its extremes.

Peers are not installed by kickwheel: each has a virtual environment `FOLDER/NAME`, made by
`--install`. A peer whose environment is missing is named as not measured.
"""

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

HERE = Path(__file__).parent
CONTESTANTS = HERE / "contestants"
QUESTION = "What is the weather in Oslo?"
PEERS = {
    "langgraph_agent": ("lg", "langgraph>=1.2 langchain>=1.5 langchain-openai>=1.7"),
    "pydantic_ai_agent": ("pai", "pydantic-ai-slim[openai]>=2.60"),
    "openai_agents": ("oai", "openai-agents>=0.24"),
    "nat": ("nat", "nvidia-nat[langchain]>=1.9 greenlet"),
}
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300, help="Of each measurement.")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sessions", type=int, nargs="*", default=[1, 16, 64, 256])
    parser.add_argument("--delays", type=float, nargs="*", default=[0, 50], help="ms a model call.")
    parser.add_argument("--peers", type=Path, default=Path.home() / ".cache/kickwheel/peers")
    parser.add_argument("--install", action="store_true", help="Make the peers' environments.")
    parser.add_argument("--soak", type=int, default=0, help="Requests of one long run of ours.")
    asked = parser.parse_args()
    if asked.install:
        install(asked.peers)
    print(json.dumps(machine()), flush=True)
    pythons = found(asked.peers)
    for name in PEERS:
        if name not in pythons:
            print(f"not measured, its environment is missing: {name} (--install makes it)")
    for delay in asked.delays:
        with stub(delay) as url:
            inside(asked, pythons, url, delay)
            asyncio.run(behind_http(asked, pythons, url, delay))
    if asked.soak:
        with stub(0) as url, our_server(pythons["ours"], url) as (port, pid):
            asyncio.run(soaked(port, pid, asked.soak))


def machine() -> dict[str, Any]:
    """What the figures hang on."""
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": load(),
    }


def load() -> float:
    return round(os.getloadavg()[0], 2)


def install(folder: Path) -> None:
    """The peers' environments; those that are there stay."""
    for name, packages in PEERS.values():
        if not (folder / name / ".ok").exists():
            subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
            pip = [folder / name / "bin/pip", "install", "-q", *packages.split()]
            subprocess.run(pip, check=True)
            (folder / name / ".ok").touch()


def found(folder: Path) -> dict[str, str]:
    """The interpreter of each contestant that can be measured."""
    own = {"floor": sys.executable, "ours": sys.executable}
    there = {n: folder / e / "bin/python" for n, (e, _) in PEERS.items()}
    return {**own, **{n: str(python) for n, python in there.items() if python.exists()}}


@contextlib.contextmanager
def stub(delay_ms: float) -> Iterator[str]:
    """The URL of a running stub."""
    command = [sys.executable, str(HERE / "stub.py"), str(delay_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            yield run.stdout.readline().strip()
        finally:
            run.terminate()


def inside(asked: argparse.Namespace, pythons: dict[str, str], url: str, delay: float) -> None:
    """Every contestant in process."""
    names = [name for name in pythons if name != "nat"]
    for sessions in asked.sessions:
        for stream in (False, True):
            rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for _ in range(asked.rounds):
                for name in names:
                    row = measured_inside(
                        pythons[name], name, url, asked.requests, sessions, stream=stream
                    )
                    rows[name].append(row)
            how = "streamed" if stream else "whole"
            show(f"in process, {sessions} sessions, {how}, {delay:g} ms a model call", rows)


def measured_inside(
    python: str, name: str, url: str, requests: int, sessions: int, *, stream: bool
) -> dict[str, float]:
    command = [python, str(HERE / "inside.py"), name, url, str(requests), str(sessions)]
    command += ["stream"] if stream else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-2000:]}")
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


async def behind_http(
    asked: argparse.Namespace, pythons: dict[str, str], url: str, delay: float
) -> None:
    """Those that serve, behind HTTP."""
    servers = {name: start for name, start in SERVERS.items() if name in pythons}
    with contextlib.ExitStack() as stack:
        ports = {
            name: stack.enter_context(start(pythons[name], url)) for name, start in servers.items()
        }
        for port, _ in ports.values():
            await warm(port)
        for sessions in asked.sessions:
            for stream in (False, True):
                rows: dict[str, list[dict[str, float]]] = {name: [] for name in ports}
                for _ in range(asked.rounds):
                    for name, (port, pid) in ports.items():
                        rows[name].append(
                            await measured(port, pid, asked.requests, sessions, stream)
                        )
                how = "streamed" if stream else "whole"
                show(f"behind HTTP, {sessions} sessions, {how}, {delay:g} ms a model call", rows)


async def warm(port: int) -> None:
    """Waits until the server answers, and warms it up."""
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            with contextlib.suppress(aiohttp.ClientError):
                await one(session, port, stream=False)
                break
            await asyncio.sleep(0.1)
        for _ in range(20):
            await one(session, port, stream=True)
            await one(session, port, stream=False)


async def one(session: aiohttp.ClientSession, port: int, *, stream: bool) -> float:
    """Seconds of one request; its answer must be the stub's."""
    started = time.perf_counter()
    message = {"role": "user", "content": QUESTION}
    body = {"model": "desk", "messages": [message], "stream": stream}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with session.post(url, json=body) as response:
        said = await response.read()
    if response.status != 200 or b"sunny" not in said:
        raise RuntimeError(f"{response.status}: {said[:300]!r}")
    return time.perf_counter() - started


async def measured(
    port: int, pid: int, requests: int, sessions: int, stream: bool
) -> dict[str, float]:
    took: list[float] = []
    left = iter(range(requests))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for _ in left:
                took.append(await one(session, port, stream=stream))

        cpu, wall = cpu_s(pid), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(sessions)))
        wall = time.perf_counter() - wall
    took.sort()
    return {
        "rps": requests / wall,
        "cpu_ms": 1000 * (cpu_s(pid) - cpu) / requests,
        "p50_ms": 1000 * took[len(took) // 2],
        "p99_ms": 1000 * took[int(len(took) * 0.99)],
        "rss_mb": rss_mb(pid),
    }


async def soaked(port: int, pid: int, requests: int) -> None:
    """One long run of our server, and what its memory grew by after a first fiftieth."""
    await warm(port)
    await measured(port, pid, requests // 50, 64, stream=False)
    begun = rss_mb(pid)
    for tenth in range(1, 11):
        row = await measured(port, pid, requests // 10, 64, stream=False)
        print(
            f"soak: {tenth * requests // 10:,} requests, {row['rss_mb']:.1f} MB, grown by "
            f"{row['rss_mb'] - begun:+.1f}, {row['cpu_ms']:.2f} ms CPU each, load {load()}",
            flush=True,
        )


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], folder: Path) -> Iterator[int]:
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


@contextlib.contextmanager
def our_server(python: str, url: str) -> Iterator[tuple[int, int]]:
    sys.path.insert(0, str(CONTESTANTS))
    from ours import written

    port, program = free_port(), str(Path(python).with_name("kickwheel"))
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "serve", str(written(Path(folder), url)), "--port", str(port)]
        with running(command, Path(folder)) as pid:
            yield port, pid


@contextlib.contextmanager
def floor_server(python: str, url: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [python, str(CONTESTANTS / "floor_server.py"), url, str(port)]
    with running(command, CONTESTANTS) as pid:
        yield port, pid


@contextlib.contextmanager
def nat_server(python: str, url: str) -> Iterator[tuple[int, int]]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = (CONTESTANTS / "nat.yml").read_text()
        file = Path(folder) / "nat.yml"
        file.write_text(config.replace("URL", url).replace("PORT", str(port)))
        command = [str(Path(python).with_name("nat")), "serve", "--config_file", str(file)]
        with running(command, Path(folder)) as pid:
            yield port, pid


SERVERS = {"floor": floor_server, "ours": our_server, "nat": nat_server}


def show(title: str, rows: dict[str, list[dict[str, float]]]) -> None:
    """A table of medians and extremes."""
    print(f"\n{title} (load {load()})")
    print(f"{'':18}{'requests/s':>24}{'CPU ms a request':>26}{'p50 ms':>9}{'p99 ms':>9}{'MB':>6}")
    for name, found_ in rows.items():

        def of(key: str, rows_: list[dict[str, float]] = found_) -> list[float]:
            return [row[key] for row in rows_]

        rps, cpu = of("rps"), of("cpu_ms")
        print(
            f"{name:18}{statistics.median(rps):9.0f} [{min(rps):5.0f}, {max(rps):5.0f}]"
            f"{statistics.median(cpu):12.2f} [{min(cpu):5.2f}, {max(cpu):5.2f}]"
            f"{statistics.median(of('p50_ms')):9.1f}{statistics.median(of('p99_ms')):9.1f}"
            f"{max(of('rss_mb')):6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
