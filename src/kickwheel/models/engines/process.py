"""One server process: started, watched, ended with its parent."""

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kickwheel.core.errors import EngineError, MissingExtra

START_S = 180.0
"""Seconds that a model may take to load; large ones are read from disk."""
STOP_S = 5.0
"""Seconds that a process may take to end before it is killed."""
_LAST_LINES = 40
_CHILD = Path(__file__).with_name("llamacpp_child.py")
"""Run as a file: as a module it would import this package first, which takes as long as a small
model does."""


class Process:
    """A running llama.cpp server."""

    def __init__(self, process: asyncio.subprocess.Process, key: str) -> None:
        self._process = process
        self.key = key
        """What requests must carry as bearer token: other users of the machine have none."""
        self.url = ""
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._reader = asyncio.create_task(self._read_errors())
        self._stopping = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs, as far as the kernel has told us."""
        return self._process.returncode is None and not self._stopping

    @property
    def said(self) -> str:
        """The last lines that it wrote to standard error."""
        return "\n".join(self._lines)

    async def wait(self) -> int:
        """Its exit status, once it has ended; negative for a signal."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Ends it; at once where it does not end by itself."""
        self._stopping = True
        stdin = self._process.stdin
        if stdin is not None:
            stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._reader.cancel()

    async def _read_errors(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        while True:
            try:
                line = await stderr.readline()
            except ValueError:  # a line longer than the stream's limit
                continue
            if not line:
                return
            self._lines.append(line.decode(errors="replace").rstrip())


async def start(settings: Mapping[str, Any]) -> Process:
    """A llama.cpp server that answers.

    Args:
        settings: `model`, `adapters`, `context`, `parallel`, `threads`, `gpu_layers`.
    Raises:
        EngineError: it did not start; the text says what it said.
        MissingExtra: xllamacpp is not installed.
    """
    key = secrets.token_hex(16)
    # Threads of one engine wait for each other some hundred times a token. Spinning for as long as
    # OpenMP does by default takes the core from the very thread that is waited for on a busy
    # machine; not at all, and an idle machine writes at half its speed.
    environment = {"GOMP_SPINCOUNT": "30000", **os.environ}
    # Created in the loop's own thread: the kernel's signal comes when that thread ends.
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(_CHILD), str(os.getpid())),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    process = Process(child, key)
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps({**settings, "key": key}).encode() + b"\n")
        async with asyncio.timeout(START_S):
            line = await child.stdout.readline()
        answer = json.loads(line) if line else {}
    except TimeoutError:
        await process.stop()
        raise EngineError(f"the engine did not start within {START_S:.0f} s") from None
    except ConnectionError:  # it ended before it had read its settings
        answer = {}
    except BaseException:
        await _stop_shielded(process)
        raise
    if "url" not in answer:
        status = await process.wait()
        await asyncio.wait({process._reader}, timeout=1.0)
        raise _not_started(settings, str(answer.get("error", "")), status, process.said)
    process.url = answer["url"]
    return process


async def _stop_shielded(process: Process) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.shield(process.stop())


def _not_started(settings: Mapping[str, Any], error: str, status: int, said: str) -> Exception:
    model = settings["model"]
    if "No module named 'xllamacpp'" in error + said:
        return MissingExtra("serving a model on this machine", "local")
    if "alloc" in said or status == -9:
        return EngineError(
            f"{model}: there is not enough memory to serve it. Take a smaller context or fewer "
            "parallel requests, or a smaller base."
        )
    reason = next((line for line in said.splitlines() if "error loading" in line), "")
    reason = reason or next((line for line in reversed(said.splitlines()) if line.strip()), error)
    adapters = ", ".join(settings["adapters"])
    beside = f" with {adapters}" if adapters else ""
    return EngineError(f"the engine did not start on {model}{beside}: {reason or f'exit {status}'}")
