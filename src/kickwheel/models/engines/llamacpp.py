"""`kind: local`: a base on this machine, with an adapter or without, served by llama.cpp.

Prompts, grammars and the reading of calls are ours (`models.prompt`, `models.calls`), so that what
is served is what was tuned. llama.cpp gets text and gives text.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from msgspec import structs

from kickwheel.core.errors import EngineError, ModelError
from kickwheel.core.plugins import Context, Part
from kickwheel.models import catalog
from kickwheel.models.chat import ChatRequest, Delta, FinishReason, TextDelta, Usage
from kickwheel.models.engines.asked import Asked
from kickwheel.models.engines.engine import Engine, Generation, open_engine
from kickwheel.models.engines.follow import Following, following
from kickwheel.models.sent import Sent
from kickwheel.models.sse import Events
from kickwheel.records import PromptForm

MAX_TOKENS = 1024
"""Tokens of an answer at most where the request sets no bound: small models may go on for ever."""


class LocalModel:
    """A base, or a base with one adapter, on a running engine; made by `Engine.model`."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        adapter: Path | None,
        form: PromptForm,
        *,
        calls_only: bool = False,
    ) -> None:
        self.engine = engine
        self.name = name
        self.adapter = adapter
        self.form = form
        self.calls_only = calls_only

    @property
    def identity(self) -> str:
        """What answers: the base, the adapter, and how it is asked."""
        return f"{self.engine.base.name} {self.adapter} {self.form}"

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer, piece by piece; a call comes whole, at its end. `Asked` says what the
        choice of tools means. `extra` may hold `cache_prompt` (by default the engine goes on from
        what it has read) and `parallel_tool_calls` (by default one call).

        Raises:
            ModelError: 400 where the request does not fit the model, 504 when its time is over,
                503 when the engine died in the middle or does not come back.
        """
        return self._answered(request)

    def continuation(self, prompt: str, request: ChatRequest) -> AsyncGenerator[Delta]:
        """What the model writes after the prompt's own text; see `chat.Continuing`."""
        return self._answered(
            structs.replace(request, messages=(), tools=(), json_schema=None), prompt
        )

    def sent(self, request: ChatRequest) -> Sent:
        """The prompt, the grammar and what else the engine gets for the request."""
        return Sent(model=self.name, body=_Asking(self, request).body)

    async def continued(self, prompt: str, max_tokens: int) -> str:
        """What the model writes after the prompt's own text, greedily and without a grammar.

        Raises:
            ModelError: the engine did not answer.
        """
        request = ChatRequest(messages=(), temperature=0.0, max_tokens=max_tokens)
        text = ""
        async with aclosing(self.continuation(prompt, request)) as deltas:
            async for delta in deltas:
                text += delta.text if isinstance(delta, TextDelta) else ""
        return text

    async def prompt_tokens(self, request: ChatRequest) -> int:
        """Tokens of the prompt that the request makes, as the engine itself counts them.

        Raises:
            ModelError: 400 where the request does not fit the model, 503 where the engine is gone.
        """
        prompt = _Asking(self, request).body["prompt"]
        body = {"content": prompt, "add_special": True, "parse_special": True}
        try:
            async with (
                asyncio.timeout(request.timeout_s),
                self.engine.lease(self.adapter) as generation,
                self.engine.session.post(
                    f"{generation.process.url}/tokenize",
                    json=body,
                    headers={"Authorization": f"Bearer {generation.process.key}"},
                ) as response,
            ):
                counted = msgspec.json.decode(await response.read())
                return len(counted["tokens"])
        except (TimeoutError, aiohttp.ClientError, EngineError, KeyError, ValueError) as error:
            raise ModelError(
                f"{self.name}: the engine does not count: {error}", status=503
            ) from error

    async def _answered(
        self, request: ChatRequest, prompt: str | None = None
    ) -> AsyncGenerator[Delta]:
        deadline = time.monotonic() + request.timeout_s
        asking = _Asking(self, request, prompt)
        for attempt in (1, 2):
            try:
                async with aclosing(asking.once(deadline)) as deltas:
                    async for delta in deltas:
                        yield delta
                return
            except (aiohttp.ClientError, ConnectionError) as error:
                # Nobody has seen a piece of it yet, so that it may be asked again.
                if asking.begun or attempt == 2:
                    raise ModelError(
                        f"{self.name}: the engine died during the answer. It is started again: "
                        "repeat the request.",
                        status=503,
                    ) from error
                await asking.see_whether_it_died()


