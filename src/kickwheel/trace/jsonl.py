"""JSON Lines: a file's lines as they are, and the value that a line holds."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kickwheel.core.errors import DataError

LINE_BYTES = 32 << 20
"""A line's length at most: what has none that end is no JSONL."""


def lines(file: Path) -> Iterator[tuple[int, bytes, int, int]]:
    """Number, bytes, bytes done and bytes in all, of each line that is not empty.

    Of a line that is too long comes the beginning, one byte longer than is allowed.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with file.open("rb") as opened:
            total = max(1, file.stat().st_size)
            done = number = 0
            while line := _line(opened):
                number += 1
                done += len(line)
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if line.strip():
                    yield number, line, done, total
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error


def value(line: bytes) -> Any:
    """What the line holds.

    Raises:
        ValueError: it is too long, or no JSON; the text says where.
    """
    if len(line) > LINE_BYTES:
        raise ValueError(f"longer than {LINE_BYTES >> 20} MiB; is this JSONL?")
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: byte {error.start + 1} is none") from error
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("not JSON that can be read: nested too deep") from error


def array(file: Path, name: str | None = None) -> str | None:
    """What to do with a file that is one JSON array and no JSON Lines; `None` where it is not.

    Args:
        name: what the file is called in the text.
    Raises:
        DataError: the file cannot be read.
    """
    found = (line for _, line, _, _ in lines(file))
    first = next(found, b"").strip()
    if not first.startswith(b"["):
        return None
    with contextlib.suppress(ValueError, RecursionError):
        json.loads(first)
        if next(found, None) is not None:
            return None
    name = name or str(file)
    return (
        f"{name}: one JSON array. Traffic is JSON Lines, an object a line; this makes it so:\n"
        f"python3 -c 'import json; [print(json.dumps(x)) for x in json.load(open(\"{name}\"))]' "
        f"> {Path(name).stem}-lines.jsonl"
    )


def _line(opened: IO[bytes]) -> bytes:
    line = opened.readline(LINE_BYTES + 1)
    while line and len(line) > LINE_BYTES and not line.endswith(b"\n"):
        rest = opened.readline(LINE_BYTES)
        if not rest or rest.endswith(b"\n"):
            break
    return line


def _no_constant(name: str) -> None:
    raise ValueError(f"not JSON: {name} is no number there")
