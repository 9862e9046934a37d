"""`kind: openai`: a model at any URL that speaks OpenAI's chat protocol."""

import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import msgspec
from msgspec import structs
from pydantic import SecretStr, field_validator

from kickwheel.core.config import key_from
from kickwheel.core.errors import ModelError, UsageError
from kickwheel.core.plugins import Context, Part
from kickwheel.models.answer import Answer
from kickwheel.models.arguments import without_choices
from kickwheel.models.chat import ChatRequest, Collected, Completion, Delta, Usage
from kickwheel.models.closed import all_required, closed
from kickwheel.models.pictures import Eyes, Input, beside, eyes
from kickwheel.models.prices import Prices
from kickwheel.models.sent import Sent
from kickwheel.models.turns import label_schema
from kickwheel.models.vectors import Embedded, embedded_there
from kickwheel.models.wire import Wire, drained, encoded, new_session
from kickwheel.records import ToolSpec
from kickwheel.records.openai import message_to_openai, tool_to_openai

OPENAI_URL = "https://api.openai.com/v1"
_LABEL = "label"
_PATH = "/chat/completions"
_TOOL_LISTS = 256
"""Lists of tools whose JSON is kept."""


class OpenAI(Part):
    """A model behind OpenAI's protocol: OpenAI itself, or any server that speaks it."""

    model: str
    """Its name there."""
    base_url: str | None = None
    """Where it is, with the version: `http://localhost:11434/v1`. By default OPENAI_BASE_URL, else
    OpenAI itself."""
    api_key: SecretStr | None = None
    """Write `${NAME}` for the value of a variable, not the key itself; by default
    `${OPENAI_API_KEY}`."""
    prices: Prices | None = None
    """What tokens cost there; without, no cost is told."""
    input: Input = ("text",)
    """What it takes in: `[text, image]` for a model with eyes, which then sees screenshots, and
    pictures that callers send."""

    @field_validator("base_url")
    @classmethod
    def _a_url(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://", "${")):
            raise ValueError(f'"{url}" must begin with http:// or https://')
        return url

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["RemoteModel"]:
        """The model; nothing is asked of it yet."""
        url, key = self.where()
        async with open_remote(context.name, self.model, url, key, self.prices) as model:
            model.eyes = eyes(self.input, context.store.artifacts.folder)
            yield model

    def where(self) -> tuple[str, str | None]:
        """The URL, with the version, and the key for it, as the environment has them now."""
        written = self.api_key.get_secret_value() if self.api_key else "${OPENAI_API_KEY}"
        return self.base_url or default_url(), key_from(written)


def default_url() -> str:
    """Where OpenAI's protocol is spoken if nobody says where: OPENAI_BASE_URL, else OpenAI.

    Raises:
        UsageError: the variable is no URL.
    """
    url = os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    if not url.startswith(("http://", "https://")):
        raise UsageError(f'OPENAI_BASE_URL is "{url}"; it must begin with http:// or https://')
    return url


@asynccontextmanager
async def open_remote(
    name: str, model: str, url: str, key: str | None = None, prices: Prices | None = None
) -> AsyncGenerator["RemoteModel"]:
    """A model at a URL, without an app.

    Args:
        name: how it is called here. model: how it is called there.
        url: with the version, `https://api.openai.com/v1`.
    """
    async with new_session() as session:
        yield RemoteModel(session, name, model, url, key, prices)


class RemoteModel:
    """A model at a URL."""

    provider = "openai"
    """Whose protocol it speaks, as traces name it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        name: str,
        model: str,
        url: str,
        key: str | None = None,
        prices: Prices | None = None,
    ) -> None:
        self.name, self.model = name, model
        self._wire = Wire(session, name, url, key)
        self.eyes: Eyes | None = None
        """Through which it sees pictures."""
        self._prices = prices
        self._is_openai = url.startswith(OPENAI_URL)
        self._keyless = self._is_openai and not key

    @property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return self.eyes is not None

    @property
    def identity(self) -> str:
        """What answers here: equal for models whose answers are as good."""
        return f"{self._wire.url} {self.model}"

    def cost_usd(self, usage: Usage) -> float | None:
        """What an answer cost, in dollars; `None` where no prices are set."""
        return None if self._prices is None else self._prices.cost_usd(usage)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer, piece by piece, or in one piece where the request says so.

        Raises:
            ModelError: no answer after three tries, within the request's time, or one that was
                cut in the middle; 401 where OpenAI is to be asked without a key.
        """
        if request.whole:
            for delta in await self._pieces(request):
                yield delta
            return
        self._check_key()
        body, label, data = await self._made(request)
        answer = Answer(self.model, label=label, asked=body, stops=request.stop)
        async with aclosing(self._streamed(_PATH, data, answer, request.timeout_s)) as deltas:
            async for delta in deltas:
                yield delta

    async def continuation(self, prompt: str, request: ChatRequest) -> AsyncGenerator[Delta]:
        """What the model writes after the prompt, where its server goes on with texts; see
        `chat.Continuing`."""
        self._check_key()
        bare = structs.replace(
            request, messages=(), tools=(), json_schema=None, labels=(), whole=False
        )
        body = chat_body(bare, self.model)
        del body["messages"]
        body["prompt"] = prompt
        answer = Answer(self.model, asked=body, stops=request.stop)
        data, timeout_s = encoded(body), request.timeout_s
        async with aclosing(self._streamed("/completions", data, answer, timeout_s)) as deltas:
            async for delta in deltas:
                yield delta

    async def whole(self, request: ChatRequest) -> Completion:
        """The answer in one piece.

        Raises:
            ModelError: as `stream`.
        """
        started = time.perf_counter()
        pieces = await self._pieces(request)
        collected = Collected()
        for delta in pieces:
            collected.add(delta)
        return collected.completion(started)

    async def embedded(self, texts: Sequence[str], dimensions: int | None = None) -> Embedded:
        """The texts as vectors, where its server makes them; see `vectors.Embeds`."""
        self._check_key()
        body: dict[str, Any] = {"model": self.model, "input": list(texts)}
        body["encoding_format"] = "float"
        if dimensions is not None:
            body["dimensions"] = dimensions
        said = await self._wire.whole("/embeddings", body, ChatRequest(messages=()).timeout_s)
        try:
            made = embedded_there(said)
        except ValueError as error:
            raise ModelError(f"{self.name}: {self._wire.url} {error}") from error
        if len(made.vectors) != len(texts):
            what = f"{len(made.vectors)} vectors for {len(texts)} texts"
            raise ModelError(f"{self.name}: {self._wire.url} answers with {what}")
        return made

    def body(self, request: ChatRequest) -> tuple[dict[str, Any], str | None]:
        """What is sent, and the key of the answer's JSON under which a label comes back."""
        # OpenAI's newer models refuse the old name, and most other servers do not know the new.
        limit = "max_completion_tokens" if self._is_openai else "max_tokens"
        body = chat_body(request, self.model, limit=limit)
        if self.eyes is not None:
            body["messages"] = self.eyes.openai(request.messages, body["messages"])
        if self._is_openai and "response_format" in body:
            form = body["response_format"]["json_schema"]
            held = closed(form["schema"])
            # Its grammar holds an answer to such schemas only; of others it just does its best.
            if held is not None and held.get("type") == "object" and all_required(held):
                form |= {"schema": held, "strict": True}
        label = _LABEL if request.labels and request.constrained else None
        return self._wire.taken.fitted(body), label

    def sent(self, request: ChatRequest) -> Sent:
        """What is posted for the request."""
        url = self._wire.clean(self._wire.url + _PATH)
        return Sent(model=self.name, url=url, body=self.body(request)[0])

    async def _made(self, request: ChatRequest) -> tuple[dict[str, Any], str | None, bytes]:
        """The body, see `body`, and its bytes."""

        def make() -> tuple[dict[str, Any], str | None, bytes]:
            body, label = self.body(request)
            return body, label, _bytes(body, request.tools)

        return make() if self.eyes is None else await beside(request.messages, make)

    async def _streamed(
        self, path: str, data: bytes, answer: Answer, timeout_s: float
    ) -> AsyncGenerator[Delta]:
        chunks = self._wire.post(path, data, timeout_s)
        async with aclosing(chunks):
            async for chunk in chunks:
                for delta in self._read(answer, chunk):
                    yield delta
                if answer.ended:
                    break
            for delta in self._read(answer, None):
                yield delta
            await drained(chunks)

    async def _pieces(self, request: ChatRequest) -> list[Delta]:
        self._check_key()
        body, label, data = await self._made(request)
        answer = Answer(self.model, label=label, asked=body, stops=request.stop)
        said = await self._wire.whole(_PATH, data, request.timeout_s)
        return [*self._read(answer, said), *self._read(answer, None)]

    def _check_key(self) -> None:
        if self._keyless:
            raise ModelError(
                f"{self.name}: OpenAI wants a key. Set OPENAI_API_KEY, or base_url for another "
                "server.",
                status=401,
            )

    def _read(self, answer: Answer, chunk: bytes | None) -> list[Delta]:
        try:
            return answer.feed(chunk) if chunk is not None else answer.close()
        except ValueError as error:
            raise ModelError(self._wire.clean(f"{self.name}: {error}")) from error


def chat_body(request: ChatRequest, model: str, *, limit: str = "max_tokens") -> dict[str, Any]:
    """The request as OpenAI's protocol has it; streamed, with usage, unless it is `whole`.

    What stays the same from step to step of a conversation stands in front, so that caches of
    engines and of proxies find it. Labels, which the protocol does not know, become a JSON schema
    with the label in it.
    """
    body: dict[str, Any] = {"model": model}
    if request.tools:
        body["tools"] = _tools(request.tools)[0]
    body["messages"] = [message_to_openai(message) for message in request.messages]
    if not request.whole:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        choice: Any = request.tool_choice
        if choice not in ("auto", "none", "required"):
            choice = {"type": "function", "function": {"name": choice}}
        body["tool_choice"] = choice
    schema, most = request.json_schema, request.max_tokens
    if request.labels:
        schema = label_schema(_LABEL, request.labels)
        if request.constrained:
            # Its schema keeps it short, and models that think first count that in the limit.
            most = None
    if schema is not None and request.constrained:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": bool(request.labels)},
        }
    for key, value in (
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        (limit, most),
        ("seed", request.seed),
        ("stop", list(request.stop) or None),
    ):
        if value is not None:
            body[key] = value
    for key, value in request.extra.items():
        if key not in ("cache_prompt", "stream", "stream_options"):
            body.setdefault(key, value)
    return body


_tool_lists: dict[
    tuple[int, ...], tuple[tuple[ToolSpec, ...], list[dict[str, Any]], msgspec.Raw]
] = {}


def _tools(tools: tuple[ToolSpec, ...]) -> tuple[list[dict[str, Any]], msgspec.Raw]:
    """The tools as entries of the protocol, and those as JSON."""
    # An agent offers the same tools with every request, so each list is written once. They are kept
    # here with what was made of them: their ids stay their own.
    same = tuple(map(id, tools))
    known = _tool_lists.get(same)
    if known is None:
        entries = [
            tool_to_openai(replace(tool, parameters=without_choices(tool.parameters)))
            for tool in tools
        ]
        if len(_tool_lists) >= _TOOL_LISTS:
            _tool_lists.clear()
        known = _tool_lists[same] = (tools, entries, msgspec.Raw(encoded(entries)))
    return known[1], known[2]


def _bytes(body: Mapping[str, Any], tools: tuple[ToolSpec, ...]) -> bytes:
    return encoded({**body, "tools": _tools(tools)[1]} if tools else body)