class FollowingModel(Following[LocalModel]):
    """The local model that a ref points to."""

    def continuation(self, prompt: str, request: ChatRequest) -> AsyncGenerator[Delta]:
        """As the current model's."""
        return self.current.continuation(prompt, request)

    async def prompt_tokens(self, request: ChatRequest) -> int:
        """As the current model's."""
        return await self.current.prompt_tokens(request)

    @property
    def engine(self) -> Engine:
        """Where it runs; further adapters of the base can be served beside it."""
        return self.current.engine


class Local(Part):
    """A base on this machine, served by llama.cpp in a process of its own.

    Models with the same base and settings share one engine, whatever their adapters.
    """

    base: str = "smollm2-135m"
    """A name of the catalog, a GGUF file, a folder with safetensors, or `hf:org/name`."""
    adapter: str | None = None
    """A ref such as `concierge/specialist`, which is followed: whatever was promoted last answers,
    the base alone where nothing was. Or the folder of an adapter."""
    threads: int | None = None
    """Threads that compute; by default one for each core."""
    context: int = 4096
    """Tokens of one conversation, prompt and answer."""
    parallel: int = 4
    """Conversations at once; further ones wait."""

    def mistakes(self, folder: Path) -> Iterable[tuple[str, str]]:
        """A base that does not exist."""
        wrong = catalog.missing(self.base, folder)
        return [("base", wrong)] if wrong else []

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[LocalModel | FollowingModel]:
        """The model, answering as soon as the block begins."""
        name = self.base
        if (context.folder / name).exists():
            name = str(context.folder / name)
        base = await asyncio.to_thread(catalog.base, name)
        engine: Engine = await context.share(
            ("llamacpp", base.gguf, self.threads, self.context, self.parallel),
            lambda: open_engine(
                base,
                threads=self.threads,
                context=self.context,
                parallel=self.parallel,
                dry=context.dry,
            ),
        )

        async def with_adapter(folder: Path | None) -> LocalModel:
            return await engine.model(folder, context.name)

        if self.adapter is None:
            yield await with_adapter(None)
        elif (context.folder / self.adapter).exists():
            yield await with_adapter(context.folder / self.adapter)
        else:
            async with following(context, self.adapter, with_adapter, FollowingModel) as model:
                yield model


