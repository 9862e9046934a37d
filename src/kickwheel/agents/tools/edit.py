"""Text files below a root, changed: whole or not at all, in the encoding that they were in."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kickwheel.agents.tools import text
from kickwheel.agents.tools.root import Root
from kickwheel.agents.tools.tool import InvalidArguments

MOST_EDITED = 10_000_000
"""Bytes of a file that is edited."""


def write(root: Root, asked: Mapping[str, Any], encoding: str | None) -> str:
    """Makes a file, or puts other text into it; folders on the way are made."""
    path, content = asked["path"], asked["text"]
    with root.place(path, make=True) as (folder, name):
        before = _bytes(folder, name, path)
        named = _named(before or b"", encoding)
        if before is not None and b"\r\n" in before:
            content = content.replace("\r\n", "\n").replace("\n", "\r\n")
        data = _encoded(content, named, path)
        _replace(folder, name, data)
    done = "written" if before is None else "written anew"
    return f"{path}: {done}, {len(data):,} bytes"


def edit(root: Root, asked: Mapping[str, Any], encoding: str | None) -> str:
    """Puts one text in the place of another that stands in a file exactly once."""
    path, old, new = asked["path"], asked["old"], asked["new"]
    with root.place(path) as (folder, name):
        before = _bytes(folder, name, path)
        if before is None:
            raise InvalidArguments(f"{path} is not there")
        named = _named(before, encoding)
        content = before.decode(named, "surrogateescape")
        if "\r\n" in content:
            old, new = (t.replace("\r\n", "\n").replace("\n", "\r\n") for t in (old, new))
        times = content.count(old)
        if times != 1:
            told = "does not stand" if times == 0 else f"stands {times} times"
            raise InvalidArguments(f"the old text {told} in {path}; it must stand there once")
        data = _encoded(content.replace(old, new), named, path)
        _replace(folder, name, data)
    line = content[: content.index(old)].count("\n") + 1
    return f"{path}: line {line} changed"


def _bytes(folder: int, name: str, path: str) -> bytes | None:
    """What stands in the file; `None` where there is none."""
    if not name:
        raise InvalidArguments(f"{path} is a folder")
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidArguments(f"{path} is no plain file")
        if found.st_size > MOST_EDITED:
            raise InvalidArguments(f"{path} is too big to be changed ({found.st_size:,} bytes)")
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as opened:
        return opened.read(MOST_EDITED + 1)


def _named(data: bytes, encoding: str | None) -> str:
    """The encoding in which a file stays."""
    found = encoding or text.marked(data)
    if found is not None:
        return found
    try:
        data.decode()
        return "utf-8"
    except UnicodeDecodeError:
        return "cp1252"


def _encoded(content: str, named: str, path: str) -> bytes:
    try:
        return content.encode(named, "surrogateescape")
    except UnicodeEncodeError as error:
        sign = content[error.start]
        raise InvalidArguments(
            f'"{sign}" cannot be written into {path}, which is in {named}'
        ) from error


def _replace(folder: int, name: str, data: bytes) -> None:
    """Writes the file beside and puts it in its place, with the rights of what was there."""
    beside = f".{name[:200]}.{os.urandom(4).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(beside, flags, 0o666, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as opened:
            with suppress(FileNotFoundError):
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                os.fchmod(handle, stat.S_IMODE(mode))
            opened.write(data)
            opened.flush()
            os.fsync(handle)
        os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise
