"""How long curation takes: 100 traces from a cold start, and many.

    python bench/curate.py [MANY]        (100,000 by default; about two minutes)

Prints machine, load and versions beside each figure. The many are support tickets of few templates,
the hardest case for finding near-duplicates: every ticket is a little like thousands of others.
"""

import hashlib
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kickwheel.records import Trace

sys.path.insert(0, str(Path(__file__).parents[1]))

COLD = """
import time
began = time.perf_counter()
from kickwheel.flywheel.curate import Options, curate
from kickwheel.records import Trace, wire
import sys
traces = [wire.from_bytes(line, Trace) for line in sys.stdin.buffer]
dataset = curate(traces, Options(name="cold"))
print(
    f"{len(dataset.examples)} examples, {time.perf_counter() - began:.2f} s, "
    f"{time.process_time():.2f} s of CPU with Python's start"
)
"""


def main() -> None:
    """Runs both and prints what they took."""
    from importlib.metadata import version

    from kickwheel.flywheel.curate import Options, curate
    from kickwheel.records import wire

    many = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python ", end="")
    print(f"{platform.python_version()}, numpy {version('numpy')}")
    lines = b"\n".join(wire.to_bytes(trace) for trace in traces(100))
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COLD], input=lines, capture_output=True, check=True
        )
        taken.append((time.perf_counter() - began, done.stdout.decode().strip()))
    whole, inside = min(taken)
    print(f"100 traces, cold: {inside}, {whole:.2f} s in all, load {load()}")
    began = time.perf_counter()
    dataset = curate(traces(many), Options(name="many", test=min(1000, many // 5)))
    seconds, worked = time.perf_counter() - began, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{many} traces: {seconds:.1f} s, {worked:.0f} s of CPU, {peak:.0f} MB at most, "
        f"load {load()}"
    )
    for step in dataset.steps:
        print(f"  {step.name}: {step.kept} {dict(step.dropped)}")
    sides = [len(dataset.part(side)) for side in ("train", "validation", "test")]  # type: ignore[arg-type]
    print(f"  {sides}, {len({e.cluster for e in dataset.examples})} clusters")


def traces(count: int) -> Iterator["Trace"]:
    """Tickets as traces, made one at a time."""
    from tests.support_tickets import tickets

    from kickwheel.records import Message, Span, Trace

    for line in tickets(count):
        system, asked, answer = (Message(**message) for message in line["messages"])
        identity = hashlib.sha256((asked.content or "").encode()).hexdigest()
        span = Span(
            id=identity[:16], kind="model", name="m", start_ns=0, end_ns=1,
            input=(system, asked), output=(answer,),
        )  # fmt: skip
        yield Trace(id=identity[:32], workload="tickets", spans=(span,))


def load() -> str:
    """The machine's load over one minute."""
    return f"{os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
