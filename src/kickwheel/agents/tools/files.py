"""`kind: files`: the files below a folder, to be looked at, and changed where the app says so.

No path leads out of the folder, by no way (`root`). Text is read in pages and in whatever encoding
it was written in; what is changed stays in its own.
"""

import io
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from kickwheel.agents.tools import text
from kickwheel.agents.tools.edit import edit, write
from kickwheel.agents.tools.root import Root
from kickwheel.agents.tools.search import SAMPLE, Search
from kickwheel.agents.tools.threads import in_thread
from kickwheel.agents.tools.tool import (
    InvalidArguments,
    Limits,
    Tool,
    Toolbox,
    ToolPart,
    safe,
    takes,
)
from kickwheel.agents.tools.tree import Entry, Pattern, walk
from kickwheel.core.errors import ToolError
from kickwheel.core.plugins import Context
from kickwheel.records import ToolSpec

LISTED = 500
"""Entries in one answer."""
_PATH = {"type": "string", "description": "Path from the root folder on, as listed."}


def _encoding(name: str) -> str:
    known = text.known(name)
    if known is None:
        raise ValueError(f'there is no encoding "{name}"; examples are cp1252, cp850, utf-16')
    return known


class Files(ToolPart):
    """Files below a folder."""

    root: Path
    """The folder, from the app's folder on. Nothing outside of it can be reached."""
    write: bool = False
    """Whether files may be written and edited, by tools of their own."""
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None
    """How the files are written; by default what a byte order mark says, else UTF-8, and cp1252
    wherever that does not fit."""

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """A root that is no folder."""
        if not (folder / self.root).is_dir():
            yield "root", f"there is no folder {folder / self.root}"

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """`<name>_list`, `<name>_read`, `<name>_search`; with `write` also `_write` and `_edit`."""
        root = Root(context.folder / self.root)
        name, reads = context.name, self.limits("none")
        page = int(self.result_chars * 0.9)
        tools: list[Tool] = [
            _Files(f"{name}_list", _LIST, reads, lambda asked: listed(root, asked)),
            _Files(
                f"{name}_read", _READ, reads, lambda asked: read(root, asked, page, self.encoding)
            ),
            Search(f"{name}_search", root, reads, self.encoding),
        ]
        if self.write:
            tools += [
                _Files(
                    f"{name}_write",
                    _WRITE,
                    self.limits("repeatable"),
                    lambda asked: write(root, asked, self.encoding),
                ),
                _Files(
                    f"{name}_edit",
                    _EDIT,
                    self.limits("once"),
                    lambda asked: edit(root, asked, self.encoding),
                ),
            ]
        try:
            yield tools
        finally:
            root.close()


