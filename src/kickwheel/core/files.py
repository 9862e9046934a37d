"""Files written whole or not at all, and the digests of their bytes."""

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kickwheel.core.errors import StoreError


def write_whole(path: Path, data: bytes | str, *, mode: int = 0o644) -> None:
    """Writes beside `path`, flushes to disk and renames: readers see the old bytes or the new.

    Args:
        mode: who may read and write it, at no moment more than these.
    Raises:
        StoreError: the disk is full or the folder cannot be written; `path` is as it was.
    """
    with writing(path, mode=mode) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def writing(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block ends well, and is gone otherwise.

    Raises:
        StoreError: the disk is full or the folder cannot be written; `path` is as it was.
    """
    beside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        beside = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(mode)
        beside.replace(path)
        beside = None
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def storage_error(error: OSError, path: Path) -> StoreError:
    """`error` in words that say what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(f"{path}: the disk is full. Free some space and run the same again.")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        advice = ". Make it writable, or name another folder by `store` in the app file."
        return StoreError(f"{path}: {error.strerror}{advice}")
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return StoreError(f"{path}: {path.parent} is no folder. Move away what is there.")
    return StoreError(f"{path}: {error.strerror or error}")


@contextlib.contextmanager
def only_one(path: Path, doing: str) -> Iterator[None]:
    """Holds the lock file `path` during the block; the kernel frees it however the process ends.

    Raises:
        StoreError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StoreError(
                f"{doing} is already running here (process {holder}). "
                f"Wait for it to end, or stop it and run the same again."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def home() -> Path:
    """Where models and other things that outlive an app are kept: KICKWHEEL_HOME, by default
    `~/.cache/kickwheel`."""
    return Path(os.environ.get("KICKWHEEL_HOME") or "~/.cache/kickwheel").expanduser()


def sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
