"""A model that costs nothing: OpenAI's chat protocol with scripted answers.

    python stub.py [DELAY_MS]            prints its URL, then serves until standard input ends

A request that offers tools and holds no result yet is answered by a call of the first tool, any
other by a sentence; whole, or streamed in ten pieces. Bytes are made once, so that what is measured
is whoever asks.
"""

import asyncio
import json
import re
import sys
from typing import ClassVar

import httptools

DELAY_S = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0
USAGE = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "stub"}
WORDS = re.findall(r"\S+ ", "It is sunny in Oslo today and it stays so ")


def _whole(message: dict[str, object], reason: str) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    body = {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}
    data = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(data) + data


def _streamed(deltas: list[dict[str, object]], reason: str) -> bytes:
    def chunk(choices: list[dict[str, object]], **more: object) -> bytes:
        body = {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    pieces = [chunk([{"index": 0, "delta": d, "finish_reason": None}]) for d in deltas]
    pieces.append(chunk([{"index": 0, "delta": {}, "finish_reason": reason}]))
    pieces += [chunk([], usage=USAGE), b"data: [DONE]\n\n"]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def _call(name: str) -> dict[str, object]:
    arguments = "{}" if "date" in name else '{"city": "Oslo"}'
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


class Stub(asyncio.Protocol):
    """One connection."""

    answers: ClassVar[dict[tuple[bool, str], bytes]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.body = b""

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        body, self.body = self.body, b""
        if DELAY_S:
            asyncio.get_running_loop().call_later(DELAY_S, self._answer, body)
        else:
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        asked = json.loads(body)
        done = any(message["role"] == "tool" for message in asked["messages"])
        tools = asked.get("tools") or []
        name = "" if done or not tools else tools[0]["function"]["name"]
        key = (bool(asked.get("stream")), name)
        if key not in self.answers:
            self.answers[key] = self._make(*key)
        if not self.transport.is_closing():
            self.transport.write(self.answers[key])

    def _make(self, stream: bool, name: str) -> bytes:
        if stream and name:
            call = {"index": 0, **_call(name)}
            return _streamed([{"role": "assistant", "tool_calls": [call]}], "tool_calls")
        if stream:
            return _streamed([{"role": "assistant", "content": word} for word in WORDS], "stop")
        if name:
            message = {"role": "assistant", "content": None, "tool_calls": [_call(name)]}
            return _whole(message, "tool_calls")
        return _whole({"role": "assistant", "content": "".join(WORDS)}, "stop")


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
