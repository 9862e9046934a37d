"""A vLLM server that answers: started here or elsewhere, and which adapters it has loaded.

Source: docs.vllm.ai, LoRA adapters (`/v1/load_lora_adapter`, `/v1/unload_lora_adapter`).
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from kickwheel.core.errors import EngineError, unreached
from kickwheel.models.engines.vllm_process import Process, free_port
from kickwheel.models.wire import new_session

_log = logging.getLogger("kickwheel.engine")


@asynccontextmanager
async def started(
    folder: Path, arguments: Sequence[str] = (), key: str | None = None
) -> AsyncGenerator["Server"]:
    """A vLLM server of our own on a free port of the loopback: started again when it dies, ended
    with the block, and with this process however that ends.

    Raises:
        EngineError: there is no `vllm` command, or it does not start; the text has its last words.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ("vllm", "serve", str(folder), "--host", "127.0.0.1", "--port", str(port))
    async with new_session() as session:
        process = await Process.start((*command, "--enable-lora", *arguments), key)
        keeper = None
        try:
            await process.until_healthy(session, url)
            server = Server(session, f"{url}/v1", key)
            keeper = asyncio.create_task(_keep(process, server, url))
            yield server
        finally:
            if keeper is not None:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
            await process.stop()


class Server:
    """A vLLM server that answers."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str | None) -> None:
        self.session, self.url, self.key = session, url.rstrip("/"), key
        self._loaded: dict[str, asyncio.Task[None]] = {}
        self._users: Counter[str] = Counter()

    async def first_model(self) -> str:
        """The first model that it lists: the base.

        Raises:
            EngineError: it does not answer.
        """
        listed = await self._ask("GET", "/models", None)
        try:
            return str(listed["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise EngineError(f"{self.url}/models lists no model") from error

    async def take(self, there: str, adapter: Path) -> None:
        """Loads the adapter for one more who asks for it, until they `release` it.

        Raises:
            EngineError: the server does not take it.
        """
        self._users[there] += 1
        try:
            await self.load(there, adapter)
        except BaseException:
            self._users[there] -= 1
            raise

    async def load(self, there: str, adapter: Path) -> None:
        """Makes the server answer under the name `there`; once, however many ask for it."""
        if there not in self._loaded:
            self._loaded[there] = asyncio.create_task(self._load(there, adapter))
        try:
            await asyncio.shield(self._loaded[there])
        except EngineError:
            self._loaded.pop(there, None)
            raise

    def forget(self, there: str | None = None) -> None:
        """What was loaded, this one or all, is loaded again when it is asked for: the server was
        started anew, or somebody else unloaded it."""
        if there is None:
            self._loaded.clear()
        else:
            self._loaded.pop(there, None)

    async def release(self, there: str) -> None:
        """One who asked for the adapter needs it no longer; after the last one the server is told
        to unload it. One that it does not know is no error."""
        self._users[there] -= 1
        if self._users[there] > 0:
            return
        self.forget(there)
        with suppress(EngineError):
            await self._ask("POST", "/unload_lora_adapter", {"lora_name": there})

    async def _load(self, there: str, adapter: Path) -> None:
        body = {"lora_name": there, "lora_path": str(await asyncio.to_thread(adapter.resolve))}
        try:
            await self._ask("POST", "/load_lora_adapter", body)
        except EngineError as error:
            # Somebody else loaded it, or we did before the connection broke.
            if "already" not in str(error):
                raise

    async def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            async with (
                asyncio.timeout(120.0),
                self.session.request(
                    method, self.url + path, json=body, headers=headers
                ) as response,
            ):
                said = await response.text()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise EngineError(f"{self.url} cannot be reached: {unreached(error)}") from error
        if response.status == 404 and "lora" in path:
            raise EngineError(
                f"{self.url} takes no adapters while it runs. Start it with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
            )
        if response.status != 200:
            raise EngineError(f"{self.url}{path} answers {response.status}: {said[:300]}")
        try:
            return json.loads(said)
        except ValueError:
            return said


async def _keep(process: Process, server: Server, url: str) -> None:
    wait_s = 1.0
    while True:
        status = await process.wait()
        _log.warning("vllm died (exit %s) and is started again: %s", status, process.said)
        server.forget()
        await asyncio.sleep(wait_s)
        wait_s = min(60.0, wait_s * 2)
        try:
            await process.again()
            await process.until_healthy(server.session, url)
        except EngineError as error:
            _log.error("%s", error)
            await process.stop()
