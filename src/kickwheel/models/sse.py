"""Server-sent events out of bytes, however those were cut on their way.

Source: the event stream format of the HTML standard, of which models use `data` and comments.
"""

from collections.abc import Iterator

LONGEST_EVENT = 16 << 20
"""Bytes of one event at most; a server that never ends one must not fill our memory."""


class Events:
    """The data of each event, as the bytes come in."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._held = 0
        self._after_return = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of the events that `chunk` completes.

        Raises:
            ValueError: one event is longer than `LONGEST_EVENT`.
        """
        if self._after_return and chunk:
            # CR LF is one end of line, also where it was cut between the two.
            chunk = chunk.removeprefix(b"\n")
            self._after_return = False
        buffer = self._rest + chunk if self._rest else chunk
        self._after_return = buffer.endswith(b"\r")
        if b"\r" in buffer:
            buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = buffer.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data: "):
                # As nearly all lines are.
                self._data.append(line[6:])
                self._held += len(line)
            elif line:
                self._field(line)
            elif self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                self._data, self._held = [], 0
                yield data
        if self._held + len(self._rest) > LONGEST_EVENT:
            raise ValueError(f"an event of more than {LONGEST_EVENT >> 20} MiB")

    def close(self) -> Iterator[bytes]:
        """The data of the last event, where the stream ended without its empty line."""
        if self._rest:
            self._field(self._rest)
        if self._data:
            yield b"\n".join(self._data)
        self._rest, self._data = b"", []

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value.removeprefix(b" ")
            self._data.append(value)
            self._held += len(value)
