"""A file's entries, one by one, whatever holds them:

    JSON Lines     an object a line
    a JSON array   its elements; on one line or many, the file is never read as a whole
    JSON           objects one after the other, each over any number of lines
    CSV            a row under its header, all values texts

An object that only wraps others, as the answers of APIs do (`{"data": […]}`, Elasticsearch's
`{"hits": {"hits": […]}}`, Langfuse's `{"observations": […], "scores": […]}`), gives those others.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.trace import jsonl

CHUNK = 1 << 20
"""Bytes that are read at once."""

_OTHER = {
    b"PAR1": "a Parquet file, which is not read. Export JSON Lines or CSV.",
    b"\x1f\x8b": "packed by gzip. Unpack it first: gunzip FILE.",
    b"\x28\xb5\x2f\xfd": "packed by zstd. Unpack it first: unzstd FILE.",
    b"PK\x03\x04": "a zip archive. Unpack it first: unzip FILE.",
    b"\xff\xfe": "UTF-16 text. Write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE.",
    b"\xfe\xff": "UTF-16 text. Write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE.",
}
"""What a file that is no text begins with, and what to do with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry of a file."""

    line: int
    """Where it begins, from 1."""
    entry: int | None = None
    """Its position in what wraps it, from 0; `None` where each line is an entry."""
    raw: bytes
    """As it stands there; of CSV, and of what was unwrapped, the JSON of the value."""
    value: Any
    wrong: str | None = None
    """Why it has no value."""
    done: int
    """Bytes of the file up to here, of `total`."""
    total: int

    def place(self, file: str) -> str:
        """Where it stands, for people: `chats.jsonl:212`, `traces.json[12]`."""
        return f"{file}:{self.line}" if self.entry is None else f"{file}[{self.entry}]"


def rows(file: Path) -> Iterator[Row]:
    """The file's entries.

    Raises:
        DataError: it cannot be read, is packed or of a kind that is not read, or is cut in the
            middle of an array, an object or a row.
    """
    first, second = _beginning(file)
    for mark, what in _OTHER.items():
        if first.startswith(mark):
            raise DataError(f"{file}: this is {what.replace('FILE', file.name)}")
    whole = _is_json(first)
    array = first.startswith(b"[") and not (whole and second)
    spread = first.startswith(b"{") and not whole and not second.startswith(b"{")
    if array or spread:
        yield from _unwrapped(_values(file))
    elif file.suffix.lower() == ".csv" or (first and b"," in first and _is_header(first)):
        yield from _csv(file)
    else:
        yield from _unwrapped(_lines(file))


def _beginning(file: Path) -> tuple[bytes, bytes]:
    found = [line.strip() for _, (_, line, _, _) in zip(range(2), jsonl.lines(file), strict=False)]
    first, second = [*found, b"", b""][:2]
    return first, second


def _is_json(line: bytes) -> bool:
    try:
        jsonl.value(line)
    except ValueError:
        return False
    return True


def _is_header(line: bytes) -> bool:
    """Whether the line names columns: two or more bare words."""
    names = [name.strip(b'" ') for name in line.split(b",")]
    return len(names) > 1 and all(
        name.replace(b".", b"").replace(b"_", b"").replace(b" ", b"").isalnum()
        for name in names
        if name
    )


def _lines(file: Path) -> Iterator[Row]:
    for number, line, done, total in jsonl.lines(file):
        value, wrong = None, None
        try:
            value = jsonl.value(line)
        except ValueError as error:
            wrong = str(error)
            if done >= total and not line.endswith(b"\n") and len(line) <= jsonl.LINE_BYTES:
                wrong += "; the file ends in the middle of this line"
        yield Row(line=number, raw=line, value=value, wrong=wrong, done=done, total=total)


def _values(file: Path) -> Iterator[Row]:
    """What stands in an array, or one after the other."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    text = _Text(file)
    array = text.skip("\ufeff") == "["
    if array:
        text.take(1)
    position = 0
    while True:
        at = text.skip("," if array else "")
        if at == "" and array:
            raise DataError(
                f"{file}: the array is not closed after entry {position - 1}: the file was cut. "
                "Write it again, or close it with ]."
            )
        if at == "":
            return
        if array and at == "]":
            text.take(1)
            if rest := text.skip(""):
                raise DataError(f'{file}:{text.line}: "{rest}" stands behind the end of the array')
            return
        line = text.line
        value, raw = text.decode(decoder, f"entry {position}")
        yield Row(
            line=line,
            entry=position,
            raw=raw.encode("utf-8", "surrogatepass"),
            value=value,
            done=text.done,
            total=text.total,
        )
        position += 1