class _Asking:
    """One request on its way through the engine.

    Args:
        prompt: what the model reads; by default what its template makes of the request.
    """

    def __init__(self, model: LocalModel, request: ChatRequest, prompt: str | None = None) -> None:
        self.model, self.request = model, request
        self.begun = False
        self.generation: Generation | None = None
        self.asked = Asked(
            request, model.engine.template, model.form, model.name, calls_only=model.calls_only
        )
        self.body = self._body(self.asked.prompt if prompt is None else prompt)

    async def once(self, deadline: float) -> AsyncGenerator[Delta]:
        engine, model = self.model.engine, self.model
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                lease = engine.lease(model.adapter)
                generation = self.generation = await lease.__aenter__()
        except TimeoutError:
            raise self._late() from None
        except EngineError as error:
            raise ModelError(str(error), status=503) from error
        try:
            response = await self._post(generation, deadline)
            # Closing the connection is what makes llama.cpp free the slot.
            try:
                if response.status != 200:
                    raise self._refused(response.status, await response.read())
                async with aclosing(self._pieces(response, deadline)) as pieces:
                    async for piece in pieces:
                        for delta in self._deltas(piece):
                            self.begun = True
                            yield delta
            finally:
                response.close()
        finally:
            await lease.__aexit__(None, None, None)

    async def see_whether_it_died(self) -> None:
        """Waits until a broken connection has shown to be a dead process, or was none."""
        if self.generation is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.generation.process.wait()), 0.5)

    async def _post(self, generation: Generation, deadline: float) -> aiohttp.ClientResponse:
        body = {**self.body, "lora": generation.lora(self.model.adapter)}
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self.model.engine.session.post(
                    f"{generation.process.url}/completion",
                    json=body,
                    headers={"Authorization": f"Bearer {generation.process.key}"},
                )
        except TimeoutError:
            raise self._late() from None

    async def _pieces(
        self, response: aiohttp.ClientResponse, deadline: float
    ) -> AsyncGenerator[Mapping[str, Any]]:
        events = Events()
        while True:
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    chunk = await response.content.readany()
            except TimeoutError:
                raise self._late() from None
            if not chunk:
                raise ConnectionResetError("the stream ended before the answer did")
            for data in events.feed(chunk):
                piece = msgspec.json.decode(data)
                if "error" in piece:
                    raise ModelError(f"{self.model.name}: {_message(piece)}")
                yield piece
                if piece.get("stop"):
                    return

    def _deltas(self, piece: Mapping[str, Any]) -> list[Delta]:
        deltas = self.asked.piece(piece.get("content", ""))
        if not piece.get("stop"):
            return deltas
        finish: FinishReason = "length" if piece.get("stop_type") == "limit" else "stop"
        timings = piece.get("timings") or {}
        usage = Usage(
            prompt_tokens=int(piece.get("tokens_evaluated", 0)),
            output_tokens=int(piece.get("tokens_predicted", 0)),
            cached_tokens=max(0, int(timings.get("cache_n", 0))),
        )
        return deltas + self.asked.end(finish, usage)

    def _body(self, prompt: str) -> dict[str, Any]:
        request, asked = self.request, self.asked
        body: dict[str, Any] = {
            "prompt": self.model.engine.bare(prompt),
            "stream": True,
            "n_predict": request.max_tokens or MAX_TOKENS,
            "cache_prompt": bool(request.extra.get("cache_prompt", True)),
            "temperature": request.temperature or 0.0,
            "stop": list(request.stop),
        }
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.seed is not None:
            body["seed"] = request.seed % 2**32
        if asked.grammar is not None:
            body["grammar"] = asked.grammar
            if asked.trigger is not None:
                # Type 2 is a pattern; the grammar reads the answer from where it begins to match.
                body["grammar_lazy"] = True
                body["grammar_triggers"] = [{"type": 2, "value": asked.trigger}]
        return body

    def _refused(self, status: int, body: bytes) -> ModelError:
        try:
            said = json.loads(body)
        except ValueError:
            said = body.decode(errors="replace")[:200]
        error = said.get("error") if isinstance(said, dict) else None
        if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
            told = (
                f"{self.model.name}: the prompt has {error.get('n_prompt_tokens')} tokens, but a "
                f"conversation holds {error.get('n_ctx')}. "
            )
            if self.request.tools and self.model.adapter is None:
                told += (
                    f"The base without an adapter must read its tools ({len(self.request.tools)}) "
                    "whole. `kickwheel turn` makes an adapter that knows them by heart: some "
                    "15 minutes for the concierge on two cores. To ask at once, give the agent "
                    "another model, fewer tools, or this one a larger `context`."
                )
            else:
                told += "Shorten it, or set a larger `context`."
            return ModelError(told, status=400)
        text = f"{self.model.name}: {_message(said)}"
        return ModelError(text, status=status if status in (400, 404, 429) else 502)

    def _late(self) -> ModelError:
        return ModelError(
            f"{self.model.name}: no whole answer within {self.request.timeout_s:g} s", status=504
        )


def _message(said: Any) -> str:
    error = said.get("error") if isinstance(said, dict) else None
    return str(error.get("message") if isinstance(error, dict) else error or said)
