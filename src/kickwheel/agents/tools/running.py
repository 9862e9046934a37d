"""A program in its sandbox, from its start until nothing of it runs any more."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kickwheel.agents.tools.consumption import Bounds, Excess, Watch
from kickwheel.agents.tools.workspace import NOBODY
from kickwheel.core.errors import ToolError

KEPT_BYTES = 1_000_000
"""Of each stream: half from its beginning, half from its end."""
FLOOD_BYTES = 100_000_000
"""A stream that has written more ends the program."""
PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the programs that make a sandbox lie, beside PATH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of a program."""

    code: int
    """As a shell tells it: 128 and the signal's number where a signal ended it."""
    out: str
    err: str
    excess: Excess = ""
    """What it used too much of, and was ended for."""
    cpu_s: float = 0.0
    memory_bytes: int = 0
    """The most that was seen in use at once."""


class Running:
    """A program in its sandbox."""

    def __init__(
        self, process: asyncio.subprocess.Process, status_fd: int, workspace: Path, bounds: Bounds
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._status_fd = status_fd
        self._workspace = workspace
        self._bounds = bounds
        self._out, self._err = _Kept(process.stdout), _Kept(process.stderr)
        self._watch: Watch | None = None

    async def result(self) -> Ran:
        """What came of it; when this ends, however it ends, nothing of it runs any more."""
        pipe: IO[bytes] | asyncio.ReadTransport = os.fdopen(self._status_fd, "rb")
        reading = [asyncio.create_task(kept.fill(self._flood)) for kept in (self._out, self._err)]
        try:
            status = asyncio.StreamReader()
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(status), pipe
            )
            first = await status.readline()
            if first:
                # It may have ended already, and then there is nothing to watch.
                with contextlib.suppress(ProcessLookupError):
                    leader = json.loads(first)["child-pid"]
                    self._watch = Watch(leader, self._workspace, self._bounds)
            try:
                async with asyncio.timeout(self._bounds.time_s):
                    await self._process.wait()
            except TimeoutError:
                self._kill("time")
            await self._end()
            await asyncio.wait(reading)
            return self._told(json.loads(await status.readline() or "{}").get("exit-code"))
        finally:
            await self._end()
            for task in reading:
                task.cancel()
            pipe.close()
            if self._watch is not None:
                self._watch.close()

    async def _end(self) -> None:
        """Ends whatever still runs, and waits for its end."""
        self._kill()
        if self._watch is not None:
            await _readable(self._watch.handle)
        await self._process.wait()

    def _kill(self, why: Excess = "") -> None:
        if self._watch is not None:
            self._watch.stop(why)
        else:
            kill_group(self._process)

    def _flood(self) -> None:
        self._kill("output")

    def _told(self, code: int | None) -> Ran:
        out, err = self._out.text(), self._err.text()
        excess: Excess = self._watch.excess if self._watch is not None else ""
        if code is None and not excess:
            why = err.strip().removeprefix("bwrap: ") or f"it ended with {self._process.returncode}"
            raise ToolError(f"the sandbox could not be set up: {why}{_advice(why)}")
        if code == 128 + signal.SIGXCPU:
            excess = "cpu"
        elif code == 128 + signal.SIGXFSZ:
            excess = "disk"
        return Ran(
            code=128 + signal.SIGKILL if code is None else code,
            out=out,
            err=err,
            excess=excess,
            cpu_s=self._watch.cpu_s if self._watch else 0.0,
            memory_bytes=self._watch.memory_bytes if self._watch else 0,
        )


class _Kept:
    """What a stream says, as much of it as is kept."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._head, self._tail = bytearray(), bytearray()
        self._total = 0

    async def fill(self, flood: Callable[[], None]) -> None:
        """Reads to the end; `flood` is called when there is too much."""
        half = KEPT_BYTES // 2
        while piece := await self._stream.read(1 << 16):
            self._total += len(piece)
            room = half - len(self._head)
            self._head += piece[:room]
            self._tail += piece[room:]
            if len(self._tail) > 2 * half:
                del self._tail[:-half]
            if self._total > FLOOD_BYTES:
                flood()

    def text(self) -> str:
        tail = self._tail[-(KEPT_BYTES // 2) :]
        left_out = self._total - len(self._head) - len(tail)
        gap = f"\n[{left_out:,} bytes left out]\n".encode() if left_out else b""
        return (self._head + gap + tail).decode(errors="replace")


async def start(line: Sequence[str], given: Sequence[int]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *line,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=given,
        start_new_session=True,
        env={"PATH": PLACES},
    )


def kill_group(process: asyncio.subprocess.Process) -> None:
    """Kills bubblewrap together with a sandbox that is not yet on its own."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


def _advice(why: str) -> str:
    if "Permission denied" in why and os.geteuid() == 0:
        return (
            f". Sandboxed programs run as user {NOBODY}, not as root: a folder that they use, and "
            "those above it, must be open to everybody (chmod o+x)"
        )
    return ""
