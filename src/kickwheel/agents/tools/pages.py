"""Long results, kept while a run goes on: the agent sees the beginning and pages through the rest.

    [first 20,000 of 1,234,567 characters; go on with more(handle="5f3a09", from=20000)]

What a run keeps lies in one file without a name, which is gone when the run is.
"""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from kickwheel.agents.tools.tool import InvalidArguments, Limits
from kickwheel.records import ToolSpec

KEPT_CHARS = 10_000_000
"""Characters of one result that are kept at most."""
RUN_CHARS = 100_000_000
"""Characters of all results of one run that are kept at most."""
MORE = "more"
"""Name of the tool that pages."""

_CHUNK = 50_000
"""Characters that are written and read at once."""
_SPEC = ToolSpec(
    name=MORE,
    description="Go on reading a result that was too long to be shown at once.",
    parameters={
        "type": "object",
        "properties": {
            "handle": {"type": "string", "description": "As the result names it."},
            "from": {"type": "integer", "minimum": 0, "description": "Character to start at."},
        },
        "required": ["handle", "from"],
    },
)


@dataclass(frozen=True, slots=True)
class _Kept:
    offsets: tuple[int, ...]
    """Where each chunk starts in the file, and where the last one ends; bytes."""
    chars: int
    trusted: bool | None


class Pages:
    """The long results of one run."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._kept: dict[str, _Kept] = {}
        self._chars = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, text: str, shown: int, whole: int, trusted: bool | None) -> str:
        """The first `shown` characters of a longer text, with a note on how to read on.

        Args:
            whole: characters that the result had before `text` was made of it.
        """
        chars = min(len(text), KEPT_CHARS, RUN_CHARS - self._chars)
        if chars <= shown:
            return f"{text[:shown]}\n[{whole - shown:,} more characters were cut off; ask for less]"
        # Named for what it holds, so that a run which is gone through again names it the same.
        handle = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=3).hexdigest()
        self._kept[handle] = _Kept(self._write(text, chars), chars, trusted)
        self._chars += chars
        lost = f"; only the first {chars:,} were kept" if chars < whole else ""
        return f"{text[:shown]}\n{_note(handle, 0, shown, whole)[:-1]}{lost}]"

    def trusted(self, handle: str) -> bool | None:
        """Whether the tool whose result this is was trusted; see `Limits.trusted`."""
        kept = self._kept.get(handle)
        return None if kept is None else kept.trusted

    def read(self, handle: str, start: int, most: int) -> str:
        """At most `most` characters from `start` on, with a note on what follows.

        Raises:
            InvalidArguments: nothing is kept under that handle, or not as much.
        """
        kept = self._kept.get(handle)
        if kept is None:
            raise InvalidArguments(
                f'no result is kept as "{handle}"; there are: {", ".join(self._kept) or "none"}'
            )
        if start >= kept.chars:
            raise InvalidArguments(f"{handle} ends at character {kept.chars:,}")
        end = min(start + most, kept.chars)
        first, last = start // _CHUNK, (end - 1) // _CHUNK
        text = "".join(self._chunk(kept, number) for number in range(first, last + 1))
        text = text[start - first * _CHUNK : end - first * _CHUNK]
        return text if end == kept.chars else f"{text}\n{_note(handle, start, end, kept.chars)}"

    def _write(self, text: str, chars: int) -> tuple[int, ...]:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        offsets = [self._file.seek(0, 2)]
        for start in range(0, chars, _CHUNK):
            piece = text[start : min(start + _CHUNK, chars)].encode("utf-8", "surrogatepass")
            offsets.append(offsets[-1] + self._file.write(piece))
        return tuple(offsets)

    def _chunk(self, kept: _Kept, number: int) -> str:
        assert self._file is not None
        start, end = kept.offsets[number : number + 2]
        self._file.seek(start)
        return self._file.read(end - start).decode("utf-8", "surrogatepass")


class More:
    """The tool that pages; an agent is offered it as soon as there is something to page through."""

    spec = _SPEC

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.limits = Limits(effects="none", tries=1, trusted=True)

    def trusted(self, arguments: Mapping[str, Any]) -> bool | None:
        """Whether the tool whose result is read was trusted."""
        return self._pages.trusted(arguments["handle"])

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The next part."""
        # Room for the note on what follows, so that it is never itself cut off.
        most = self.limits.result_chars - 200
        return self._pages.read(arguments["handle"], arguments["from"], most)


def _note(handle: str, start: int, end: int, of: int) -> str:
    shown = f"first {end:,}" if start == 0 else f"{start:,} to {end:,}"
    return f'[{shown} of {of:,} characters; go on with {MORE}(handle="{handle}", from={end})]'
