import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from kickwheel.agents.tools.proxy import Places, open_proxy


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that answers with the bytes it got, up to the first pause; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + got)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def said(url: str, request: bytes, then: bytes = b"") -> bytes:
    """What the proxy answers to the bytes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(request)
    if then:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(then)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:  # It did not want to read the rest.
        return b""
    finally:
        writer.close()


async def test_a_request_is_passed_on_alone_and_without_the_proxys_headers() -> None:
    async with echo() as port, open_proxy(Places([f"127.0.0.1:{port}"], True)) as proxy:
        request = (
            f"POST http://127.0.0.1:{port}/a?b=1 HTTP/1.1\r\nHost: x\r\n"
            "Proxy-Connection: keep-alive\r\nContent-Length: 4\r\n\r\nbody"
        )
        answer = await said(proxy.url, request.encode())
    got = answer.partition(b"\r\n\r\n")[2]
    assert got == (
        b"POST /a?b=1 HTTP/1.1\r\nConnection: close\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    )


async def test_a_tunnel_carries_bytes_as_they_are() -> None:
    async with echo() as port, open_proxy(Places(["127.0.0.1"], True)) as proxy:
        connect = f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode()
        assert (await said(proxy.url, connect, b"\x16\x03\x01")).endswith(b"\x16\x03\x01")


@pytest.mark.parametrize("method", ["GET http://127.0.0.1:{}/", "CONNECT 127.0.0.1:{}"])
@pytest.mark.parametrize("places", [Places(["example.com"], True), Places(["*"], False)])
async def test_where_the_app_does_not_let_it_go_nothing_arrives(
    places: Places, method: str
) -> None:
    async with echo() as port, open_proxy(places) as proxy:
        answer = await said(proxy.url, f"{method.format(port)} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"does not let the browser go" in answer or b"only, and not to" in answer


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:99999999 HTTP/1.1\r\n\r\n",
        b"CONNECT : HTTP/1.1\r\n\r\n",
        b"\x00\xff" * 100_000,
        b"GET http://" + b"a" * 300 + b"/ HTTP/1.1\r\n\r\n",
        b"GET http://127.0.0.1:1/ HTTP/1.1\r\n\r\n",
    ],
)
async def test_nonsense_ends_the_connection_and_nothing_else(request_: bytes) -> None:
    async with echo() as port, open_proxy(Places(["*"], True)) as proxy:
        answer = await said(proxy.url, request_)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 403 ")
        fine = f"GET http://127.0.0.1:{port}/ HTTP/1.1\r\n\r\n".encode()
        assert (await said(proxy.url, fine)).startswith(b"HTTP/1.1 200")
