"""Models on a vLLM server: the base by its chat route, an adapter with our own prompt and grammar.

Source: docs.vllm.ai, structured outputs (the `guided_…` fields were removed in 0.12).
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError, EngineError, ModelError
from kickwheel.models.answer import Answer
from kickwheel.models.chat import ChatRequest, Delta, Done, FinishReason, TextDelta, Usage
from kickwheel.models.client import RemoteModel, chat_body
from kickwheel.models.engines.adapters import calls_only, record_in
from kickwheel.models.engines.asked import Asked
from kickwheel.models.engines.vllm_server import Server
from kickwheel.models.prices import Prices
from kickwheel.models.prompt import Template
from kickwheel.models.sent import Sent
from kickwheel.models.wire import Wire
from kickwheel.records import PromptForm


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


async def adapted(
    server: Server,
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
        return AdaptedModel(server, name, base, template, PromptForm(), prices=prices)
    if not (adapter / "adapter_config.json").is_file():
        raise DataError(
            f"{adapter}: no adapter_config.json there, so no PEFT adapter. Name the folder of one, "
            "or the ref that a promotion moves"
        )
    record = record_in(adapter)
    # The name must change with the bytes: vLLM keeps what it once loaded under one.
    weights = await asyncio.to_thread((adapter / "adapter_model.safetensors").read_bytes)
    there = f"kickwheel-{hashlib.sha256(weights).hexdigest()[:16]}"
    await server.take(there, adapter)
    form = record.form if record else PromptForm()
    only = calls_only(record)
    return AdaptedModel(
        server, name, there, template, form, adapter, calls_only=only, prices=prices
    )


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


def _texts(answer: Answer, chunk: bytes, name: str) -> list[str]:
    try:
        return [delta.text for delta in answer.feed(chunk) if isinstance(delta, TextDelta)]
    except ValueError as error:
        raise ModelError(f"{name}: {error}") from error