class _Files:
    """One thing to do with files."""

    def __init__(
        self,
        name: str,
        spec: ToolSpec,
        limits: Limits,
        act: Callable[[Mapping[str, Any]], str],
    ) -> None:
        self.spec = ToolSpec(
            name=safe(name), description=spec.description, parameters=spec.parameters
        )
        self.limits = limits
        self._act = act

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What came of it.

        Raises:
            InvalidArguments: there is no such file or folder, or it lies outside the root.
            ToolError: it cannot be read or written.
        """
        try:
            return await in_thread(lambda: self._act(arguments))
        except OSError as error:
            raise ToolError(f"the file system says: {error.strerror}") from error


def listed(root: Root, asked: Mapping[str, Any]) -> str:
    """The entries of a folder that a pattern means, a line each."""
    start = asked.get("start") or 0
    lines: list[str] = []
    for number, entry in enumerate(
        walk(root, asked.get("folder") or "", Pattern(asked.get("pattern") or "*"))
    ):
        if number >= start + LISTED:
            lines.append(f"({LISTED} entries from {start} on; ask again with start={number})")
            break
        if number >= start:
            lines.append(_line(entry))
    return "\n".join(lines) or "nothing there"


def read(root: Root, asked: Mapping[str, Any], page: int, encoding: str | None) -> str:
    """A page of a text file, from a line and column on."""
    path, line, column = asked["path"], asked.get("line") or 1, asked.get("column") or 1
    with root.file(path) as handle:
        opened = _text(handle, path, encoding)
        for passed in range(1, line):
            if not _rest(opened):
                raise InvalidArguments(f"{path} has only {passed - 1} lines")
        opened_at = 1
        while opened_at < column and (piece := opened.readline(min(column - opened_at, 65536))):
            opened_at += len(piece)
            if piece.endswith("\n"):
                raise InvalidArguments(f"line {line} of {path} has only {opened_at - 2} characters")
        return _page(opened, line, column, page)


def whole(root: Root, path: str, encoding: str | None, most: int) -> str | bytes:
    """All that a file holds: as text, or as bytes where it is none.

    Raises:
        InvalidArguments: there is no such file, or it lies outside the root.
        ToolError: it holds more than `most` bytes.
    """
    with root.file(path) as handle, io.FileIO(handle, closefd=False) as raw:
        size = os.fstat(handle).st_size
        data = raw.read(most + 1) if size <= most else b""
        if size > most or len(data) > most:
            raise ToolError(
                f"{path} has {size:,} bytes, and {most:,} are read at once", lasting=True
            )
    if encoding is None and not text.is_text(data[:SAMPLE]):
        return data
    return text.decoded(data, encoding)


def _line(entry: Entry) -> str:
    path = entry.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if entry.kind != "file":
        return f"{path}/" if entry.kind == "folder" else f"{path} ({entry.kind})"
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(entry.modified))
    return f"{path} ({entry.size:,} bytes, {when} UTC)"


def _text(handle: int, path: str, encoding: str | None) -> io.TextIOWrapper:
    """The file as a stream of text; the handle stays open when the stream is closed."""
    raw = io.BufferedReader(io.FileIO(handle, closefd=False))
    sample = raw.peek(SAMPLE)[:SAMPLE]
    named = encoding or text.marked(sample)
    if named is None and not text.is_text(sample):
        size = os.fstat(handle).st_size
        raise ToolError(f"{path} is no text ({size:,} bytes)", lasting=True)
    errors = "replace" if named else text.FALLBACK
    return io.TextIOWrapper(raw, named or "utf-8", errors, newline=None)


def _rest(opened: io.TextIOWrapper) -> bool:
    """Reads to the end of the line; whether there was one."""
    some = False
    while piece := opened.readline(65536):
        some = True
        if piece.endswith("\n"):
            break
    return some


def _page(opened: io.TextIOWrapper, line: int, column: int, page: int) -> str:
    """Text from here on, to the end of the last line that fits, or the part of one that does."""
    parts: list[str] = []
    room = page
    while room > 0:
        piece = opened.readline(room)
        if not piece:
            whole = "".join(parts)
            return whole or ("(the file is empty)" if line == 1 else "(the file ends here)")
        if not piece.endswith("\n") and len(piece) == room and parts:
            break  # The next page starts with this line, whole.
        parts.append(piece)
        room -= len(piece)
        if piece.endswith("\n"):
            line, column = line + 1, 1
        else:
            column += len(piece)
    if room <= 0 and not opened.readline(1):
        return "".join(parts)
    at = f"line={line}" + (f", column={column}" if column > 1 else "")
    end = "" if parts[-1].endswith("\n") else "\n"
    return f"{''.join(parts)}{end}(there is more: read on from {at})"


_LIST = ToolSpec(
    name="",
    description="Lists files and folders.",
    parameters=takes(
        folder={"type": "string", "default": "", "description": "Folder; by default the root."},
        pattern={
            "type": "string",
            "default": "*",
            "description": "Which entries: `*.csv` in the folder itself, `**/*.csv` at any depth.",
        },
        start={
            "type": "integer",
            "minimum": 0,
            "default": 0,
            "description": "Entry to start from.",
        },
    ),
)
_READ = ToolSpec(
    name="",
    description="Reads a text file, page by page.",
    parameters=takes(
        "path",
        path=_PATH,
        line={"type": "integer", "minimum": 1, "default": 1, "description": "Line to start from."},
        column={
            "type": "integer",
            "minimum": 1,
            "default": 1,
            "description": "Character of that line to start from.",
        },
    ),
)
_WRITE = ToolSpec(
    name="",
    description="Writes a text file: makes it, or replaces all that is in it.",
    parameters=takes(
        "path",
        "text",
        path=_PATH,
        text={"type": "string", "description": "All that the file shall hold."},
    ),
)
_EDIT = ToolSpec(
    name="",
    description="Changes one place in a text file.",
    parameters=takes(
        "path",
        "old",
        "new",
        path=_PATH,
        old={
            "type": "string",
            "minLength": 1,
            "description": "The text to replace, exactly as it stands in the file, and only once.",
        },
        new={"type": "string", "description": "The text to put in its place."},
    ),
)
