"""`kind: openai`: a model at any URL that speaks OpenAI's chat protocol."""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from kickwheel.core.config import key_from
from kickwheel.core.errors import ModelError
from kickwheel.core.plugins import Context, Part
from kickwheel.models.answer import Answer
from kickwheel.models.chat import ChatRequest, Delta, Usage
from kickwheel.records.openai import message_to_openai, tool_to_openai

OPENAI_URL = "https://api.openai.com/v1"
TRIES = 3
"""The first one and two more."""
CONNECT_S = 10.0
_AGAIN = frozenset((408, 409, 429))
_LABEL = "label"


class Prices(BaseModel):
    """What tokens cost, in US dollars for a million."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    input: float = Field(ge=0)
    """Of the prompt."""
    output: float = Field(ge=0)
    """Of the answer."""
    cached: float | None = Field(default=None, ge=0)
    """Of the prompt where it was cached; by default as `input`."""

    def cost_usd(self, usage: Usage) -> float:
        """What an answer cost, in dollars."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        total = fresh * self.input + usage.cached_tokens * cached
        return (total + usage.output_tokens * self.output) / 1e6


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

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["RemoteModel"]:
        """The model; nothing is asked of it yet."""
        url = self.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        key = key_from(self.api_key.get_secret_value() if self.api_key else "${OPENAI_API_KEY}")
        async with open_remote(context.name, self.model, url, key, self.prices) as model:
            yield model


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


def new_session() -> aiohttp.ClientSession:
    """A session for streams: no total time, no limit of connections, bytes as they come."""
    return aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        headers={"Accept-Encoding": "identity"},
    )


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
        self._prices = prices
        self._is_openai = url.startswith(OPENAI_URL)
        self._keyless = self._is_openai and not key

    def cost_usd(self, usage: Usage) -> float | None:
        """What an answer cost, in dollars; `None` where no prices are set."""
        return None if self._prices is None else self._prices.cost_usd(usage)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer, piece by piece; always streamed there, so that nothing waits for its end.

        Raises:
            ModelError: no answer after `TRIES` tries, within the request's time, or one that was
                cut in the middle; 401 where OpenAI is to be asked without a key.
        """
        if self._keyless:
            raise ModelError(
                f"{self.name}: OpenAI wants a key. Set OPENAI_API_KEY, or base_url for another "
                "server.",
                status=401,
            )
        body, label = self.body(request)
        answer = Answer(self.model, label=label, asked=body)
        chunks = self._wire.post("/chat/completions", body, request.timeout_s)
        async with aclosing(chunks):
            async for chunk in chunks:
                for delta in self._read(answer, chunk):
                    yield delta
                if answer.ended:
                    break
        for delta in self._read(answer, None):
            yield delta

    def body(self, request: ChatRequest) -> tuple[dict[str, Any], str | None]:
        """What is sent, and the key of the answer's JSON under which a label comes back."""
        # OpenAI's newer models refuse the old name, and most other servers do not know the new.
        limit = "max_completion_tokens" if self._is_openai else "max_tokens"
        body = chat_body(request, self.model, limit=limit)
        return body, _LABEL if request.labels and request.constrained else None

    def _read(self, answer: Answer, chunk: bytes | None) -> list[Delta]:
        try:
            return answer.feed(chunk) if chunk is not None else answer.close()
        except ValueError as error:
            raise ModelError(self._wire.clean(f"{self.name}: {error}")) from error


