"""An answer on its way to the client: whole, or as a stream of events."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Outgoing:
    """One answer.

    Args:
        trace: id of the trace that tells how it came about.
        stream: whether it goes in pieces.
    """

    def __init__(self, send: Send, trace: str, *, stream: bool) -> None:
        self.begun = False
        """Whether the status was sent."""
        self.ended = False
        """Whether all was sent."""
        self.stream = stream
        self._send = send
        self._trace = trace

    async def events(self, data: bytes, *, last: bool = False) -> None:
        """Sends events of the stream."""
        if not self.begun:
            # nginx would collect the stream otherwise.
            await self._start("text/event-stream; charset=utf-8", (b"x-accel-buffering", b"no"))
        self.ended = last
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def whole(self, value: Any) -> None:
        """Sends the whole answer, as JSON."""
        body = msgspec.json.encode(value)
        await self._start("application/json", (b"content-length", b"%d" % len(body)))
        self.ended = True
        await self._send({"type": "http.response.body", "body": body})

    async def _start(self, kind: str, *headers: tuple[bytes, bytes]) -> None:
        self.begun = True
        named = [
            (b"content-type", kind.encode()),
            (b"x-trace-id", self._trace.encode()),
            (b"cache-control", b"no-cache"),
            *headers,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": named})


class Told:
    """Whoever puts an answer into the words of a protocol; see `answering.Sink`."""

    def __init__(self, out: Outgoing) -> None:
        self.out = out

    @property
    def begun(self) -> bool:
        """Whether the client was told anything."""
        return self.out.begun

    @property
    def ended(self) -> bool:
        """Whether it was told all."""
        return self.out.ended


def event(data: Mapping[str, Any], name: str = "") -> bytes:
    """An event as it stands in the stream; all ASCII, so that no text ends a line."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
