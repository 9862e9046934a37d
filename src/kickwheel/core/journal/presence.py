"""A file that is locked for as long as a worker lives.

The kernel frees the lock however the process ends, so that others on this machine need not wait for
a lease to run out. Where the file cannot be seen, as from another machine, it says nothing.
"""

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
        host = "".join(c if c.isalnum() or c == "-" else "-" for c in socket.gethostname())
        self.worker = f"{host or 'host'}.{os.getpid()}.{os.urandom(4).hex()}"
        """The worker's name, different from any other's."""
        self._folder = folder
        self._path = folder / self.worker
        self._gone: set[str] = set()
        """Workers that had ended when they were looked at; a name comes once."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w")
        except OSError as error:
            raise storage_error(error, folder) from error
        fcntl.flock(self._file, fcntl.LOCK_EX)

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
        self._path.unlink(missing_ok=True)
        self._file.close()
