"""Programs run apart from everything: bubblewrap, with limits.

A program sees /usr and its workspace, has no network unless the app says so, none of our
environment, none of our processes, and is no root, whoever we are. It ends after its time at the
latest, with all that it started. There is nothing to fall back to: where bubblewrap is missing or
does not isolate, opening fails.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kickwheel.agents.tools import seccomp
from kickwheel.agents.tools.consumption import Bounds
from kickwheel.agents.tools.running import PLACES, Ran, Running, kill_group, start
from kickwheel.agents.tools.workspace import NOBODY, scratch
from kickwheel.core.errors import ToolError, UsageError

TMP_BYTES = 64_000_000
"""Size of /tmp and of /dev/shm; both are memory."""
WORKSPACE = "/home/sandbox"
"""Where programs find their workspace, which is their home."""
_FILES_OPEN = 256

_probed: dict[str, str] = {}


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
            starting = asyncio.ensure_future(start(line, given))
            try:
                process = await asyncio.shield(starting)
            except OSError as error:
                os.close(status_fd)
                raise ToolError(f"the sandbox does not start: {error}") from error
            except asyncio.CancelledError:
                # A start that is cancelled halfway would leave the sandbox's own first process.
                os.close(status_fd)
                kill_group(await starting)
                raise
        return await Running(process, status_fd, workspace, self.bounds).result()

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


def _tool(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PLACES}")
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
