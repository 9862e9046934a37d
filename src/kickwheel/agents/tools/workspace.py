"""A folder in which sandboxed programs work, as seen from outside.

What lies in it was made by somebody who may mean harm: nothing here follows a link, waits on a
pipe or believes a size.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kickwheel.agents.tools.tool import InvalidArguments

NOBODY = 65534
"""Uid and gid of sandboxed programs where kickwheel itself runs as root."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a folder takes up."""

    bytes: int
    """Blocks on the disk, not the lengths that files claim."""
    files: int


@contextmanager
def scratch() -> Iterator[Path]:
    """A new folder for sandboxed programs, gone with all in it when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="kickwheel-"))
    try:
        _hand_over(folder)
        yield folder
    finally:
        remove(folder)


def kept(folder: Path) -> Path:
    """The folder, made where there is none, for sandboxed programs to keep files in."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    _hand_over(folder)
    return folder


def size(folder: Path, most_files: int) -> Size:
    """What lies in the folder; counting ends soon after `most_files`."""
    taken = files = 0
    waiting = [folder]
    while waiting and files <= most_files:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                files += 1
                with suppress(OSError):  # It may be gone already.
                    taken += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                if files > most_files:
                    break
    return Size(taken, files)


def read(folder: Path, name: str, most: int) -> bytes:
    """The first `most` bytes of a file in the folder.

    Raises:
        InvalidArguments: there is no such file, it is none, or it leads out of the folder.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
        raise InvalidArguments(f'"{name}" must be a path below the workspace')
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, _FOLDER, dir_fd=at)
            os.close(at)
            at = below
        # Without waiting: a pipe would keep us until somebody writes to it.
        file = os.open(parts[-1], _FILE, dir_fd=at)
    except OSError as error:
        why = "leads elsewhere" if os.path.islink(folder / name) else error.strerror  # noqa: PTH114
        raise InvalidArguments(f'"{name}" cannot be read: {why}') from error
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise InvalidArguments(f'"{name}" is no file')
    with os.fdopen(file, "rb") as opened:
        return opened.read(most)


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def remove(folder: Path) -> None:
    """Removes the folder, whatever rights its own folders were given."""
    for at, folders, _ in os.walk(folder):
        for name in folders:
            below = Path(at, name)
            if not below.is_symlink():
                with suppress(OSError):
                    below.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _hand_over(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    folder.chmod(0o700)
