"""The process of a vLLM server of our own."""

import asyncio
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp

from kickwheel.core.errors import EngineError

START_S = 900.0
"""Seconds that vLLM may take to load and compile."""
STOP_S = 20.0
_LAST_LINES = 40
_GUARD = Path(__file__).with_name("guard.py")


class Process:
    """A command that serves, running; it ends with this process, however that ends."""

    def __init__(self, command: Sequence[str], key: str | None) -> None:
        self._command = command
        self._environment = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
        if key:
            self._environment["VLLM_API_KEY"] = key
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)

    @classmethod
    async def start(cls, command: Sequence[str], key: str | None) -> "Process":
        """The command, started.

        Args:
            key: what requests must carry.
        """
        process = cls(command, key)
        await process.again()
        return process

    async def again(self) -> None:
        """Starts the command anew, after it has ended."""
        self._lines.clear()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(_GUARD), str(os.getpid())),
            *self._command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        self._reader = asyncio.create_task(_read(self._process, self._lines))

    @property
    def said(self) -> str:
        """Its last lines."""
        return "\n".join(list(self._lines)[-5:]) or "it said nothing"

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        return await self._process.wait()

    async def until_healthy(self, session: aiohttp.ClientSession, url: str) -> None:
        """Returns when `/health` answers.

        Raises:
            EngineError: it ended before, or took too long; the text has its last words.
        """
        ends = time.monotonic() + START_S
        while time.monotonic() < ends:
            status = self._process.returncode
            if status is not None:
                await asyncio.wait({self._reader}, timeout=1.0)
                more = ". Install vLLM in this environment, or give `url`" if status == 127 else ""
                raise EngineError(f"vllm did not start (exit {status}): {self.said}{more}")
            with suppress(aiohttp.ClientError, OSError):
                async with session.get(f"{url}/health") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.2)
        raise EngineError(
            f"vllm did not start within {START_S:.0f} s: {self.said}. If it only needs "
            "longer, start it yourself and give its `url`"
        )

    async def stop(self) -> None:
        """Ends it; by force where it does not end by itself."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._reader.cancel()


async def _read(process: asyncio.subprocess.Process, lines: deque[str]) -> None:
    assert process.stdout is not None
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError:  # a line longer than the stream's limit
            continue
        if not line:
            return
        lines.append(line.decode(errors="replace").rstrip())


def free_port() -> int:
    """A port of the loopback that nobody uses at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
