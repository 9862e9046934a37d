"""Servers that die, lie, shout or hang: always a clear error of the right kind, never an answer."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from kickwheel.core.errors import ModelError
from kickwheel.models import retry
from kickwheel.models.chat import ChatRequest, TextDelta, complete
from kickwheel.models.client import RemoteModel, open_remote
from kickwheel.records import Message

from .loopback import chunk, loopback

PIECES = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=20.0)
WHOLE = ChatRequest(messages=PIECES.messages, timeout_s=20.0, whole=True)
both = pytest.mark.parametrize("asked", [PIECES, WHOLE], ids=["in pieces", "whole"])
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)


@asynccontextmanager
async def served(serve: Serve) -> AsyncGenerator[RemoteModel]:
    """A model behind a server that writes whatever bytes it likes."""
    tasks: set[asyncio.Task[None]] = set()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        async with open_remote("general", "m", f"http://{host}:{port}/v1", "k-1") as model:
            yield model
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def head(
    kind: str = "application/json", status: str = "200 OK", length: int | None = None
) -> bytes:
    sized = "" if length is None else f"content-length: {length}\r\n"
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{sized}connection: close\r\n\r\n".encode()


async def failed(model: RemoteModel, asked: ChatRequest) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await complete(model, asked)
    assert str(caught.value).startswith("general: ")
    assert len(str(caught.value)) < 500
    return caught.value


@both
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"\x00\x01\x02 this is no HTTP at all\r\n\r\n",
        head(length=1000) + b'{"choices": [',
        head("text/event-stream") + b'data: {"choices": [{"index": 0, "delta": {"con',
    ],
    ids=["nothing", "half a head", "no HTTP", "half a body", "half an event"],
)
async def test_a_server_that_dies_at_any_moment_is_an_error(
    said: bytes, asked: ChatRequest
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    async with served(serve) as model:
        assert (await failed(model, asked)).status == 502


@both
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("text/html", b"<html><body>Welcome to the proxy</body></html>"),
        ("text/plain", b"hello"),
        ("application/json", b'{"choices": [{'),
        ("application/json", b"[1, 2, 3]"),
        ("application/json", b'{"hello": "world"}'),
        ("application/json", b'{"choices": "none"}'),
        ("application/json", b"\xff\xfe\x00 rubbish"),
        ("text/event-stream", b"data: rubbish\n\n"),
        ("text/event-stream", b"data: [1]\n\ndata: [DONE]\n\n"),
        ("application/octet-stream", bytes(range(256)) * 8),
        ("application/json", b"[" * 100_000),
    ],
)
async def test_rubbish_is_an_error_with_the_beginning_of_what_was_said(
    kind: str, said: bytes, asked: ChatRequest
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(kind, length=len(said)) + said)
        await writer.drain()

    async with served(serve) as model:
        assert (await failed(model, asked)).status == 502


async def test_a_page_where_a_model_should_be_is_told_as_what_it_is() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="<html>Welcome to the proxy</html>", content_type="text/html")

    async with loopback(answer) as server, open_remote("general", "m", server.url) as model:
        error = await failed(model, PIECES)
    assert "not the OpenAI protocol: <html>Welcome to the proxy" in str(error)


@both
@pytest.mark.parametrize("end", [b"", b"\n"], ids=["one line", "many lines"])
async def test_100_mb_are_left_long_before_their_end(asked: ChatRequest, end: bytes) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        begin, piece = b'{"choices": [{"index": 0, "message": {"content": "', b"x" * 65_536
        if end:
            begin, piece = b"", f"data: {json.dumps(chunk(content='x' * 65_000))}\n\n".encode()
        writer.write(head() + begin)
        while sent < 100 << 20:
            writer.write(piece)
            sent += len(piece)
            await writer.drain()

    async with served(serve) as model:
        error = await failed(model, asked)
    assert error.status == 502
    assert "more than 16 MiB" in str(error)
    assert sent < 60 << 20


@both
async def test_100_mb_of_an_error_are_left_after_its_beginning(asked: ChatRequest) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head("text/plain", "400 Bad Request"))
        while sent < 100 << 20:
            writer.write(b"no! " * 16_384)
            sent += 65_536
            await writer.drain()

    async with served(serve) as model:
        assert (await failed(model, asked)).status == 400
    assert sent < 30 << 20


@both
@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\n", head("text/event-stream"), head() + b'{"choices"']
)
async def test_one_that_hangs_is_left_at_the_deadline(said: bytes, asked: ChatRequest) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await asyncio.sleep(60)

    async with served(serve) as model:
        short = ChatRequest(messages=asked.messages, whole=asked.whole, timeout_s=0.3)
        assert (await failed(model, short)).status == 504


async def test_one_that_hangs_in_the_middle_is_left_at_the_deadline() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        event = json.dumps(chunk(content="I"))
        writer.write(head("text/event-stream") + f"data: {event}\n\n".encode())
        await asyncio.sleep(60)

    async with served(serve) as model:
        asked = ChatRequest(messages=PIECES.messages, timeout_s=0.3)
        async with aclosing(model.stream(asked)) as pieces:
            assert await anext(pieces) == TextDelta("I")
            with pytest.raises(ModelError) as caught:
                await anext(pieces)
    assert caught.value.status == 504


async def test_one_that_never_stops_pinging_is_left_at_the_deadline() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head("text/event-stream"))
        while True:
            writer.write(b": ping\n\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with served(serve) as model:
        asked = ChatRequest(messages=PIECES.messages, timeout_s=0.3)
        assert (await failed(model, asked)).status == 504


@both
async def test_who_leaves_closes_the_connection(asked: ChatRequest) -> None:
    begun, left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        event = json.dumps(chunk(content="I"))
        writer.write(head("text/event-stream") + f"data: {event}\n\n".encode())
        begun.set()
        assert await reader.read() == b""
        left.set()

    async with served(serve) as model:
        asking = asyncio.create_task(complete(model, asked))
        async with asyncio.timeout(30):
            await begun.wait()
            asking.cancel()
            await left.wait()


async def test_a_connection_is_used_again_also_where_its_end_comes_late() -> None:
    connections = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        connections.add(request.transport)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(chunk('stop', content='Me.'))}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await asyncio.sleep(0.02)
        return response

    async with loopback(answer) as server, open_remote("general", "m", server.url) as model:
        for _ in range(5):
            assert (await complete(model, PIECES)).message.content == "Me."
    assert len(connections) == 1


async def test_one_that_holds_the_connection_after_its_end_holds_nobody() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(chunk('stop', content='Me.'))}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        await asyncio.sleep(60)
        return response

    async with loopback(answer) as server, open_remote("general", "m", server.url) as model:
        started = time.perf_counter()
        async with aclosing(model.stream(PIECES)) as pieces:
            first, *_ = [piece async for piece in pieces]
    assert first == TextDelta("Me.")
    assert time.perf_counter() - started < 30
