"""A model that costs little: chat completions, whole or streamed, after a time to think.

    python upstream.py            prints its URL, then serves until standard input ends

The header `x-think-ms` says how long an answer is thought of; a stream comes in 17 pieces, 2 ms
apart. Bytes are made once, so that what is measured is the proxy.
"""

import asyncio
import json
import sys
from typing import Any

import httptools

HEAD = {"id": "chatcmpl-1", "created": 1, "model": "stub"}
USAGE = {"prompt_tokens": 400, "completion_tokens": 16, "total_tokens": 416}
SENTENCE = "It is sunny in Oslo today and it stays so until the evening, says the station."
APART_S = 0.002
"""Between the pieces of a stream."""


def whole() -> bytes:
    """An answer in one piece, with its head."""
    message = {"role": "assistant", "content": SENTENCE}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    body = {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    data = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(data) + data


def streamed() -> list[bytes]:
    """The head and the pieces of a stream."""

    def piece(choices: list[Any], **more: Any) -> bytes:
        body = {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
        data = b"data: " + json.dumps(body).encode() + b"\n\n"
        return b"%x\r\n%b\r\n" % (len(data), data)

    deltas = [{"content": word + " "} for word in SENTENCE.split()]
    pieces = [piece([{"index": 0, "delta": d, "finish_reason": None}]) for d in deltas]
    last = piece([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    end = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return [head, *pieces, last + piece([], usage=USAGE) + end]


class Upstream(asyncio.Protocol):
    """One connection."""

    WHOLE = whole()
    STREAMED = streamed()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""
        self.think_s = 0.0

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-think-ms":
            self.think_s = float(value) / 1000

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        stream, self.body = b'"stream": true' in self.body, b""
        asyncio.get_running_loop().call_later(self.think_s, self._answer, stream)

    def _answer(self, stream: bool) -> None:
        if stream:
            self._piece(iter(self.STREAMED))
        else:
            self.transport.write(self.WHOLE)

    def _piece(self, pieces: Any) -> None:
        piece = next(pieces, None)
        if piece is not None:
            self.transport.write(piece)
            asyncio.get_running_loop().call_later(APART_S, self._piece, pieces)


async def main() -> None:
    """Serves until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
