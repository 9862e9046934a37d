"""Several processes behind one port, as `kickwheel serve --workers` starts them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = """
models: {echo: {kind: "echo:Echo"}}
agents: {desk: {kind: tool_loop, model: echo}}
"""
ECHO = """
import os
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
        yield TextDelta(str(os.getpid()))
        yield Done("stop", Usage(prompt_tokens=1, output_tokens=1))
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    (tmp_path / "app.yml").write_text(APP)
    (tmp_path / "echo.py").write_text(ECHO)
    program = Path(sys.executable).with_name("kickwheel")
    command = [str(program), "serve", str(tmp_path), "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in both) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in both)
