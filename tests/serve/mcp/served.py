"""`kickwheel serve` and `kickwheel mcp` in processes of their own, for the SDK's real client."""

import asyncio
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

ANN, BOB = "a-key-of-ann", "a-key-of-bob"
ERAS = ("auto", "legacy")
KICKWHEEL = str(Path(sys.executable).with_name("kickwheel"))


class Server:
    """The server's process."""

    def __init__(self, url: str, process: "subprocess.Popen[str]") -> None:
        self.url, self.process = url, process

    @asynccontextmanager
    async def client(self, era: Any = "auto", *, key: str = ANN, **options: Any) -> Any:
        """The official client, signed with a key."""
        headers = {"authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as session:
            wire = streamable_http_client(f"{self.url}/mcp", http_client=session)
            async with Client(wire, mode=era, **options) as client:
                yield client

    def post(
        self,
        body: bytes,
        *,
        key: str | None = ANN,
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> tuple[int, Mapping[str, str], bytes]:
        """A raw request: status, headers and body of what came."""
        sent = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            **({"authorization": f"Bearer {key}"} if key else {}),
            **(headers or {}),
        }
        request = urllib.request.Request(f"{self.url}/mcp", body, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, dict(response.headers), response.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[Server]:
    """`kickwheel serve` with the app of the folder."""
    command = [KICKWHEEL, "serve", str(folder), "--port", "0", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        try:
            line = ""
            while "/v1" not in line:
                line = process.stdout.readline()
                assert line, "the server ended"
            yield Server(line.split()[0].removesuffix("/v1"), process)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@asynccontextmanager
async def piped(folder: Path, era: Any = "auto", **options: Any) -> AsyncGenerator[Client]:
    """The official client of `kickwheel mcp`, which it starts."""
    command = StdioServerParameters(
        command=KICKWHEEL, args=["mcp", str(folder)], cwd=str(folder), env=dict(os.environ)
    )
    async with Client(command, mode=era, **options) as client:
        yield client


async def eventually(true: Callable[[], object]) -> None:
    """Returns once it is true."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never became true")
