"""Programs run apart from everything: bubblewrap, with limits.

A program sees /usr and its workspace, has no network unless the app says so, none of our
environment, none of our processes, and is no root, whoever we are. It ends after its time at the
latest, with all that it started. There is nothing to fall back to: where bubblewrap is missing or
does not isolate, opening fails.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from kickwheel.agents.tools import seccomp
from kickwheel.agents.tools.consumption import Bounds, Excess, Watch
from kickwheel.agents.tools.workspace import NOBODY, scratch
from kickwheel.core.errors import ToolError, UsageError

KEPT_BYTES = 1_000_000
"""Of each stream: half from its beginning, half from its end."""
FLOOD_BYTES = 100_000_000
"""A stream that has written more ends the program."""
TMP_BYTES = 64_000_000
"""Size of /tmp and of /dev/shm; both are memory."""
WORKSPACE = "/home/sandbox"
"""Where programs find their workspace, which is their home."""
_FILES_OPEN = 256
_PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"

_probed: dict[str, str] = {}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A way to run programs apart."""

    bounds: Bounds
    folders: Mapping[str, Path] = field(default_factory=dict)
    """Folders that programs may read, by the path at which they find them."""
    network: bool = False

    async def run(
        self, command: Sequence[str], workspace: Path, *, files: Mapping[str, bytes] | None = None
    ) -> Ran:
        """What the program does and says; cancelled, it is killed at once.

        Args:
            command: the program, looked up in /usr/bin, and its arguments.
            workspace: the folder that it works in, at `WORKSPACE`, and the only one it may change.
            files: contents of read-only files, by their paths in the sandbox.
        Raises:
            ToolError: the sandbox itself could not be set up.
        """
        with contextlib.ExitStack() as stack:
            status_fd, says_fd = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, says_fd)
            filter_fd = stack.enter_context(_memory("filter", seccomp.program()))
            data = [
                (path, stack.enter_context(_memory("file", content)))
                for path, content in (files or {}).items()
            ]
            line = self._command(command, workspace, says_fd, filter_fd, data)
            given = [says_fd, filter_fd, *(fd for _, fd in data)]
            starting = asyncio.ensure_future(_start(line, given))
            try:
                process = await asyncio.shield(starting)
            except OSError as error:
                os.close(status_fd)
                raise ToolError(f"the sandbox does not start: {error}") from error
            except asyncio.CancelledError:
                # A start that is cancelled halfway would leave the sandbox's own first process.
                os.close(status_fd)
                _kill_group(await starting)
                raise
        return await _Running(process, status_fd, workspace, self.bounds).result()

    def _command(
        self,
        command: Sequence[str],
        workspace: Path,
        says_fd: int,
        filter_fd: int,
        data: Sequence[tuple[str, int]],
    ) -> list[str]:
        bounds = self.bounds
        drop: list[str] = []
        if os.geteuid() == 0:
            # First of all: a mistake in bubblewrap would be one with root's rights otherwise.
            drop = [_tool("setpriv", "util-linux"), f"--reuid={NOBODY}", f"--regid={NOBODY}"]
            drop += ["--clear-groups", "--"]
        return [
            *drop,
            _tool("bwrap", "bubblewrap"),
            "--unshare-all",
            *(["--share-net"] if self.network else []),
            *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sandbox"),
            *("--json-status-fd", str(says_fd), "--seccomp", str(filter_fd)),
            *_environment(),
            *_system(self.network),
            *("--proc", "/proc", "--dev", "/dev"),
            *("--size", str(TMP_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"),  # noqa: S108
            *("--size", str(TMP_BYTES), "--tmpfs", "/tmp"),  # noqa: S108
            *(arg for at, real in self.folders.items() for arg in ("--ro-bind", str(real), at)),
            *(arg for path, fd in data for arg in ("--ro-bind-data", str(fd), path)),
            *("--bind", str(workspace), WORKSPACE, "--chdir", WORKSPACE),
            *("--remount-ro", "/"),
            # Inside, where only the program's own processes are counted.
            *("--", "/usr/bin/prlimit", f"--nproc={bounds.processes}"),
            # Room that is asked for and never used does no harm; what is used, `Watch` counts.
            f"--as={2 * bounds.memory_bytes}",
            f"--fsize={bounds.disk_bytes}",
            f"--cpu={int(bounds.cpu_s) + 1}",
            *(f"--nofile={_FILES_OPEN}", "--core=0", "--memlock=65536", "--msgqueue=0", "--"),
            *command,
        ]


async def probe() -> None:
    """Looks once whether programs are isolated here.

    Raises:
        UsageError: they are not; the text says what is missing.
    """
    seccomp.program()
    bwrap = _tool("bwrap", "bubblewrap")
    if bwrap not in _probed:
        _probed[bwrap] = await _unsafe()
    if _probed[bwrap]:
        raise UsageError(
            f"programs cannot be isolated here: {_probed[bwrap]}. {bwrap} needs user namespaces; "
            "in a container, a seccomp profile that allows them and an unmasked /proc"
        )


async def _unsafe() -> str:
    """What does not isolate here; empty where all does."""
    bounds = Bounds(
        time_s=20, cpu_s=10, memory_bytes=200_000_000, disk_bytes=1_000_000, processes=16
    )
    script = r"""
for name in net pid user mnt ipc; do printf '%s\t%s\n' $name $(readlink /proc/self/ns/$name); done
printf 'uid\t%s\n' $(id -u)
printf 'shadow\t%s\n' $(cat /etc/shadow 2>/dev/null | wc -c)
grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status
touch /usr/kickwheel /kickwheel 2>/dev/null && echo writes
"""
    with scratch() as workspace:
        try:
            ran = await Sandbox(bounds=bounds).run(["/bin/sh", "-c", script], workspace)
        except ToolError as error:
            return str(error)
    return _wrong(ran.out)


def _wrong(out: str) -> str:
    said = dict(line.split(None, 1) for line in out.replace(":", "").splitlines() if "\t" in line)
    spaces = ("net", "pid", "user", "mnt", "ipc")
    ours = {name: str(Path(f"/proc/self/ns/{name}").readlink()).replace(":", "") for name in spaces}
    shared = [name for name in spaces if said.get(name) in (None, ours[name])]
    if shared:
        return f"it shares our namespaces {', '.join(shared)}"
    wanted = {"shadow": "0", "Seccomp": "2", "NoNewPrivs": "1", "CapEff": "0" * 16}
    wrong = [name for name, value in wanted.items() if said.get(name) != value]
    if wrong or said.get("uid") in (None, "0") or "writes" in out:
        return f"a program in it has rights that it must not have ({', '.join(wrong) or 'root'})"
    return ""


class _Running:
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
            _kill_group(self._process)

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


async def _start(line: Sequence[str], given: Sequence[int]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *line,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=given,
        start_new_session=True,
        env={"PATH": _PLACES},
    )


def _kill_group(process: asyncio.subprocess.Process) -> None:
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


def _tool(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_PLACES}")
    if found is None:
        raise UsageError(
            f"programs cannot be isolated here: {name} is missing "
            f"(Debian: apt-get install {package})"
        )
    return found


@contextlib.contextmanager
def _memory(name: str, content: bytes) -> Iterator[int]:
    """A file that lies in memory, at its beginning."""
    fd = os.memfd_create(name)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _environment() -> Iterator[str]:
    yield "--clearenv"
    values = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": WORKSPACE, "LANG": "C.UTF-8"}
    for name, value in values.items():
        yield from ("--setenv", name, value)


def _system(network: bool) -> Iterator[str]:
    """The parts of the system that programs need, read-only."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"):
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    needed = ["alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime"]
    if network:
        needed += ["hosts", "nsswitch.conf", "resolv.conf", "services", "ssl", "ca-certificates"]
    for name in needed:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def _advice(why: str) -> str:
    if "Permission denied" in why and os.geteuid() == 0:
        return (
            f". Sandboxed programs run as user {NOBODY}, not as root: a folder that they use, and "
            "those above it, must be open to everybody (chmod o+x)"
        )
    return ""
