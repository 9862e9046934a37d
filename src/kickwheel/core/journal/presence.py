"""A file that is locked for as long as a worker lives, and says where the worker hears a call.

The kernel frees the lock however the process ends, so that others on this machine need not wait for
a lease to run out. Where the file cannot be seen, as from another machine, it says nothing.

A call carries nothing but the worker's own name: whoever hears it looks into the database, as it
does every few seconds anyway. So one that is lost only costs time, and one that is forged nothing.
"""

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from kickwheel.core.files import storage_error


class Presence:
    """This worker's file in a folder.

    Args:
        folder: where workers of one store on one machine have their files.
    Raises:
        StoreError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.worker = f"{_host()}.{os.getpid()}.{os.urandom(4).hex()}"
        """The worker's name, different from any other's."""
        self._folder = folder
        self._path = folder / self.worker
        self._gone: set[str] = set()
        """Workers that had ended when they were looked at; a name comes once."""
        self.calls = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        """Where calls arrive; see `heard`."""
        self.calls.setblocking(False)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            with contextlib.suppress(OSError):  # No loopback here: others have to wait.
                self.calls.bind(("127.0.0.1", 0))
                self._file.write(str(self.calls.getsockname()[1]))
            self._file.flush()
        except OSError as error:
            self.calls.close()
            raise storage_error(error, folder) from error

    def heard(self) -> bool:
        """Whether somebody called since this was asked last."""
        called = False
        with contextlib.suppress(OSError):
            while True:
                called |= self.calls.recv(1024) == self.worker.encode()
        return called

    def gone(self, worker: str) -> bool:
        """Whether the worker's process has surely ended; its file is taken away then."""
        if worker in self._gone:
            return True
        path = self._folder / worker
        try:
            with path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except OSError:  # It is held, or not to be seen.
            return False
        self._gone.add(worker)
        return True

    def leave(self) -> None:
        """The worker ends."""
        self.calls.close()
        self._path.unlink(missing_ok=True)
        self._file.close()


def call(folder: Path, worker: str) -> None:
    """Calls a worker of this machine, that it may look at its runs now; for those of others see
    `Database.call`."""
    if worker.partition(".")[0] != _host():
        return
    with (
        contextlib.suppress(OSError, ValueError),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller,
    ):
        port = int((folder / worker).read_text())
        caller.sendto(worker.encode(), ("127.0.0.1", port))


def _host() -> str:
    name = socket.gethostname()
    return "".join(c if c.isalnum() or c == "-" else "-" for c in name) or "host"
