"""Several processes behind one port, as `kickwheel serve --workers` starts them."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

APP = """
models: {echo: {kind: "echo:Echo"}}
agents: {desk: {kind: tool_loop, model: echo}}
"""
ECHO = """
import asyncio, os
print("http://echo.example is imported", flush=True)
from contextlib import asynccontextmanager
from kickwheel import Part
from kickwheel.models.chat import Done, TextDelta, Usage

class Echo(Part):
    @asynccontextmanager
    async def open(self, context):
        yield Live()

class Live:
    name = "echo"
    async def stream(self, request):
        if request.messages[-1].content == "hang":
            open("hangs", "w").close()
            try:
                await asyncio.sleep(600)
            finally:
                open("ended", "w").close()
        yield TextDelta(str(os.getpid()))
        yield Done("stop", Usage(prompt_tokens=1, output_tokens=1))
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    (tmp_path / "app.yml").write_text(APP)
    (tmp_path / "echo.py").write_text(ECHO)
    program = Path(sys.executable).with_name("kickwheel")
    command = [str(program), "serve", str(tmp_path), "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        while said == "http://echo.example is imported\n":
            said = process.stdout.readline()
        assert said, "it ended before it answered"
        try:
            yield process, said.split()[0]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


def answered_by(url: str) -> int:
    body = {"model": "desk", "messages": [{"role": "user", "content": "who?"}]}
    request = urllib.request.Request(
        f"{url}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        return int(json.load(response)["choices"][0]["message"]["content"])


def seen(url: str, times: int = 40) -> set[int]:
    return {answered_by(url) for _ in range(times)}


def test_both_answer_and_one_that_dies_is_started_again(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = served
    both = seen(url)
    assert len(both) == 2
    assert process.pid not in both
    victim = min(both)
    os.kill(victim, signal.SIGKILL)
    until = time.monotonic() + 30
    now: set[int] = set()
    while len(now) < 2 and time.monotonic() < until:
        try:
            now |= {answered_by(url)} - {victim}
        except (OSError, ValueError):
            time.sleep(0.1)
    assert len(now) == 2


@pytest.mark.parametrize("same", [True, False])
def test_a_run_is_cancelled_through_either(
    served: tuple[subprocess.Popen[str], str], tmp_path: Path, same: bool
) -> None:
    _, url = served
    asking, cancelling = Staying(url), Staying(url)
    while (cancelling.process == asking.process) is not same:
        cancelling = Staying(url)
    with ThreadPoolExecutor() as pool:
        hanging = pool.submit(asking.ask, "hang")
        appears(tmp_path / "hangs")
        run = cancelling.running()
        assert cancelling.send("POST", f"/runs/{run}/cancel")[0] == 200
        appears(tmp_path / "ended")
        status, headers, said = hanging.result(30)
    assert (status, said["error"]["code"]) == (409, "run_cancelled")
    # Or the client asks once more by itself, and all begins again.
    assert headers["x-should-retry"] == "false"


class Staying:
    """A caller whose connection stays with one of the processes."""

    def __init__(self, url: str) -> None:
        self._at = urlsplit(url)
        self._connection = http.client.HTTPConnection(self._at.netloc, timeout=60)
        self.process = self.ask("who?")[2]["choices"][0]["message"]["content"]

    def ask(self, text: str) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body of the agent's answer."""
        body = {"model": "desk", "messages": [{"role": "user", "content": text}]}
        return self._sent("POST", "/chat/completions", body)

    def send(self, method: str, path: str) -> tuple[int, Any]:
        """Status and body of what is answered."""
        status, _, body = self._sent(method, path, {})
        return status, body

    def running(self) -> str:
        """Id of the run that goes on, once it stands in the journal."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            for run in self.send("GET", "/runs")[1]["data"]:
                if run["status"] == "running":
                    return str(run["id"])
        raise AssertionError("no run goes on")

    def _sent(self, method: str, path: str, body: Any) -> tuple[int, dict[str, str], Any]:
        data = json.dumps(body) if method == "POST" else None
        headers = {"content-type": "application/json"}
        self._connection.request(method, self._at.path + path, data, headers)
        response = self._connection.getresponse()
        return response.status, dict(response.getheaders()), json.load(response)


def appears(path: Path) -> None:
    """Waits until the file is there."""
    until = time.monotonic() + 30
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert path.exists()


def test_a_busy_port_is_told(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(APP)
    (tmp_path / "echo.py").write_text(ECHO)
    program = Path(sys.executable).with_name("kickwheel")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [str(program), "serve", str(tmp_path), "--port", port, "--workers", "2"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert "busy" in done.stderr


def test_processes_end_with_a_parent_that_is_killed(
    served: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = served
    both = seen(url)
    process.kill()
    process.wait()
    process.returncode = 0
    end(both)


def test_so_do_those_that_do_not_answer_yet(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(APP)
    stays = """
import os, pathlib, time
if "--parent" in sys.argv:
    pathlib.Path(f"begun.{os.getpid()}").touch()
    time.sleep(600)
"""
    (tmp_path / "echo.py").write_text(f"import sys{stays}{ECHO}")
    program = Path(sys.executable).with_name("kickwheel")
    command = [str(program), "serve", str(tmp_path), "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        until = time.monotonic() + 60
        while len(begun := list(tmp_path.glob("begun.*"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        process.kill()
    assert len(begun) == 2
    end({int(path.suffix[1:]) for path in begun})


def test_so_does_one_whose_parent_ended_before_it_looked(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(APP)
    (tmp_path / "echo.py").write_text(ECHO)
    with subprocess.Popen([sys.executable, "-c", ""]) as other:
        pass
    program = Path(sys.executable).with_name("kickwheel")
    command = [str(program), "serve", str(tmp_path), "--port", "0", "--parent", str(other.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "the server that started this process has ended" in done.stderr


def end(processes: set[int]) -> None:
    """Waits until the processes have ended."""
    until = time.monotonic() + 30
    while any(_lives(pid) for pid in processes) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(_lives(pid) for pid in processes)


def _lives(process: int) -> bool:
    try:
        # Nobody may wait for an orphan here.
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
