"""What the processes of a sandbox use together, watched from outside.

The kernel's own limits count for each process alone: a program may start more of them. Control
groups would count together, but need rights that neither a user nor most containers have.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kickwheel.agents.tools.workspace import size

Excess = Literal["", "time", "memory", "cpu", "disk", "output"]
"""What a program used too much of; empty where it did not."""

PAUSE_S = 0.05
"""Between two looks; a program may use more than its share for as long."""
MOST_FILES = 20_000
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one program and all that it starts may use together."""

    time_s: float
    cpu_s: float
    memory_bytes: int
    disk_bytes: int
    """In the workspace, with what lay there before."""
    processes: int


class Watch:
    """Looks at a sandbox until it ends, and ends it when it uses too much.

    Args:
        leader: pid of the sandbox's first process: all others end with it.
        workspace: the folder that it may write to.
    """

    def __init__(self, leader: int, workspace: Path, bounds: Bounds) -> None:
        self.excess: Excess = ""
        self.cpu_s = 0.0
        """Seconds of computing so far."""
        self.memory_bytes = 0
        """The most that was seen in use at once."""
        self._leader = leader
        self._handle = os.pidfd_open(leader)
        self._workspace = workspace
        self._bounds = bounds
        self._ended = threading.Event()
        self._floor = _free(workspace) // 2
        self._thread = threading.Thread(target=self._look, name="kickwheel-watch", daemon=True)
        self._thread.start()

    def stop(self, why: Excess = "") -> None:
        """Kills everything in the sandbox."""
        self.excess = self.excess or why
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """Ends the watching, not the sandbox."""
        self._ended.set()
        self._thread.join()
        os.close(self._handle)

    @property
    def handle(self) -> int:
        """A pidfd: readable when nothing runs in the sandbox any more."""
        return self._handle

    def _look(self) -> None:
        turn, next_scan = 0, 0
        while not self._ended.wait(PAUSE_S):
            self._processes()
            if turn >= next_scan:
                files = self._disk()
                # A folder of many files takes longer to look through: then less often.
                next_scan = turn + 1 + files // 500
            turn += 1

    def _processes(self) -> None:
        memory, cpu_s = 0, 0.0
        for pid in _family(self._leader):
            with suppress(OSError, ValueError, IndexError):
                resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
                memory += (int(resident) - int(shared)) * _PAGE
                # The name, in parentheses, may hold anything; the numbers follow the last one.
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                cpu_s += sum(map(int, fields[11:15])) / _TICKS
        self.memory_bytes = max(self.memory_bytes, memory)
        self.cpu_s = max(self.cpu_s, cpu_s)
        if memory > self._bounds.memory_bytes:
            self.stop("memory")
        elif cpu_s > self._bounds.cpu_s:
            self.stop("cpu")

    def _disk(self) -> int:
        taken = size(self._workspace, MOST_FILES)
        # Files that were removed and are still open are in no folder: the disk itself is looked at.
        full = _free(self._workspace) < self._floor
        if taken.bytes > self._bounds.disk_bytes or taken.files > MOST_FILES or full:
            self.stop("disk")
        return taken.files


def _family(leader: int) -> Iterator[int]:
    """The process and all below it; orphans of a sandbox belong to its first process."""
    waiting = [leader]
    while waiting:
        pid = waiting.pop()
        yield pid
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
                with suppress(OSError):
                    text = Path(f"/proc/{pid}/task/{task}/children").read_text()
                    waiting += map(int, text.split())


def _free(folder: Path) -> int:
    about = os.statvfs(folder)
    return about.f_bavail * about.f_frsize
