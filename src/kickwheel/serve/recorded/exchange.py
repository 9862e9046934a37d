"""One request that passed, and its answer, as bytes."""

import time
import zlib

COPY_BYTES = 16 << 20
"""Of a request, and of its answer, at most so many bytes are kept to be read."""
_TOO_LARGE = f"more than {COPY_BYTES >> 20} MiB"


class Copy:
    """What is kept of bytes that pass."""

    __slots__ = ("_limit", "_pieces", "held", "size")

    def __init__(self, limit: int = COPY_BYTES) -> None:
        """Keeps so many bytes, or, of more, none."""
        self.size = 0
        """How many bytes passed."""
        self.held = 0
        """How many of them are kept."""
        self._limit = limit
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Takes the next bytes."""
        self.size += len(piece)
        if self.size <= self._limit:
            self._pieces.append(piece)
            self.held = self.size
        elif self.held:
            self._pieces.clear()
            self.held = 0

    def whole(self) -> bytes:
        """All bytes that passed.

        Raises:
            ValueError: they are too many, and were not kept.
        """
        if self.size > self._limit:
            raise ValueError(_TOO_LARGE)
        return b"".join(self._pieces)


class Exchange:
    """What passed; filled in while it passes, read once it is over."""

    __slots__ = (
        "agent",
        "answer",
        "asked",
        "cut",
        "encoding",
        "end_ns",
        "first_ns",
        "path",
        "project",
        "start_ns",
        "status",
        "trace",
        "whose",
    )

    def __init__(
        self,
        project: str,
        path: str,
        trace: str,
        limit: int = COPY_BYTES,
        whose: tuple[str, str] = ("", ""),
    ) -> None:
        """Of the request and of the answer so many bytes are kept, or, of more, none."""
        self.project = project
        self.whose = whose
        """Tenant and user who asked."""
        self.path = path
        """Behind the version: `chat/completions`."""
        self.trace = trace
        """Id of the trace that it becomes."""
        self.agent = ""
        """The client's user agent."""
        self.start_ns = time.time_ns()
        """Unix time, nanoseconds, here and below."""
        self.first_ns = 0
        """When the answer's first bytes came; 0 while there are none."""
        self.end_ns = 0
        self.asked = Copy(limit)
        self.status = 0
        """0 where nothing was answered."""
        self.encoding = ""
        """The answer's `Content-Encoding`."""
        self.answer = Copy(limit)
        self.cut: str | None = None
        """Why the answer is not whole; `None` where it is."""

    def said(self) -> bytes:
        """The answer without its compression.

        Raises:
            ValueError: it is compressed in a way that is not known, broken, or too large.
        """
        data = self.answer.whole()
        if self.encoding in ("", "identity"):
            return data
        if self.encoding not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(f"compressed by {self.encoding}")
        try:
            return _inflated(data, zlib.MAX_WBITS | 32)
        except zlib.error:
            pass
        try:
            return _inflated(data, -zlib.MAX_WBITS)  # What some send for deflate.
        except zlib.error as error:
            raise ValueError(f"cannot be decompressed: {error}") from error


def _inflated(data: bytes, bits: int) -> bytes:
    reading = zlib.decompressobj(bits)
    said = reading.decompress(data, COPY_BYTES)
    if reading.unconsumed_tail:
        raise ValueError(_TOO_LARGE)
    return said
