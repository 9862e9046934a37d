"""The wires to MCP servers: a child's pipes, and HTTP, both with an end to what is read.

The protocol's own client reads a message of any size into memory, and several times over.
"""

import asyncio
import contextlib
import os
import signal
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
import mcp_types
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from kickwheel.agents.tools.mcp_link import LARGEST, Server
from kickwheel.core import redact
from kickwheel.core.errors import KickwheelError, ToolError

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from kickwheel.agents.tools.mcp_kept import Kept

GRACE_S = 1.0
"""Seconds that a server has to end by itself, and again after SIGTERM."""
_INHERITED = ("PATH", "HOME", "LANG")


@asynccontextmanager
async def over_pipes(server: Server, gone: Callable[[str], None]) -> AsyncGenerator[Any]:
    """Starts the server and speaks with it over its pipes, a line a message.

    Args:
        gone: called when the server ends or says more than it may, with the reason.
    Raises:
        ToolError: it cannot be started.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            *server.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**inherited, **server.env},
            cwd=server.folder,
            limit=LARGEST,
            start_new_session=True,
        )
    except OSError as error:
        what = f'"{server.command[0]}" cannot be started: {error.strerror or error}'
        raise ToolError(f"{what}. Is it installed, and on the PATH?") from error
    heard, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, said = anyio.create_memory_object_stream[SessionMessage](0)
    last_words: deque[str] = deque(maxlen=5)
    tasks = [
        asyncio.create_task(_hear(process, heard, last_words, gone)),
        asyncio.create_task(_say(process, said)),
        asyncio.create_task(_overhear(process, last_words)),
    ]
    try:
        yield read, write
    finally:
        # By itself, so that the end of a run cannot leave a server behind.
        await asyncio.shield(asyncio.ensure_future(_end(process, tasks)))
        for stream in (heard, read, write, said):
            stream.close()


async def _hear(
    process: "Process", heard: Any, last_words: deque[str], gone: Callable[[str], None]
) -> None:
    assert process.stdout is not None
    why = ""
    async with heard:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:
                    why = f"it sent more than {LARGEST:,} bytes in one message"
                    break
                except ConnectionError:
                    break
                if not line:
                    break
                if line.strip():
                    await heard.send(_message(line))
        if not why:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE_S)
            code = process.returncode
            why = "it ended" if code is None else f"it ended with exit status {code}"
            if last_words:
                why += f", and said: {' / '.join(last_words)}"
        gone(redact.text(why))


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _say(process: "Process", said: Any) -> None:
    assert process.stdin is not None
    async with said:
        with contextlib.suppress(ConnectionError, RuntimeError):
            async for message in said:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()


async def _overhear(process: "Process", last_words: deque[str]) -> None:
    """Keeps the last lines that the server wrote for people."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:
            continue
        if not line:
            return
        text = line.decode("utf-8", "replace").strip()
        if text:
            last_words.append(text[:200])


async def _end(process: "Process", tasks: list[asyncio.Task[None]]) -> None:
    """Ends the server and all that it started."""
    assert process.stdin is not None
    process.stdin.close()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        # The last one in any case: what the server started may outlive it.
        if number == signal.SIGKILL or (number is not None and process.returncode is None):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_S)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # Pipes close when they are empty.
    for pipe in (process.stdout, process.stderr):
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(GRACE_S):
                while pipe is not None and await pipe.read(2**16):
                    pass


@asynccontextmanager
async def over_http(server: Server) -> AsyncGenerator[Any]:
    """Speaks with the server over streamable HTTP."""
    # Streams of changes may be silent for hours; a call has its own time.
    timeout = httpx2.Timeout(server.start_s, read=None)
    async with httpx2.AsyncClient(
        # Compressed, a small answer could become a large one.
        headers={"Accept-Encoding": "identity", **server.headers},
        auth=None if server.signs is None else server.signs.signing(),
        timeout=timeout,
        transport=_Bounded(),
    ) as client:
        wire = streamable_http_client(server.url, http_client=client, max_sse_event_size=LARGEST)
        async with wire as streams:
            yield streams


class LoggedIn(httpx2.Auth):
    """Signs with a person's login, which is renewed when it ends or is refused."""

    def __init__(self, kept: "Kept") -> None:
        self._kept = kept

    async def async_auth_flow(
        self, request: httpx2.Request
    ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """The request, signed; once more where the token was taken back."""
        try:
            login = self._kept.read()
            if login.ends:
                login = await self._kept.renewed(login.access)
            request.headers["Authorization"] = f"Bearer {login.access}"
            answer = yield request
            if answer.status_code == 401:
                login = await self._kept.renewed(login.access)
                request.headers["Authorization"] = f"Bearer {login.access}"
                answer = yield request
            if answer.status_code == 401:
                raise self._kept.ended()
        except KickwheelError as error:
            self._kept.refused = error
            raise
        self._kept.refused = None


class TooMuch(httpx2.StreamError):
    """The server said more than it may."""

    def __init__(self) -> None:
        super().__init__(f"it sent more than {LARGEST:,} bytes in one message, or compressed them")


class _Bounded(httpx2.AsyncBaseTransport):
    def __init__(self) -> None:
        self._inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            await response.aclose()
            raise TooMuch
        # Streams of events have no end, but each event has, which the protocol's client sees to.
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            stream = response.stream
            assert isinstance(stream, httpx2.AsyncByteStream)
            response.stream = _Counted(stream)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Counted(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for piece in self._inner:
            read += len(piece)
            if read > LARGEST:
                raise TooMuch
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()
