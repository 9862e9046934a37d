"""How soon a model's call ends once somebody wants it no more, behind two server processes.

    python bench/cancel.py [RUNS] [POSTGRES_URL]

A model that never answers notes when it was ended. Counted is the time from the cancel (or from
the end of the client's connection) to that note: the cancel goes to the process that runs it, and
to the other one. The ways alternate. With a URL of Postgres also to a server that shares nothing
but that database, as one on another machine would: with a folder of its own it finds no port to
call.
"""

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

APP = """
models: {endless: {kind: "endless:Endless"}}
agents: {desk: {kind: tool_loop, model: endless}}
"""
MODEL = """
import asyncio, os, time
from contextlib import asynccontextmanager
from pathlib import Path
from kickwheel import Part
from kickwheel.models.chat import Done, TextDelta, Usage

class Endless(Part):
    @asynccontextmanager
    async def open(self, context):
        yield Live()

class Live:
    name = "endless"
    async def stream(self, request):
        if request.messages[-1].content == "who?":
            yield TextDelta(str(os.getpid()))
            yield Done("stop", Usage(prompt_tokens=1, output_tokens=1))
            return
        note = Path(request.messages[-1].content)
        try:
            Path(f"{note}.begun").touch()
            await asyncio.sleep(600)
        finally:
            Path(f"{note}.part").write_text(repr(time.time()))
            os.replace(f"{note}.part", note)
"""


class Caller:
    """A connection that stays with one of the processes."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)
        self.process = self.ask("who?")

    def post(self, path: str, body: object) -> str:
        """The answer's body."""
        headers = {"content-type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        return self._connection.getresponse().read().decode()

    def ask(self, text: str) -> str:
        """What the agent says."""
        question = {"model": "desk", "messages": [{"role": "user", "content": text}]}
        said = json.loads(self.post("/v1/chat/completions", question))
        return str(said["choices"][0]["message"]["content"]) if "choices" in said else ""

    def hang_up(self) -> None:
        """Ends the connection, whatever is asked."""
        assert self._connection.sock is not None
        self._connection.sock.shutdown(socket.SHUT_RDWR)

    def cancel(self) -> None:
        """Cancels the run that goes on."""
        self.post(f"/v1/runs/{self._running()}/cancel", {})

    def _running(self) -> str:
        self._connection.request("GET", "/v1/runs")
        runs = json.loads(self._connection.getresponse().read())["data"]
        (run,) = [run["id"] for run in runs if run["status"] == "running"]
        return str(run)


def timed(note: Path, asking: Caller, end: Callable[[], None]) -> float:
    """Milliseconds from the end's wish to the end of the model's call."""
    asked = threading.Thread(target=_ask, args=(asking, str(note)))
    asked.start()
    _wait(Path(f"{note}.begun"))
    # As after a second or so in earnest: the run stands in the journal.
    time.sleep(0.1)
    wished = time.time()
    end()
    _wait(note)
    asked.join()
    return 1000 * (float(note.read_text()) - wished)


def _ask(asking: Caller, text: str) -> None:
    try:
        asking.ask(text)
    except (OSError, http.client.HTTPException):
        return


def _wait(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)


@contextmanager
def served(folder: Path, store: str, workers: int) -> Iterator[int]:
    """The port of a server in a folder of its own; `store`: a line of its file."""
    folder.mkdir()
    (folder / "app.yml").write_text(APP + store)
    (folder / "endless.py").write_text(MODEL)
    command = [sys.executable, "-m", "kickwheel", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(
        [*command, "--workers", str(workers)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port = urlsplit(server.stdout.readline().split()[0]).port
        assert port is not None
        yield port
        server.terminate()


def one_machine(folder: Path, runs: int) -> dict[str, list[float]]:
    """Milliseconds, by the way that the wish goes, of two processes behind one port."""
    took: dict[str, list[float]] = {"its process": [], "the other process": [], "hung up": []}
    with served(folder / "both", "", 2) as port:
        callers: dict[str, Caller] = {}
        while len(callers) < 2:
            one = Caller(port)
            callers[one.process] = one
        process, other = list(callers)
        for number in range(runs):
            for way in took:
                asking = Caller(port)
                while asking.process != process:
                    asking = Caller(port)
                end = asking.hang_up
                if way != "hung up":
                    end = callers[process if way == "its process" else other].cancel
                took[way].append(timed(folder / f"{way[:3]}{number}", asking, end))
    return took


def two_machines(folder: Path, runs: int, url: str) -> dict[str, list[float]]:
    """Milliseconds of a server that is cancelled through another one of the same Postgres."""
    store = f"store: {url}\n"
    with served(folder / "here", store, 1) as here, served(folder / "there", store, 1) as there:
        other = Caller(there)
        took = [timed(folder / f"far{n}", Caller(here), other.cancel) for n in range(runs)]
    return {"another machine": took}


def main(runs: int, url: str | None) -> None:
    """Prints a line for each way."""
    with tempfile.TemporaryDirectory() as name:
        took = one_machine(Path(name), runs)
        if url is not None:
            took |= two_machines(Path(name), runs, url)
    for way, times in took.items():
        middle, most = statistics.median(times), max(times)
        print(f"{way:18} n = {len(times)}: median {middle:.1f} ms, longest {most:.1f} ms")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30, sys.argv[2] if len(sys.argv) > 2 else None)
