"""What recording costs, and how fast traces go in and come out.

    python bench/ingest.py [--spans 1000000] [--seconds 20]

Three measurements in one run, on a store of its own in a temporary folder, on disk:

cost     CPU time a span, recording and writer together (`time.process_time`), in rounds that
         alternate with the same work unrecorded; the difference is printed, median and worst round
ingest   spans written a second, sustained, from one thread that does nothing else
list     the newest 50 traces, a page further back, and one workload's, at so many spans

A trace is an agent's: agent, 2 model calls, 1 tool, 1 guard, with a concierge's texts and tools.
"""

import argparse
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kickwheel.core.store import open_store
from kickwheel.records import Message, Span, ToolCall, ToolSpec, Trace, genai
from kickwheel.trace.record import Recorder, span
from kickwheel.trace.store import Traces

SPANS = 5
"""Of one trace."""
WORKLOADS = ("concierge", "desk", "triage", "support")

TOOLS = tuple(
    ToolSpec(
        name=f"Services_{number}_Find",
        description="Finds what fits near a place on a day, cheapest first, with what is left.",
        parameters={
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city, as in “New York, NY”."},
                "date": {"type": "string", "description": "The day, as in 2023-03-25."},
                "seats": {"type": "integer", "description": "How many people come."},
            },
            "required": ["city", "date"],
        },
    )
    for number in range(4)
)


def question(number: int) -> tuple[Message, ...]:
    text = f"Find me a table for {number % 7} in San Jose on March {number % 28} at 7 pm, please."
    return (
        Message(role="system", content="You find and book services. Call a tool; never guess."),
        Message(role="user", content=text),
    )


def call(number: int) -> Message:
    arguments = f'{{"city": "San Jose, CA", "date": "2023-03-{number % 28}", "seats": 4}}'
    made = ToolCall(id="call_0", name=TOOLS[number % 4].name, arguments=arguments)
    return Message(role="assistant", tool_calls=(made,))


ANSWER = Message(role="assistant", content="There is a table at Ciao at 7 pm. Shall I book it?")
RESULT = Message(role="tool", tool_call_id="call_0", content='{"name": "Ciao", "seats_left": 6}')


def request(recorder: Recorder | None, number: int) -> None:
    """What one request does, recorded or not."""
    asked, made = question(number), call(number)
    if recorder is None:
        return
    with recorder.trace(WORKLOADS[number % 4], "concierge") as root:
        root.input = asked
        with span("guard", "jailbreak") as guard:
            guard.attributes["kickwheel.guard.action"] = "pass"
        with span("model", "specialist") as model:
            model.input, model.tools, model.output = asked, TOOLS, (made,)
            model.attributes.update(attributes(number))
        with span("tool", made.tool_calls[0].name) as tool:
            tool.attributes[genai.TOOL_NAME] = made.tool_calls[0].name
            tool.input, tool.output = (made,), (RESULT,)
        with span("model", "specialist") as model:
            model.input, model.tools, model.output = (*asked, made, RESULT), TOOLS, (ANSWER,)
            model.attributes.update(attributes(number))
        root.output = (ANSWER,)


def attributes(number: int) -> dict[str, str | int | float | bool | list[str]]:
    return {
        genai.OPERATION: "chat",
        genai.REQUEST_MODEL: "specialist",
        genai.RESPONSE_MODEL: "smollm2-135m+3f2a",
        genai.INPUT_TOKENS: 35 + number % 9,
        genai.OUTPUT_TOKENS: 30,
        genai.FINISH_REASONS: ["tool_calls"],
        genai.TIME_TO_FIRST_CHUNK_S: 0.21,
    }


def measure_cost(recorder: Recorder, rounds: int = 7, traces: int = 1000) -> None:
    costs = []
    for n in range(rounds):
        spent = []
        for recording in (recorder, None) if n % 2 else (None, recorder):
            started = time.process_time()
            for number in range(traces):
                request(recording, number)
            recorder.flush()
            spent.append((recording is not None, time.process_time() - started))
        with_, without = (next(s for r, s in spent if r is on) for on in (True, False))
        costs.append((with_ - without) / traces / SPANS * 1e6)
    show(
        "CPU a span, recording + writer, redaction included",
        f"median {statistics.median(costs):.0f} µs, worst of {rounds} rounds {max(costs):.0f} µs",
        f"n = {rounds * traces * SPANS} spans; target at most 100 µs",
    )


