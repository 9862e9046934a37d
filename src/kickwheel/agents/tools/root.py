"""A folder that paths cannot lead out of.

Paths are walked step by step from the folder's own handle, each step opened without following
links; a link is read and its way walked in the same manner. So nothing depends on what a path
looked like a moment ago: whoever swaps a folder for a link meanwhile is not followed either.
Source: openat(2), O_NOFOLLOW; the rules are those of RESOLVE_BENEATH in openat2(2).
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kickwheel.agents.tools.tool import InvalidArguments
from kickwheel.core.errors import UsageError

MOST_LINKS = 40
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe would otherwise wait for somebody to write.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Root:
    """A folder, open; all paths below are taken from here.

    Raises:
        UsageError: there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"{folder}: is no folder that can be opened: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Closes the folder."""
        os.close(self._handle)

    @contextmanager
    def file(self, path: str) -> Iterator[int]:
        """A handle of the file, open for reading.

        Raises:
            InvalidArguments: there is none, or it is no plain file.
        """
        with self.place(path) as (folder, name), _told(path):
            if not name:
                raise InvalidArguments(f"{_shown(path)} is a folder")
            handle = os.open(name, _FILE, dir_fd=folder)
            try:
                mode = os.fstat(handle).st_mode
                if not stat.S_ISREG(mode):
                    what = "a folder" if stat.S_ISDIR(mode) else "no plain file"
                    raise InvalidArguments(f"{_shown(path)} is {what}")
                yield handle
            finally:
                os.close(handle)

    @contextmanager
    def inside(self, path: str) -> Iterator[int]:
        """A handle of the folder.

        Raises:
            InvalidArguments: there is none.
        """
        with self.place(path) as (folder, name), _told(path):
            handle = os.open(name, _FOLDER, dir_fd=folder) if name else os.dup(folder)
            try:
                yield handle
            finally:
                os.close(handle)

    @contextmanager
    def place(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """A handle of the folder in which the path ends, and its last step; links are followed.

        The last step is empty where the path is the root itself or ends in `..`; what it names
        need not be there.

        Args:
            make: whether folders that are missing on the way are made.
        Raises:
            InvalidArguments: the path leads out of the root, or through something that is no
                folder.
        """
        if "\0" in path:
            raise InvalidArguments("a path cannot hold a zero byte")
        if path.startswith("/"):
            raise InvalidArguments(f"{_shown(path)}: paths start at the root, without a slash")
        handles = [os.dup(self._handle)]
        try:
            with _told(path):
                name = self._walk(path, handles, make)
            yield handles[-1], name
        finally:
            for handle in handles:
                os.close(handle)

    def _walk(self, path: str, handles: list[int], make: bool) -> str:
        """Opens the folders on the way, one on another, and gives the last step."""
        steps = _steps(path)[::-1]
        links = 0
        while steps:
            step = steps.pop()
            if step == "..":
                if len(handles) == 1:
                    raise InvalidArguments(f"{_shown(path)} leads out of the root")
                os.close(handles.pop())
                continue
            target = _link(step, handles[-1])
            if target is not None:
                links += 1
                if links > MOST_LINKS:
                    raise InvalidArguments(f"{_shown(path)} leads through links in a circle")
                if target.startswith("/"):
                    raise InvalidArguments(f"{_shown(path)}: the link {step} leads out of the root")
                steps += _steps(target)[::-1]
                continue
            if not steps:
                return step
            if make:
                with suppress(FileExistsError):
                    os.mkdir(step, dir_fd=handles[-1])
            handles.append(os.open(step, _FOLDER, dir_fd=handles[-1]))
        return ""


def _steps(path: str) -> list[str]:
    return [step for step in path.split("/") if step not in ("", ".")]


def _link(name: str, folder: int) -> str | None:
    """Where the link leads; `None` where it is none, or is not there."""
    try:
        return os.readlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Errors of the system as what is wrong with the path."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            what = "is a link"
        elif error.errno == errno.ENOENT:
            what = "is not there"
        elif error.errno == errno.ENOTDIR:
            what = "leads through something that is no folder"
        else:
            what = f"cannot be used: {error.strerror}"
        raise InvalidArguments(f"{_shown(path)} {what}") from error
    except UnicodeEncodeError as error:
        raise InvalidArguments("a path that no file can have") from error


def _shown(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:199]}…"
