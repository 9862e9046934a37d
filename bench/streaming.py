"""What our server costs on top of the llama.cpp server behind it, streaming.

    python bench/streaming.py [--pairs 40] [--tokens 64] [--threads 1]

One llama.cpp process, asked in turns: directly (`/completion`, the same prompt text), and through
`/v1/chat/completions` of our server, trace and all, which asks that very process. Nothing is read
from a cache. Printed are medians and quartiles of the time to the first token and of tokens a
second, the median of the paired differences, and the CPU time that our server's process took,
as a share of the answers' time: that last figure is the least touched by a busy machine.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp

from kickwheel.models.sse import Events

QUESTION = "Tell me of number {number}: a long story of a wheel that turns by its own momentum."
APP = "models:\n  base: {{kind: local, base: smollm2-135m, threads: {threads}}}\n"


@dataclass(frozen=True)
class Answer:
    """What one streamed answer took."""

    first_s: float
    total_s: float
    tokens: int

    @property
    def rate(self) -> float:
        """Tokens a second after the first."""
        return (self.tokens - 1) / (self.total_s - self.first_s)


async def stream(session: aiohttp.ClientSession, url: str, body: Any, key: str) -> Answer:
    """Asks, and reads to the end."""
    started = time.perf_counter()
    first, tokens, events = 0.0, 0, Events()
    headers = {"Authorization": f"Bearer {key}"}
    async with session.post(url, json=body, headers=headers) as response:
        response.raise_for_status()
        async for chunk in response.content.iter_any():
            for data in events.feed(chunk):
                if data == b"[DONE]":
                    continue
                piece = json.loads(data)
                if "choices" in piece:
                    has = any(choice["delta"].get("content") for choice in piece["choices"])
                else:
                    has = bool(piece.get("content"))
                if has:
                    first = first or time.perf_counter() - started
                    tokens += 1
    return Answer(first, time.perf_counter() - started, tokens)


async def serve_here(folder: Path) -> None:
    """The process of our server: prints where it and its engine are, and serves until stopped."""
    from kickwheel.app import open_app
    from kickwheel.serve.opened import opened
    from kickwheel.serve.server import Front, serve

    async with open_app(folder / "app.yml") as app, opened(app) as house:
        engine = app.live["models", "base"].engine
        async with engine.lease(None) as generation:
            process = generation.process
        front = Front(house, app.store, app.traces, app.recorder)

        def ready(url: str) -> None:
            line = {"ours": url, "bare": process.url, "key": process.key}
            print(json.dumps(line), flush=True)

        await serve(front, "127.0.0.1", 0, on_ready=ready)


def cpu_s(pid: int) -> float:
    """CPU time that a process has taken, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spread(values: Sequence[float], unit: str, digits: int = 1) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f} {unit} [{low:.{digits}f}, {high:.{digits}f}]"


async def measure(folder: Path, pairs: int, tokens: int, threads: int) -> None:
    """One interleaved run."""
    (folder / "app.yml").write_text(APP.format(threads=threads))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--serve", str(folder)), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    where = json.loads(await child.stdout.readline())
    bare: list[Answer] = []
    ours: list[Answer] = []
    used_s = 0.0
    try:
        connector = aiohttp.TCPConnector(force_close=True)  # llama.cpp closes them anyway
        async with aiohttp.ClientSession(connector=connector) as session:
            for number in range(pairs + 2):
                question = QUESTION.format(number=number)
                prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
                limits = {"temperature": 0, "cache_prompt": False, "stream": True}
                direct = {**limits, "prompt": prompt, "n_predict": tokens, "ignore_eos": False}
                message = {"role": "user", "content": question}
                through = {**limits, "model": "base", "messages": [message], "max_tokens": tokens}

                async def ask_ours(body: Any = through) -> tuple[Answer, float]:
                    before = cpu_s(child.pid)
                    url = f"{where['ours']}/v1/chat/completions"
                    answer = await stream(session, url, body, "")
                    return answer, cpu_s(child.pid) - before

                async def ask_bare(body: Any = direct) -> Answer:
                    return await stream(session, f"{where['bare']}/completion", body, where["key"])

                # Who comes first alternates: what a busy machine gives one it gives the other.
                if number % 2:
                    one, (two, cpu) = await ask_bare(), await ask_ours()
                else:
                    (two, cpu), one = await ask_ours(), await ask_bare()
                if number >= 2:  # the first two warm up
                    bare.append(one)
                    ours.append(two)
                    used_s += cpu
    finally:
        child.terminate()
        await child.wait()
    assert [a.tokens for a in bare] == [a.tokens for a in ours], "the prompts must be the same"
    report(bare, ours, used_s)


def report(bare: Sequence[Answer], ours: Sequence[Answer], used_s: float) -> None:
    """Prints the comparison."""
    for name, answers in (("bare", bare), ("ours", ours)):
        first = spread([a.first_s * 1000 for a in answers], "ms")
        rate = spread([a.rate for a in answers], "tokens/s")
        print(f"{name}  first token {first}   {rate}   n = {len(answers)}")
    pairs = list(zip(bare, ours, strict=True))
    later = statistics.median([(o.first_s - b.first_s) * 1000 for b, o in pairs])
    longer = statistics.median([o.total_s / b.total_s - 1 for b, o in pairs])
    total_s = sum(o.total_s for o in ours)
    tokens = sum(o.tokens for o in ours)
    print(f"paired: first token {later:+.1f} ms, whole answer {longer:+.1%}")
    print(
        f"our process: {used_s / total_s:.2%} of the answers' time "
        f"({used_s / tokens * 1e6:.0f} µs CPU a token, tokens of {total_s / tokens * 1e3:.1f} ms)"
    )


def main() -> None:
    """Measures, and says on what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve is not None:
        from kickwheel.serve.server import loop_factory

        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve_here(asked.serve))
        return
    versions = ", ".join(f"{p} {version(p)}" for p in ("kickwheel", "xllamacpp", "aiohttp"))
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{versions}; load {os.getloadavg()[0]:.1f}; {asked.threads} engine threads")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder), asked.pairs, asked.tokens, asked.threads))
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