def measure_recording_thread(recorder: Recorder, traces: int = 1000) -> None:
    started = time.thread_time()
    for number in range(traces):
        request(recorder, number)
    spent = (time.thread_time() - started) / traces / SPANS * 1e6
    recorder.flush()
    show("  of it in the thread that is recorded", f"{spent:.1f} µs", f"n = {traces * SPANS} spans")


def measure_ingest(recorder: Recorder, seconds: float) -> None:
    started, kept, number = time.perf_counter(), recorder.kept, 0
    while time.perf_counter() - started < seconds:
        request(recorder, number)
        number += 1
        if number % 5000 == 0:
            recorder.flush()
    recorder.flush()
    took, written = time.perf_counter() - started, recorder.kept - kept
    show(
        "ingest, sustained",
        f"{written * SPANS / took:,.0f} spans/s",
        f"{written * SPANS:,} spans in {took:.0f} s, lost {recorder.lost}; target 2,000/s",
    )


def fill(traces: Traces, spans: int) -> None:
    missing = max(0, spans // SPANS - traces.count())
    started = time.perf_counter()
    traces.add(generated(missing))
    took = time.perf_counter() - started
    rate = f"{missing * SPANS / took:,.0f} spans/s" if missing else "nothing to add"
    show("filling the store", f"{took:.0f} s", f"{missing:,} traces more; {rate}")


def generated(count: int) -> Iterator[Trace]:
    drawn = random.Random(1)
    now = time.time_ns()
    for number in range(count):
        asked, made = question(number), call(number)
        start = now - drawn.randrange(30 * 24 * 3600 * 10**9)
        spans = [
            Span(
                id=f"{drawn.getrandbits(64):016x}",
                parent=None if kind == "agent" else "0" * 16,
                kind=kind,  # type: ignore[arg-type]
                name="concierge",
                start_ns=start + position,
                end_ns=start + position + 400_000_000,
                attributes=attributes(number) if kind == "model" else {},
                input=asked,
                output=(made,),
                tools=TOOLS if kind == "model" else (),
            )
            for position, kind in enumerate(("agent", "guard", "model", "tool", "model"))
        ]
        yield Trace(
            id=f"{drawn.getrandbits(128):032x}",
            workload=WORKLOADS[number % 4],
            spans=tuple(replace(s, parent=spans[0].id if s.parent else None) for s in spans),
        )


def measure_lists(traces: Traces, repeats: int = 200) -> None:
    spans = traces.count() * SPANS
    deep = traces.list(limit=1000)[-1].cursor
    for name, ask in {
        "newest 50": lambda: traces.list(),
        "50 further back": lambda: traces.list(before=deep),
        "50 of one workload": lambda: traces.list("desk"),
        "one trace by the beginning of its id": lambda: traces.get(traces.list(limit=1)[0].id[:12]),
    }.items():
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            ask()
            times.append(1000 * (time.perf_counter() - started))
        times.sort()
        show(
            f"list at {spans:,} spans: {name}",
            f"p50 {times[len(times) // 2]:.2f} ms, p95 {times[int(0.95 * len(times))]:.2f} ms",
            f"n = {repeats}; target p95 at most 50 ms",
        )


def show(what: str, figure: str, how: str) -> None:
    print(f"{what:52}  {figure:44}  {how}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=1_000_000, help="for the list query")
    parser.add_argument("--seconds", type=float, default=20.0, help="of sustained ingest")
    options = parser.parse_args()
    load = os.getloadavg()
    print(
        f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.platform()}, {os.cpu_count()} cores, load {load[0]:.1f} {load[1]:.1f}"
    )
    with (
        tempfile.TemporaryDirectory(prefix="kickwheel-ingest-") as folder,
        open_store(Path(folder)) as store,
    ):
        traces = Traces(store)
        with Recorder(traces) as recorder:
            measure_cost(recorder)
            measure_recording_thread(recorder)
            measure_ingest(recorder, options.seconds)
        fill(traces, options.spans)
        measure_lists(traces)
        size = store.database.path.stat().st_size / traces.count() / SPANS
        show("on disk", f"{size:,.0f} bytes a span", f"{traces.count():,} traces")
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
