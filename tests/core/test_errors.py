"""Why a server gave no answer, in words of ours, whatever client found out."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import httpx2
import pytest
from tests.agents.tools.test_auth import Authority

from kickwheel.core.errors import unreached

NOBODY = "nothing listens there: start it, or correct the address"
UNKNOWN = "no host of that name is known here: look at the name, and at the network"


async def with_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        await answer.read()


async def with_httpx2(url: str) -> None:
    async with httpx2.AsyncClient() as client:
        await client.get(url)


async def why(asking: Awaitable[None]) -> str:
    with pytest.raises((aiohttp.ClientError, httpx2.HTTPError, OSError)) as caught:
        await asking
    return unreached(caught.value)


@asynccontextmanager
async def saying(data: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that says this to whoever comes, and hangs up: its port."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(data)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("ask", [with_aiohttp, with_httpx2])
async def test_where_nobody_listens_or_nobody_is_known(
    ask: Callable[[str], Awaitable[None]],
) -> None:
    assert await why(ask("http://127.0.0.1:9/")) == NOBODY
    assert await why(ask("https://localhost:9/")) == NOBODY
    assert await why(ask("http://nowhere.invalid/")) == UNKNOWN


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "http://x:99999999/"])
async def test_what_is_no_url(url: str) -> None:
    wanted = "that is no URL that begins with http:// or https://"
    assert await why(with_aiohttp(url)) == wanted


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", "it closed the connection without an answer"),
        (b"220 mail\r\n\r\n", "what it answers is no HTTP: is that the right port?"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc",
            "it broke off in the middle of its answer",
        ),
    ],
)
async def test_who_answers_with_something_else(said: bytes, told: str) -> None:
    async with saying(said) as port:
        assert await why(with_aiohttp(f"http://127.0.0.1:{port}/")) == told


async def test_who_speaks_no_tls_or_is_not_trusted(tmp_path: Path) -> None:
    async with saying(b"HTTP/1.1 200 OK\r\n\r\n") as port:
        told = await why(with_aiohttp(f"https://127.0.0.1:{port}/"))
    assert told == "it speaks no TLS with us: does its URL begin with http://?"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*Authority(tmp_path, "ca").files("server"))
    async with saying(b"", tls) as port:
        told = await why(with_aiohttp(f"https://127.0.0.1:{port}/"))
    assert told.startswith("its certificate is not trusted here (")


def test_what_no_client_said_is_told_in_its_own_words() -> None:
    assert unreached(ValueError("its metadata names no jwks_uri\nmore")) == (
        "its metadata names no jwks_uri"
    )
    assert unreached(KeyError()) == "KeyError"
