"""One request that passed, and its answer, as bytes."""

import zlib

COPY_BYTES = 16 << 20
"""Of a request, and of its answer, at most so many bytes are kept to be read."""


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
        "size",
        "start_ns",
        "status",
        "trace",
    )

    def __init__(self, project: str, path: str, trace: str, agent: str, start_ns: int) -> None:
        self.project = project
        self.path = path
        """Behind the version: `chat/completions`."""
        self.trace = trace
        """Id of the trace that it becomes."""
        self.agent = agent
        """The client's user agent."""
        self.start_ns = start_ns
        """Unix time, nanoseconds, here and below."""
        self.first_ns = 0
        """When the answer's first bytes came; 0 while there are none."""
        self.end_ns = 0
        self.asked = b""
        self.status = 0
        """0 where nothing was answered."""
        self.encoding = ""
        """The answer's `Content-Encoding`."""
        self.answer: list[bytes] = []
        self.size = 0
        """Bytes of the answer, those among them that were not kept."""
        self.cut: str | None = None
        """Why the answer is not whole; `None` where it is."""

    def add(self, piece: bytes) -> None:
        """Takes the next bytes of the answer."""
        self.size += len(piece)
        if self.size <= COPY_BYTES:
            self.answer.append(piece)

    def said(self) -> bytes:
        """The answer without its compression.

        Raises:
            ValueError: it is compressed in a way that is not known, broken, or too large.
        """
        if self.size > COPY_BYTES:
            raise ValueError(f"the answer has more than {COPY_BYTES >> 20} MiB and was not read")
        data = b"".join(self.answer)
        if self.encoding in ("", "identity"):
            return data
        if self.encoding not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(f"the answer is compressed by {self.encoding} and was not read")
        try:
            return _inflated(data, zlib.MAX_WBITS | 32)
        except zlib.error:
            pass
        try:
            return _inflated(data, -zlib.MAX_WBITS)  # What many send for deflate.
        except zlib.error as error:
            raise ValueError(f"the answer cannot be decompressed: {error}") from error


def _inflated(data: bytes, bits: int) -> bytes:
    reading = zlib.decompressobj(bits)
    said = reading.decompress(data, COPY_BYTES)
    if reading.unconsumed_tail:
        raise ValueError(f"the answer has more than {COPY_BYTES >> 20} MiB and was not read")
    return said
