"""Programs that a model wrote over its tools, run by CPython in a sandbox.

The same as `monty`, for programs that need all of Python: bubblewrap keeps them from files, network
and environment, and a socket in their folder is the one way out, on which they name the functions
that are called for them here. There is nothing to fall back to where bubblewrap is missing.
"""

import asyncio
import contextlib
import contextvars
import json
import shutil
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kickwheel.agents.tools.consumption import Bounds
from kickwheel.agents.tools.monty import Function, Outcome, ProgramLimits
from kickwheel.agents.tools.running import Ran
from kickwheel.agents.tools.sandbox import Sandbox, probe
from kickwheel.agents.tools.workspace import scratch
from kickwheel.core.errors import UsageError

PYTHON = "/usr/bin/python3"
_LONGEST = 8 << 20
"""Bytes of one call or result on the way between program and functions."""
_WALL_S = 86_400.0
"""Waiting for functions takes as long as it takes: whoever runs the program has a deadline."""
_DISK_BYTES = 64_000_000
_PROCESSES = 16

_RUNNER = Path(__file__).with_name("linked_runner.py")


async def ready() -> None:
    """Looks once whether programs can be run here.

    Raises:
        UsageError: they cannot; the text says what is missing.
    """
    if shutil.which(PYTHON) is None:
        raise UsageError(f"there is no {PYTHON} for programs (Debian: apt-get install python3)")
    await probe()


async def run_linked(
    source: str, functions: Mapping[str, Function], limits: ProgramLimits | None = None
) -> Outcome:
    """What the program returns and prints, or why it failed; as `monty.run_program`.

    Raises:
        ToolError: the sandbox could not be set up.
    """
    limits = limits or ProgramLimits()
    bounds = Bounds(
        time_s=_WALL_S,
        cpu_s=limits.run_s,
        memory_bytes=limits.memory_bytes,
        disk_bytes=_DISK_BYTES,
        processes=_PROCESSES,
    )
    files = {
        "/runner.py": _RUNNER.read_bytes(),
        "/program.py": source.encode(errors="replace"),
        "/names.json": json.dumps(list(functions)).encode(),
    }
    # A run that resumes runs its program again: sets in the same order lead to the same calls.
    command = ["/usr/bin/env", "PYTHONHASHSEED=0", PYTHON, "-B", "-u", "-X", "utf8", "/runner.py"]
    with scratch() as place:
        link = _Link(functions, limits.calls)
        server = await asyncio.start_unix_server(link.serve, place / ".link", limit=_LONGEST)
        (place / ".link").chmod(0o666)
        running = asyncio.create_task(Sandbox(bounds=bounds).run(command, place, files=files))
        try:
            either: list[asyncio.Future[Any]] = [running, link.stopped]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if link.stopped.done():
                raise link.stopped.result()
            return _outcome(running.result(), link, limits)
        finally:
            running.cancel()
            server.close()
            await link.close()
            await asyncio.wait({running})


class _Link:
    """The socket's end out here: calls come in, results go back."""

    def __init__(self, functions: Mapping[str, Function], calls: int) -> None:
        self.end: dict[str, Any] | None = None
        """What the program said at its end."""
        self.stopped: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._functions = functions
        self._calls_left = calls
        self._context = contextvars.copy_context()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one connection until it ends, or says what makes no sense."""
        with contextlib.suppress(ValueError, OSError, asyncio.LimitOverrunError):
            while line := await reader.readline():
                said = json.loads(line)
                if not isinstance(said, dict):
                    break
                if "end" in said and isinstance(said["end"], dict):
                    self.end = said["end"]
                    break
                self._begin(said, writer)
        with contextlib.suppress(OSError):
            await self._finished()
            writer.close()

    async def close(self) -> None:
        """Ends the functions that still run."""
        for task in self._tasks:
            task.cancel()
        await self._finished()

    async def _finished(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _begin(self, said: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        self._calls_left -= 1
        function = self._functions.get(str(said.get("name")))
        given, positional = said.get("given"), said.get("positional")
        if self._calls_left < 0:
            work = _refuse("no more calls of functions are allowed in one program")
        elif function is None or not isinstance(given, dict) or not isinstance(positional, list):
            work = _refuse(f"there is no function {said.get('name')}")
        else:
            work = partial(function, *positional, **given)
        task = asyncio.get_running_loop().create_task(
            self._answer(said.get("call"), work, writer), context=self._context.copy()
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, call: Any, work: Callable[[], Awaitable[Any]], writer: asyncio.StreamWriter
    ) -> None:
        try:
            told = {"call": call, "value": await work()}
        except Exception as error:
            told = {"call": call, "error": str(error) or type(error).__name__}
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if not self.stopped.done():
                self.stopped.set_result(error)
            return
        with contextlib.suppress(OSError):
            writer.write(json.dumps(told, default=str).encode() + b"\n")
            await writer.drain()


def _refuse(why: str) -> Callable[[], Awaitable[Any]]:
    async def work() -> Any:
        raise RuntimeError(why)

    return work


def _outcome(ran: Ran, link: _Link, limits: ProgramLimits) -> Outcome:
    printed = ran.out[: limits.printed_bytes]
    if ran.excess:
        most = {"cpu": f"{limits.run_s:g} s", "memory": f"{limits.memory_bytes:,} bytes"}
        what = most.get(ran.excess, ran.excess)
        told = f"the program used up its {what} and was ended"
        return Outcome(printed=printed, error=told, why="limit")
    if link.end is None:
        said = ran.err.strip().splitlines()[-1:] or [f"exit code {ran.code}"]
        return Outcome(printed=printed, error=f"the program ended early: {said[0]}", why="raised")
    error, line = link.end.get("error"), link.end.get("line")
    if error:
        where = f"line {line}: " if line else ""
        return Outcome(
            printed=printed,
            error=f"{where}{error}",
            line=line if isinstance(line, int) else None,
            why="syntax" if link.end.get("why") == "syntax" else "raised",
        )
    return Outcome(value=link.end.get("value"), printed=printed)