class _Text:
    """A file's text, read as far as it is needed."""

    def __init__(self, file: Path) -> None:
        self.line, self.done = 1, 0
        self._file, self._held, self._at = file, "", 0
        try:
            self.total = max(1, file.stat().st_size)
            self._bytes = file.open("rb")
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from error
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def skip(self, also: str) -> str:
        """The next character that is neither space nor one of `also`; empty at the end."""
        while True:
            while self._at < len(self._held):
                found = self._held[self._at]
                if not (found.isspace() or found in also):
                    return found
                self.take(1)
            if not self._more(CHUNK):
                return ""

    def take(self, characters: int) -> str:
        """Goes on behind so many characters that are held, and returns them."""
        taken = self._held[self._at : self._at + characters]
        self.line += taken.count("\n")
        self._at += characters
        return taken

    def decode(self, decoder: json.JSONDecoder, what: str) -> tuple[Any, str]:
        """The JSON value that begins here, and its text."""
        while True:
            try:
                value, end = decoder.raw_decode(self._held, self._at)
                return value, self.take(end - self._at)
            except json.JSONDecodeError as error:
                held, at = len(self._held) - self._at, error.pos - self._at
                # Twice as much each time: a large value costs no more than its length.
                if held <= jsonl.LINE_BYTES and self._more(max(CHUNK, held)):
                    continue
                raise DataError(self._told(error.msg, what, at)) from error
            except (RecursionError, ValueError) as error:
                raise DataError(f"{self._file}:{self.line}: {what} is no JSON: {error}") from error

    def _told(self, wrong: str, what: str, at: int) -> str:
        """What is wrong at that character of what is held."""
        rest = self._held[self._at :].rstrip()
        if len(rest) > jsonl.LINE_BYTES:
            return f"{self._file}:{self.line}: {what} is longer than {jsonl.LINE_BYTES >> 20} MiB"
        if _is_cut(wrong, rest[at:]):
            return (
                f"{self._file}: the file was cut: {what}, which begins in line {self.line}, has no "
                "end. Write the file again; nothing was imported."
            )
        line = self.line + rest.count("\n", 0, at)
        return f"{self._file}:{line}: {what} is no JSON: {wrong}; nothing was imported."

    def _more(self, size: int) -> bool:
        try:
            read = self._bytes.read(size)
        except OSError as error:
            raise DataError(f"{self._file}: cannot be read: {error.strerror or error}") from error
        self.done += len(read)
        try:
            text = self._decoder.decode(read, final=not read)
        except UnicodeDecodeError as error:
            raise DataError(f"{self._file}: not UTF-8 text: {error.reason}") from error
        self._held, self._at = self._held[self._at :] + text, 0
        if not read:
            self._bytes.close()
            self._bytes = _EMPTY
        return bool(read)


def _is_cut(wrong: str, rest: str) -> bool:
    """Whether a value is no JSON because its text ends with `rest`."""
    if not rest or "Unterminated" in wrong or ("escape" in wrong and len(rest) <= 6):
        return True
    return any(word.startswith(rest) for word in ("true", "false", "null", "-"))


class _Nothing:
    def read(self, size: int) -> bytes:
        return b""

    def close(self) -> None:
        return


_EMPTY: Any = _Nothing()


def _csv(file: Path) -> Iterator[Row]:
    csv.field_size_limit(jsonl.LINE_BYTES)
    total = max(1, file.stat().st_size)
    with file.open("rb") as held, io.TextIOWrapper(held, "utf-8-sig", newline="") as opened:
        reader = csv.reader(opened, strict=True)
        header: list[str] = []
        line = 1
        try:
            for cells in reader:
                began, line = line, reader.line_num + 1
                if not header:
                    header = cells
                    continue
                if not cells:
                    continue
                value, wrong = dict(zip(header, cells, strict=False)), None
                if len(cells) != len(header):
                    fewer = "; was the file cut?" if len(cells) < len(header) else ""
                    wrong = f"{len(cells)} cells under {len(header)} columns{fewer}"
                raw = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
                done = min(total, held.tell())
                yield Row(line=began, raw=raw, value=value, wrong=wrong, done=done, total=total)
        except csv.Error as error:
            raise DataError(
                f"{file}: the row that begins in line {line} is no CSV: {error}. Was the file cut? "
                "Nothing was imported."
            ) from error
        except UnicodeDecodeError as error:
            raise DataError(f"{file}: not UTF-8 text: {error.reason}") from error


def _unwrapped(found: Iterator[Row]) -> Iterator[Row]:
    for row in found:
        inner = _inner(row.value)
        if inner is None:
            yield row
            continue
        for position, value in enumerate(inner):
            raw = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
            yield Row(
                line=row.line,
                entry=position,
                raw=raw,
                value=value,
                done=row.done,
                total=row.total,
            )


def _inner(value: Any) -> list[Any] | None:
    if not isinstance(value, Mapping):
        return None
    hits = value.get("hits")
    if isinstance(hits, Mapping) and isinstance(hits.get("hits"), list):
        return list(hits["hits"])
    data = value.get("data")
    if value.keys() == {"observations", "scores"} and all(
        isinstance(v, list) for v in value.values()
    ):
        return [*value["observations"], *value["scores"]]
    if isinstance(data, list) and not value.keys() - {"data", "meta", "next_cursor", "object"}:
        return data
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number there")
