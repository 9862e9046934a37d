"""One contestant in a process of its own, without HTTP in front: prints what it took as JSON.

python inside.py CONTESTANT URL REQUESTS SESSIONS [stream]
"""

import asyncio
import importlib
import json
import resource
import sys
import time
from pathlib import Path


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def main() -> None:
    name, url, requests, sessions = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    stream = "stream" in sys.argv[5:]
    sys.path.insert(0, str(Path(__file__).parent / "contestants"))
    started = time.perf_counter()
    contestant = importlib.import_module(name)
    took: list[float] = []
    async with contestant.opened(url, stream) as ask:
        await ask("What is the weather in Oslo?")
        start_s = time.perf_counter() - started
        for _ in range(20):
            await ask("What is the weather in Oslo?")
        left = iter(range(requests))

        async def session() -> None:
            for _ in left:
                begun = time.perf_counter()
                said = await ask("What is the weather in Oslo?")
                took.append(time.perf_counter() - begun)
                assert "sunny" in said, said

        memory, cpu, wall = rss_mb(), cpu_s(), time.perf_counter()
        await asyncio.gather(*(session() for _ in range(sessions)))
        wall, cpu = time.perf_counter() - wall, cpu_s() - cpu
    took.sort()
    print(
        json.dumps(
            {
                "rps": requests / wall,
                "cpu_ms": 1000 * cpu / requests,
                "p50_ms": 1000 * took[len(took) // 2],
                "p99_ms": 1000 * took[int(len(took) * 0.99)],
                "start_s": start_s,
                "rss_mb": rss_mb(),
                "grown_mb": rss_mb() - memory,
            }
        )
    )


asyncio.run(main())
