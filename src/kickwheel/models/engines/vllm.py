"""`kind: vllm`: a base on GPUs with adapters beside it, served by vLLM here or at a URL.

With an adapter the prompt and the grammar are ours, as for `local`: the adapter is asked as it was
tuned. Without one the request goes through the server's own chat route.
Source: docs.vllm.ai, structured outputs (the `guided_…` fields were removed in 0.12) and LoRA
adapters (`/v1/load_lora_adapter`, `/v1/unload_lora_adapter`).
"""

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from kickwheel.core.config import key_from
from kickwheel.core.errors import DataError, EngineError, ModelError, UsageError, unreached
from kickwheel.core.plugins import Context, Part
from kickwheel.models import catalog
from kickwheel.models.answer import Answer
from kickwheel.models.chat import ChatRequest, Delta, Done, FinishReason, TextDelta, Usage
from kickwheel.models.checkpoint import read_template
from kickwheel.models.client import RemoteModel, chat_body
from kickwheel.models.engines.adapters import calls_only, record_in
from kickwheel.models.engines.asked import Asked
from kickwheel.models.engines.follow import Following, following
from kickwheel.models.engines.vllm_process import Process, free_port
from kickwheel.models.prices import Prices
from kickwheel.models.prompt import Template
from kickwheel.models.sent import Sent
from kickwheel.models.wire import Wire, new_session
from kickwheel.records import PromptForm

_log = logging.getLogger("kickwheel.engine")


class Vllm(Part):
    """A base on GPUs, with adapters beside it, served by vLLM."""

    url: str | None = None
    """A running server, with the version: `http://gpu-1:8000/v1`. Adapters need it to be started
    with `--enable-lora` and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and to see the store's folder
    under the same path. Without a URL a server is started here and ends with the app."""
    base: str | None = None
    """A folder with safetensors, or `hf:org/name`; needed to start a server and for adapters."""
    model: str | None = None
    """The base's name on the server; by default the first that the server lists."""
    adapter: str | None = None
    """A ref, which is followed, or the folder of an adapter; as in `local`."""
    api_key: SecretStr | None = None
    """Write `${NAME}` for the value of a variable."""
    arguments: tuple[str, ...] = ()
    """Further arguments of `vllm serve`, such as `--max-model-len=8192`."""
    prices: Prices | None = None
    """What tokens cost there; without, no cost is told."""

    def mistakes(self, folder: Path) -> Iterable[tuple[str, str]]:
        """A base that is needed and not named, or does not exist."""
        if self.base is None:
            if self.url is None or self.adapter is not None:
                why = (
                    "adapters are asked in the base's template" if self.url else "to start a server"
                )
                yield "base", f"vllm needs `base`: {why}"
            return
        place = folder / Path(self.base).expanduser()
        if not self.base.startswith("hf:") and not (place / "config.json").is_file():
            yield "base", f"{place}: no folder with safetensors and config.json, and no hf:org/name"

    @asynccontextmanager
    async def open(
        self, context: Context
    ) -> AsyncGenerator["ChatModel | AdaptedModel | Following[AdaptedModel]"]:
        """The model, answering as soon as the block begins."""
        for key, wrong in self.mistakes(context.folder):
            raise UsageError(f"models.{context.name}.{key}: {wrong}")
        folder = None
        if self.base is not None:
            here = context.folder / self.base
            name = str(here) if here.exists() else self.base
            folder = await asyncio.to_thread(catalog.checkpoint, name)
        server: Server = await context.share(
            ("vllm", self.url, str(folder), self.arguments), lambda: self._server(folder)
        )
        base = self.model or await server.first_model()

        async def with_adapter(adapter: Path | None) -> AdaptedModel:
            assert folder is not None
            template = read_template(folder)
            return await server.model(context.name, base, adapter, template, self.prices)

        if self.adapter is None:
            yield ChatModel(server, context.name, base, self.prices)
        elif (context.folder / self.adapter).exists():
            model = await with_adapter(context.folder / self.adapter)
            try:
                yield model
            finally:
                await model.retire()
        else:
            async with following(
                context, self.adapter, with_adapter, Following, AdaptedModel.retire
            ) as followed:
                yield followed

    @asynccontextmanager
    async def _server(self, folder: Path | None) -> AsyncGenerator["Server"]:
        key = key_from(self.api_key.get_secret_value()) if self.api_key else None
        if self.url is not None:
            async with new_session() as session:
                yield Server(session, self.url, key)
        else:
            assert folder is not None
            async with started(folder, self.arguments, key) as server:
                yield server


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

    async def model(
        self,
        name: str,
        base: str,
        adapter: Path | None,
        template: Template,
        prices: Prices | None = None,
    ) -> "AdaptedModel":
        """The base with the adapter in this folder, loaded where it is not yet, until it retires.

        Raises:
            DataError: there is no adapter in the folder.
            EngineError: the server does not take it.
        """
        if adapter is None:
            return AdaptedModel(self, name, base, template, PromptForm(), prices=prices)
        config = adapter / "adapter_config.json"
        if not config.is_file():
            raise DataError(f"{adapter}: no adapter_config.json there, so no PEFT adapter")
        record = record_in(adapter)
        # The name must change with the bytes: vLLM keeps what it once loaded under one.
        weights = await asyncio.to_thread((adapter / "adapter_model.safetensors").read_bytes)
        there = f"kickwheel-{hashlib.sha256(weights).hexdigest()[:16]}"
        self._users[there] += 1
        try:
            await self.load(there, adapter)
        except BaseException:
            self._users[there] -= 1
            raise
        form = record.form if record else PromptForm()
        only = calls_only(record)
        return AdaptedModel(
            self, name, there, template, form, adapter, calls_only=only, prices=prices
        )

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


