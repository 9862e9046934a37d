"""`kickwheel serve` in a process of its own, asked by the SDK's real client and by raw JSON."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
from a2a.client import Client, ClientConfig, create_client
from a2a.types import Message, Part, Role, SendMessageRequest, StreamResponse
from a2a.utils.constants import TransportProtocol

KEY = "a-key-of-the-tests"
BINDINGS = (TransportProtocol.JSONRPC, TransportProtocol.HTTP_JSON)


class Server:
    """The server's process; started again it listens on another port."""

    def __init__(self, folder: Path, url: str, process: "subprocess.Popen[str]") -> None:
        self.folder, self.url, self.process = folder, url, process

    def kill(self) -> None:
        """Ends the process as kill -9 does."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def headers(self, key: str | None = KEY) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"} if key else {}

    @asynccontextmanager
    async def client(
        self,
        agent: str = "",
        *,
        key: str = KEY,
        binding: str = TransportProtocol.JSONRPC,
        streaming: bool = True,
    ) -> AsyncGenerator[Client]:
        """The official client, as anybody would make it from the card."""
        async with httpx.AsyncClient(headers=self.headers(key), timeout=30) as session:
            config = ClientConfig(
                httpx_client=session, streaming=streaming, supported_protocol_bindings=[binding]
            )
            url = f"{self.url}/a2a/{agent}" if agent else self.url
            yield await create_client(url, config)

    def call(
        self,
        path: str,
        body: Any = None,
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> tuple[int, Any]:
        """A raw request, and the JSON that it is answered with."""
        data = body if isinstance(body, bytes) else None if body is None else _json(body)
        sent = {"content-type": "application/json", **self.headers(key), **(headers or {})}
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def rpc(
        self, agent: str, method: str, params: Any, *, version: str = "1.0", key: str | None = KEY
    ) -> Any:
        """A JSON-RPC call's answer; without a version none is sent."""
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        headers = {"A2A-Version": version} if version else {}
        return self.call(f"/a2a/{agent}", body, headers=headers, key=key)[1]


@contextmanager
def serving(folder: Path, text: str | None = None) -> Iterator[Server]:
    """`kickwheel serve` with the app, with an API key; killed at the end if need be."""
    if text is not None:
        (folder / "app.yml").write_text(text, encoding="utf-8")
    program = Path(sys.executable).with_name("kickwheel")
    command = [str(program), "serve", str(folder), "--port", "0"]
    environment = {**os.environ, "KICKWHEEL_API_KEY": KEY}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[0].removesuffix("/v1")
            yield Server(folder, url, process)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


async def eventually(true: Callable[[], object]) -> None:
    """Returns once it is true."""
    for _ in range(1500):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never became true")


def message(text: str, *, task: str = "", context: str = "", identity: str = "") -> Message:
    return Message(
        message_id=identity or f"m-{os.urandom(6).hex()}",
        role=Role.ROLE_USER,
        parts=[Part(text=text)],
        task_id=task,
        context_id=context,
    )


async def send(client: Client, said: Message, **config: Any) -> list[StreamResponse]:
    """All that the client hears about the message."""
    request = SendMessageRequest(message=said, configuration=config)
    return [event async for event in client.send_message(request)]


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()
