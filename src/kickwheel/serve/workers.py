"""One server in several processes: each listens on the same port, and the kernel deals out callers.

Each process opens the app for itself, with engines of its own; they share the store, where leases
see to it that a run and a fine-tuning job have one worker only. A process that dies is started
again; all end with the parent, however it ends.
"""

import contextlib
import ctypes
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from kickwheel.core.errors import KickwheelError, UsageError

DEATHS = 5
"""So many deaths within `WITHIN_S` seconds, and the server gives up."""
WITHIN_S = 60.0
LOOK_S = 1.0
STOP_S = 40.0
"""Seconds that processes may take to let running answers end."""
_PR_SET_PDEATHSIG = 1


def serve_in_processes(
    command: Sequence[str], count: int, host: str, port: int, on_ready: Callable[[str], None]
) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        command: starts one server on a shared port, which it finds behind `--port`, and calls
            `end_with` with the number behind `--parent`. Once it answers it prints a line that
            begins with its URL, up to `/v1`. What else it prints is printed here.
        count: how many processes.
        port: 0 takes a free one.
        on_ready: called with the first one's line once all answer.
    Raises:
        UsageError: the port is busy.
        KickwheelError: the processes die again and again.
    """
    with _kept(host, port) as taken:
        started = [*command, "--port", str(taken), "--parent", str(os.getpid())]
        servers: list[_Server] = []
        stopping = False

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal stopping
            stopping = True
            for server in servers:
                with contextlib.suppress(ProcessLookupError):
                    server.process.send_signal(signal.SIGTERM)

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            servers += (_Server(started, taken) for _ in range(count))
            said = [server.line() for server in servers]
            if all(said):
                on_ready(said[0])
            deaths: list[float] = []
            while not stopping:
                ended = _ended(servers)
                if stopping or ended is None:
                    continue
                deaths = [t for t in deaths if time.monotonic() - t < WITHIN_S]
                deaths.append(time.monotonic())
                if len(deaths) >= DEATHS or not all(said):
                    raise KickwheelError(
                        f"a server process ended with status {servers[ended].process.returncode}, "
                        f"{len(deaths)} in the last minute; what it said stands above"
                    )
                servers[ended] = _Server(started, taken)
        finally:
            stop(signal.SIGTERM, None)
            _wait(servers)
            for number, handler in before.items():
                signal.signal(number, handler)


def end_with(parent: int) -> None:
    """Sees to it that this process gets SIGTERM when its parent ends, however it ends.

    Args:
        parent: id of the process that started this one.
    Raises:
        KickwheelError: it has ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The kernel tells of ends from now on only.
    if os.getppid() != parent:
        raise KickwheelError("the server that started this process has ended")


def shared_listener(family: int) -> socket.socket:
    """A socket that may listen where others of this user do."""
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return listening


@contextlib.contextmanager
def _kept(host: str, port: int) -> Iterator[int]:
    """The port, held so that no other user's process can join."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    try:
        with socket.socket(family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {host} is busy. Stop what uses it, or take another: --port"
            ) from error
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            held.bind(address)
        except OSError as error:
            raise UsageError(f"port {port} on {host} was taken meanwhile: try again") from error
        yield int(held.getsockname()[1])


class _Server:
    """One of the processes, and what it prints."""

    def __init__(self, command: Sequence[str], port: int) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._line = ""
        self._url = re.compile(rf"https?://\S+:{port}/v1 ")
        self._told = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self) -> str:
        """The line that says where it answers, once it does; nothing where it ended before."""
        self._told.wait()
        return self._line

    def end(self, timeout_s: float) -> None:
        """Waits until it has ended, and kills it where it does not."""
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(1.0)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                if self._line or not self._url.match(line):
                    print(line, end="", flush=True)
                    continue
                self._line = line.strip()
                self._told.set()
        self._told.set()


def _ended(servers: Sequence[_Server]) -> int | None:
    """The place of a process that has ended; waits up to `LOOK_S` for one."""
    until = time.monotonic() + LOOK_S
    while time.monotonic() < until:
        for place, server in enumerate(servers):
            if server.process.poll() is not None:
                return place
        time.sleep(LOOK_S / 10)
    return None


def _wait(servers: Sequence[_Server]) -> None:
    until = time.monotonic() + STOP_S
    for server in servers:
        server.end(max(0.0, until - time.monotonic()))