class ChatModel(RemoteModel):
    """A model that is asked through the server's chat route."""

    provider = "kickwheel"

    def __init__(self, server: Server, name: str, there: str, prices: Prices | None = None) -> None:
        super().__init__(server.session, name, there, server.url, server.key, prices)

    def body(self, request: ChatRequest) -> tuple[dict[str, Any], str | None]:
        """Labels and schemas are enforced by the server itself."""
        body = chat_body(request, self.model)
        body.pop("response_format", None)
        if request.constrained and (not request.tools or request.tool_choice == "none"):
            if request.labels:
                body["structured_outputs"] = {"choice": list(request.labels)}
            elif request.grammar is not None:
                body["structured_outputs"] = {"grammar": request.grammar}
            elif request.json_schema is not None:
                body["structured_outputs"] = {"json": request.json_schema}
        return body, None


class AdaptedModel:
    """A model that is asked with our own prompt and grammar."""

    def __init__(
        self,
        server: Server,
        name: str,
        there: str,
        template: Template,
        form: PromptForm,
        adapter: Path | None = None,
        *,
        calls_only: bool = False,
        prices: Prices | None = None,
    ) -> None:
        self.name, self.there, self.form = name, there, form
        self.calls_only = calls_only
        self._server, self._template, self._adapter = server, template, adapter
        self._prices = prices
        self._streams = 0
        self._needed = adapter is not None
        self._retired = False

    @property
    def identity(self) -> str:
        """What answers: the server, the adapter by its bytes, and how it is asked."""
        return f"{self._server.url} {self.there} {self.form}"

    def cost_usd(self, usage: Usage) -> float | None:
        """What an answer cost, in dollars; `None` where no prices are set."""
        return None if self._prices is None else self._prices.cost_usd(usage)

    async def retire(self) -> None:
        """Nobody will ask any more: the server may forget the adapter after the last stream."""
        self._retired = True
        await self._release()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer, piece by piece; a call comes whole, at its end.

        Raises:
            ModelError: as `RemoteModel.stream`.
        """
        begun = False
        self._streams += 1
        try:
            for again in (True, False):
                if self._adapter is not None:
                    await self._loaded(self._adapter)
                try:
                    async with aclosing(self._once(request)) as deltas:
                        async for delta in deltas:
                            begun = True
                            yield delta
                    return
                except ModelError as error:
                    lost = error.status == 404 and self._adapter is not None
                    if begun or not (again and lost):
                        raise
                    # Another app on the same server unloaded it, or the server was started anew.
                    self._server.forget(self.there)
        finally:
            self._streams -= 1
            await self._release()

    async def _once(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        asked = Asked(request, self._template, self.form, self.name, calls_only=self.calls_only)
        wire = Wire(self._server.session, self.name, self._server.url, self._server.key)
        body = self._body(asked)
        answer = Answer(self.there, asked=body)
        finish: FinishReason = "stop"
        usage = Usage()
        chunks = wire.post("/completions", body, request.timeout_s)
        async with aclosing(chunks):
            async for chunk in chunks:
                for text in _texts(answer, chunk, self.name):
                    for delta in asked.piece(text):
                        yield delta
                if answer.ended:
                    break
        try:
            for last in answer.close():
                if isinstance(last, Done):
                    finish, usage = last.finish_reason, last.usage
                elif isinstance(last, TextDelta):
                    for delta in asked.piece(last.text):
                        yield delta
        except ValueError as error:
            raise ModelError(f"{self.name}: {error}") from error
        for delta in asked.end(finish, usage):
            yield delta

    async def _release(self) -> None:
        if self._retired and self._needed and not self._streams:
            self._needed = False
            await self._server.release(self.there)

    def sent(self, request: ChatRequest) -> Sent:
        """What is posted for the request: the prompt and the grammar are ours."""
        asked = Asked(request, self._template, self.form, self.name, calls_only=self.calls_only)
        url = f"{self._server.url}/completions"
        return Sent(model=self.name, url=url, body=self._body(asked))

    async def _loaded(self, adapter: Path) -> None:
        try:
            await self._server.load(self.there, adapter)
        except EngineError as error:
            raise ModelError(f"{self.name}: {error}", status=503) from error

    def _body(self, asked: Asked) -> dict[str, Any]:
        request = asked.request
        body: dict[str, Any] = {
            "model": self.there,
            "prompt": asked.prompt,
            # The template has written what begins a text.
            "add_special_tokens": False,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": request.max_tokens or 1024,
            "temperature": request.temperature or 0.0,
        }
        # A grammar that sets in later is not known there: what may be a text is left free.
        if asked.grammar is not None and asked.trigger is None:
            body["structured_outputs"] = {"grammar": asked.grammar}
        for key, value in (("top_p", request.top_p), ("seed", request.seed)):
            if value is not None:
                body[key] = value
        if request.stop:
            body["stop"] = list(request.stop)
        return body


@asynccontextmanager
async def started(
    folder: Path, arguments: Sequence[str] = (), key: str | None = None
) -> AsyncGenerator[Server]:
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


def _texts(answer: Answer, chunk: bytes, name: str) -> list[str]:
    try:
        return [delta.text for delta in answer.feed(chunk) if isinstance(delta, TextDelta)]
    except ValueError as error:
        raise ModelError(f"{name}: {error}") from error
