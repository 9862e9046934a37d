"""`kind: local`: a base on this machine, with an adapter or without, served by llama.cpp.

Prompts, grammars and the reading of calls are ours (`models.prompt`, `models.calls`), so that what
is served is what was tuned. llama.cpp gets text and gives text.
"""

import asyncio
import contextlib
import json
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from kickwheel.core.errors import DataError, EngineError, KickwheelError, ModelError
from kickwheel.core.plugins import Context, Part
from kickwheel.models import calls, catalog
from kickwheel.models.chat import (
    CallDelta,
    ChatRequest,
    Delta,
    Done,
    FinishReason,
    TextDelta,
    Usage,
)
from kickwheel.models.engines.engine import Engine, Generation, default_threads, open_engine
from kickwheel.models.sse import Events
from kickwheel.records import PromptForm, ToolSpec

FOLLOW_S = 0.2
"""Seconds between two looks at a ref."""
MAX_TOKENS = 1024
"""Tokens of an answer at most where the request sets no bound: small models may go on for ever."""
_log = logging.getLogger("kickwheel.engine")


class LocalModel:
    """A base, or a base with one adapter, on a running engine; made by `Engine.model`."""

    def __init__(self, engine: Engine, name: str, adapter: Path | None, form: PromptForm) -> None:
        self.engine = engine
        self.name = name
        self.adapter = adapter
        self.form = form

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer, piece by piece; a call comes whole, at its end.

        With tools, `required` or a tool's name makes the grammar allow calls only; with `auto` the
        model may begin a text, but what begins as a call goes on as one; with `none` the tools are
        left out.

        Raises:
            ModelError: 400 where the request does not fit the model, 504 when its time is over,
                503 when the engine died in the middle or does not come back.
        """
        deadline = time.monotonic() + request.timeout_s
        asking = _Asking(self, request)
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

    async def continued(self, prompt: str, max_tokens: int) -> str:
        """What the model writes after the prompt's text, greedily and without a grammar.

        Raises:
            ModelError: the engine did not answer.
        """
        request = ChatRequest(
            messages=(), temperature=0.0, max_tokens=max_tokens, constrained=False
        )
        asking = _Asking(self, request, prompt=prompt)
        text = ""
        async for delta in asking.once(time.monotonic() + request.timeout_s):
            text += delta.text if isinstance(delta, TextDelta) else ""
        return text


class FollowingModel:
    """The model that a ref points to; streams that run when it moves end on the old one."""

    def __init__(self, name: str, current: LocalModel) -> None:
        self.name = name
        self.current = current

    @property
    def engine(self) -> Engine:
        """Where it runs; further adapters of the base can be served beside it."""
        return self.current.engine

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """As `LocalModel.stream`."""
        return self.current.stream(request)


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

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[LocalModel | FollowingModel]:
        """The model, answering as soon as the block begins."""
        name = self.base
        if (context.folder / name).exists():
            name = str(context.folder / name)
        base = await asyncio.to_thread(catalog.base, name)
        threads = self.threads or default_threads()
        engine: Engine = await context.share(
            ("llamacpp", base.gguf, threads, self.context, self.parallel),
            lambda: open_engine(
                base, threads=threads, context=self.context, parallel=self.parallel
            ),
        )
        if self.adapter is None:
            yield await engine.model(None, context.name)
        elif (context.folder / self.adapter).exists():
            yield await engine.model(context.folder / self.adapter, context.name)
        else:
            async with _following(engine, context, self.adapter) as model:
                yield model


@asynccontextmanager
async def _following(engine: Engine, context: Context, ref: str) -> AsyncGenerator[FollowingModel]:
    store = context.store

    async def behind(target: str | None) -> LocalModel:
        if target is None:
            return await engine.model(None, context.name)
        kind, _, identity = target.partition("/")
        folder = store.artifacts.path(kind, identity)
        if kind == "snapshot":
            folder = folder / "adapter"
        return await engine.model(folder, context.name)

    async def follow() -> None:
        seen = known
        while True:
            await asyncio.sleep(FOLLOW_S)
            target = store.refs.read(ref)
            if target == seen:
                continue
            try:
                model.current = await behind(target)
                _log.info("%s is now %s", ref, target or "the base alone")
            except KickwheelError as error:
                # What answers must go on answering; whoever moved the ref reads why.
                _log.error("%s points at %s, which cannot be served: %s", ref, target, error)
            seen = target

    known = store.refs.read(ref)
    model = FollowingModel(context.name, await behind(known))
    task = asyncio.create_task(follow())
    try:
        yield model
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _Asking:
    """One request on its way through the engine."""

    def __init__(
        self, model: LocalModel, request: ChatRequest, *, prompt: str | None = None
    ) -> None:
        self.model, self.request = model, request
        self.prompt = prompt
        self.begun = False
        self.generation: Generation | None = None
        self.tools = _offered(request)
        self.must_call = bool(self.tools) and request.tool_choice not in ("auto", "none")
        try:
            self.body = self._body()
        except DataError as error:
            raise ModelError(f"{model.name}: {error}", status=400) from error
        self.text = ""
        self.held = bool(self.tools)
        """Whether the text is kept back, because it is or may become a call."""

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
                piece = json.loads(data)
                if "error" in piece:
                    raise ModelError(f"{self.model.name}: {_message(piece)}")
                yield piece
                if piece.get("stop"):
                    return

    def _deltas(self, piece: Mapping[str, Any]) -> list[Delta]:
        deltas: list[Delta] = []
        text = piece.get("content", "")
        self.text += text
        if self.held and not self.must_call and not _may_be_call(self.text, self.tools):
            self.held, text = False, self.text
        if text and not self.held:
            deltas.append(TextDelta(text))
        if piece.get("stop"):
            deltas += self._end(piece)
        return deltas

    def _end(self, piece: Mapping[str, Any]) -> list[Delta]:
        deltas: list[Delta] = []
        finish: FinishReason = "length" if piece.get("stop_type") == "limit" else "stop"
        if self.held:
            # A call that was cut has a wrong last value: it is shown as the text that it is.
            found = calls.read(self.text, self.tools) if finish == "stop" else None
            if found:
                finish = "tool_calls"
                for index, call in enumerate(found):
                    identity = f"call_{secrets.token_hex(8)}"
                    deltas.append(CallDelta(index, call.arguments, identity, call.name))
            elif self.text:
                deltas.append(TextDelta(self.text))
        timings = piece.get("timings") or {}
        usage = Usage(
            prompt_tokens=int(piece.get("tokens_evaluated", 0)),
            output_tokens=int(piece.get("tokens_predicted", 0)),
            cached_tokens=max(0, int(timings.get("cache_n", 0))),
        )
        return [*deltas, Done(finish, usage, self.model.name)]

    def _body(self) -> dict[str, Any]:
        request, engine = self.request, self.model.engine
        form = request.form or self.model.form
        prompt = self.prompt
        if prompt is None:
            prompt = engine.template.prompt(request.messages, self.tools, form)
        bos = engine.template.bos
        if bos and engine.header.metadata.get("tokenizer.ggml.add_bos_token", False):
            prompt = prompt.removeprefix(bos)
        body: dict[str, Any] = {
            "prompt": prompt,
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
        body |= self._grammar()
        return body

    def _grammar(self) -> dict[str, Any]:
        request = self.request
        if not request.constrained:
            return {}
        if self.tools:
            parallel = request.extra.get("parallel_tool_calls") is True
            grammar = calls.tools_grammar(self.tools, parallel=parallel)
            if self.must_call:
                return {"grammar": grammar}
            names = "|".join(re.escape(tool.name) for tool in self.tools)
            # The grammar sets in once the answer begins with a tool's name.
            trigger = {"type": 2, "value": f"^(?:{names})"}
            return {"grammar": grammar, "grammar_lazy": True, "grammar_triggers": [trigger]}
        if request.labels:
            return {"grammar": calls.labels_grammar(request.labels)}
        if request.json_schema is not None:
            return {"grammar": calls.schema_grammar(request.json_schema)}
        return {}

    def _refused(self, status: int, body: bytes) -> ModelError:
        try:
            said = json.loads(body)
        except ValueError:
            said = {"error": {"message": body.decode(errors="replace")[:200]}}
        error = said.get("error") if isinstance(said, dict) else None
        if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
            how = "Shorten it, or set a larger `context`."
            form = self.request.form or self.model.form
            if self.model.adapter is None and self.tools and form.tools == "full":
                how = (
                    f"The schemas of {len(self.tools)} tools fill it; a specialist needs none of "
                    "them, but none is promoted yet: kickwheel turn makes one."
                )
            return ModelError(
                f"{self.model.name}: the prompt has {error.get('n_prompt_tokens')} tokens, but a "
                f"conversation holds {error.get('n_ctx')}. {how}",
                status=400,
            )
        text = f"{self.model.name}: {_message(said)}"
        return ModelError(text, status=status if status in (400, 404, 429) else 502)

    def _late(self) -> ModelError:
        return ModelError(
            f"{self.model.name}: no whole answer within {self.request.timeout_s:g} s", status=504
        )


def _offered(request: ChatRequest) -> tuple[ToolSpec, ...]:
    if request.tool_choice == "none":
        return ()
    if request.tool_choice in ("auto", "required"):
        return request.tools
    chosen = tuple(tool for tool in request.tools if tool.name == request.tool_choice)
    if not chosen:
        raise ModelError(f'no tool "{request.tool_choice}" was offered', status=400)
    return chosen


def _may_be_call(text: str, tools: tuple[ToolSpec, ...]) -> bool:
    """Whether the text is the beginning of a call, as far as it goes."""
    first, line_ended, _ = text.lstrip().partition("\n")
    if line_ended:
        return any(tool.name == first.strip() for tool in tools)
    return any(tool.name.startswith(first.strip()) for tool in tools)


def _message(said: Any) -> str:
    error = said.get("error") if isinstance(said, dict) else None
    return str(error.get("message") if isinstance(error, dict) else error or said)
