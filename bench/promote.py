"""How long a promotion takes until a running server answers with the new adapter.

    python bench/promote.py [--rounds 12]

`kickwheel serve` on the default base. In each round the ref moves to an adapter that the server has
not seen yet, as a promotion does after its gate. By turns the server is at rest, and asked once a
second after the move, or asked again and again over HTTP, a short answer each time. Told is who
answered the request that came after a second; and for the busy server the time from the move until
a request was begun that the new adapter answered, and until its answer was whole. A request that
failed ends the run. The adapters are random: they write nonsense, each another, so that the answer
shows who gave it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openai import OpenAI

from kickwheel.core.store import open_store
from kickwheel.flywheel.evaluate import machine
from kickwheel.flywheel.interval import wilson
from kickwheel.models import catalog, gguf
from kickwheel.records import Adapter, PromptForm, wire

REF = "bench/specialist"
APP = f"models: {{specialist: {{kind: local, base: smollm2-135m, adapter: {REF}}}}}\n"
GIVEN_UP_S = 60.0


def adapter(base: catalog.Base, seed: int, work: Path) -> dict[str, bytes]:
    """The files of an adapter that makes the base write something else."""
    import numpy as np

    chance, rank = np.random.default_rng(seed), 16
    header, file = gguf.read_header(base.gguf), work / f"{seed}.gguf"
    with gguf.writing_gguf(file, header.architecture) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(rank))
        for name, (shape, _) in header.tensors.items():
            if not name.startswith("blk.") or len(shape) != 2:
                continue
            columns, rows = shape
            a, b = chance.normal(0, 0.1, (rank, columns)), chance.normal(0, 0.1, (rows, rank))
            writer.add_tensor(f"{name}.lora_a", a.astype(np.float32))
            writer.add_tensor(f"{name}.lora_b", b.astype(np.float32))
    record = Adapter(
        base=base.name, base_sha256=base.sha256, dataset="none", form=PromptForm(tools="none")
    )
    return {"adapter.json": wire.to_bytes(record), "adapter.gguf": file.read_bytes()}


@contextmanager
def served(app: Path) -> Iterator[Callable[[], str]]:
    """The running server: asks it for a short answer."""
    command = [sys.executable, "-m", "kickwheel.cli", "serve", str(app), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        client = OpenAI(base_url=url, api_key="none", max_retries=0)

        def ask() -> str:
            answer = client.chat.completions.create(
                model="specialist",
                messages=[{"role": "user", "content": "Where is my parcel?"}],
                temperature=0,
                max_tokens=8,
            )
            return answer.choices[0].message.content or ""

        try:
            yield ask
        finally:
            server.terminate()


def measure(app: Path, rounds: int) -> tuple[int, list[tuple[float, float, int]]]:
    """In how many rounds at rest the new adapter answered after a second; and for each busy round
    seconds until the first request that the new adapter answered, until its answer, and how many
    the old one answered meanwhile."""
    base = catalog.base("smollm2-135m")
    found, after_one = [], 0
    with open_store(app / ".kickwheel") as store, served(app) as ask:
        targets = [
            f"adapter/{store.artifacts.add('adapter', adapter(base, seed, app))}"
            for seed in range(2 * rounds)
        ]
        at_work, before = None, ask()
        for position, target in enumerate(targets):
            moved = time.perf_counter()
            store.refs.move(REF, target, expected=at_work, why="bench")
            at_work, answers = target, 0
            if position % 2 == 0:
                time.sleep(1.0)
                after_one += ask() != before
                time.sleep(1.0)
                before = ask()
                continue
            while True:
                begun = time.perf_counter()
                answer = ask()
                ended = time.perf_counter()
                if answer != before:
                    break
                answers += 1
                if ended - moved > GIVEN_UP_S:
                    raise SystemExit(f"{target} does not answer after {GIVEN_UP_S:.0f} s")
            found.append((begun - moved, ended - moved, answers))
            before = ask()
    return after_one, found


def main() -> None:
    """Measures, and says on what."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    about = machine.facts()
    print(f"{about['processor']}, {about['cores']} cores, {about['system']}; {about['versions']}")
    print(f"load {machine.load()}, nice {os.nice(0)}")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "app.yml").write_text(APP)
        after_one, found = measure(Path(folder), rounds)
    low, high = wilson(after_one, rounds)
    print(
        f"at rest: {after_one} of {rounds} requests begun a second after the move were answered by "
        f"the new adapter [{low:.0%}, {high:.0%}]"
    )
    print("asked again and again:")
    for name, column in (("until asked", 0), ("until answered", 1)):
        values = sorted(row[column] for row in found)
        print(
            f"{name:15} median {statistics.median(values):.2f} s, "
            f"from {values[0]:.2f} to {values[-1]:.2f} s   n = {rounds}"
        )
    print(f"answered by the adapter before meanwhile: {sum(row[2] for row in found)}, lost: 0")
    print(f"load at the end {machine.load()}")


if __name__ == "__main__":
    main()