def chat_body(request: ChatRequest, model: str, *, limit: str = "max_tokens") -> dict[str, Any]:
    """The request as OpenAI's protocol has it, streamed and with usage.

    Labels, which the protocol does not know, become a JSON schema with the label in it.
    """
    body: dict[str, Any] = {
        **{k: v for k, v in request.extra.items() if k not in ("cache_prompt", "stream")},
        "model": model,
        "messages": [message_to_openai(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [tool_to_openai(tool) for tool in request.tools]
        choice: Any = request.tool_choice
        if choice not in ("auto", "none", "required"):
            choice = {"type": "function", "function": {"name": choice}}
        body["tool_choice"] = choice
    schema = request.json_schema
    if request.labels:
        schema = {
            "type": "object",
            "properties": {_LABEL: {"type": "string", "enum": list(request.labels)}},
            "required": [_LABEL],
            "additionalProperties": False,
        }
    if schema is not None and request.constrained:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema, "strict": bool(request.labels)},
        }
    for key, value in (
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        (limit, request.max_tokens),
        ("seed", request.seed),
        ("stop", list(request.stop) or None),
    ):
        if value is not None:
            body[key] = value
    return body


class Wire:
    """Requests to one server: tried again where that helps, errors in our words."""

    def __init__(
        self, session: aiohttp.ClientSession, name: str, url: str, key: str | None = None
    ) -> None:
        self._session, self._name, self._key = session, name, key
        self.url = url.rstrip("/")

    async def post(
        self, path: str, body: Mapping[str, Any], timeout_s: float
    ) -> AsyncGenerator[bytes]:
        """The bytes of the answer, as they come.

        A request that was not answered is tried again, `TRIES` times in all, after the time that
        the server asks for; one deadline holds for everything.

        Raises:
            ModelError: it was not answered.
        """
        deadline = time.monotonic() + timeout_s
        data = json.dumps(body, ensure_ascii=False).encode()
        for attempt in range(1, TRIES + 1):
            begun = await self._once(path, data, deadline)
            if not isinstance(begun, _Refusal):
                break
            wait = _wait_s(begun, attempt)
            if attempt == TRIES or not begun.again or time.monotonic() + wait >= deadline:
                raise begun.told
            await asyncio.sleep(wait)
        assert not isinstance(begun, _Refusal)
        response, first = begun
        try:
            yield first
            while True:
                try:
                    async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                        chunk = await response.content.readany()
                except TimeoutError:
                    raise self._late(timeout_s) from None
                except (aiohttp.ClientError, ConnectionError) as error_:
                    raise self._cut() from error_
                if not chunk:
                    return
                yield chunk
        finally:
            response.close()

    def clean(self, text: str) -> str:
        """The text without our key, should a server have repeated it."""
        return text.replace(self._key, "[key]") if self._key else text

    async def _once(
        self, path: str, data: bytes, deadline: float
    ) -> "tuple[aiohttp.ClientResponse, bytes] | _Refusal":
        """The answer with its first bytes: until those came, it may be asked again."""
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        remaining = max(0.0, deadline - time.monotonic())
        try:
            async with asyncio.timeout(remaining):
                response = await self._session.post(self.url + path, data=data, headers=headers)
                try:
                    said = await response.content.readany()
                except BaseException:
                    response.close()
                    raise
            if response.status == 200 and said:
                return response, said
            response.close()
            if response.status == 200:
                return _Refusal(self._cut(), again=True)
        except TimeoutError as error:
            if time.monotonic() < deadline:  # Only the connection took too long.
                told = ModelError(f"{self._name}: {self.url} does not answer", status=504)
                return _Refusal(told, again=True)
            late = ModelError(f"{self._name}: no answer within the request's time", status=504)
            raise late from error
        except (aiohttp.ClientError, OSError) as error:
            reason = self.clean(str(error)) or type(error).__name__
            told = ModelError(f"{self._name}: {self.url} cannot be reached: {reason}")
            return _Refusal(told, again=not isinstance(error, aiohttp.InvalidURL))
        return self._refusal(response, said)

    def _refusal(self, response: aiohttp.ClientResponse, body: bytes) -> "_Refusal":
        status, said = response.status, self.clean(_said(body))
        retry_after_s = _retry_after_s(response.headers)
        again = status in _AGAIN or status >= 500
        if response.headers.get("x-should-retry") in ("true", "false"):
            again = response.headers["x-should-retry"] == "true"
        text, ours = f"{self._name}: {self.url} answers {status}: {said}", 502
        if status in (401, 403):
            text, ours = f"{text} Check the key (OPENAI_API_KEY, or `api_key`).", 401
        elif status in (400, 404, 429):
            ours = status
        elif status in (413, 422):
            ours = 400
        elif status in (408, 504):
            ours = 504
        told = ModelError(text, status=ours, retry_after_s=retry_after_s)
        return _Refusal(told, again=again)

    def _late(self, timeout_s: float) -> ModelError:
        return ModelError(f"{self._name}: no whole answer within {timeout_s:g} s", status=504)

    def _cut(self) -> ModelError:
        return ModelError(f"{self._name}: {self.url} broke off in the middle of its answer")


class _Refusal:
    def __init__(self, told: ModelError, *, again: bool) -> None:
        self.told, self.again = told, again


def _wait_s(refusal: _Refusal, attempt: int) -> float:
    asked = refusal.told.retry_after_s
    if asked is not None:
        return asked
    # Jitter keeps clients that failed together from coming back together.
    return float(0.5 * 2 ** (attempt - 1) * (1 - 0.25 * random.random()))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            return max(0.0, float(value) / unit)
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, TypeError):
            pass
    return None


def _said(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    try:
        said = json.loads(text)
    except ValueError:
        return text[:300] or "nothing"
    error = said.get("error", said) if isinstance(said, dict) else said
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or error)[:300]
