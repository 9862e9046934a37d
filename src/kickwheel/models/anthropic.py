"""`kind: anthropic`: Claude, through Anthropic's own SDK."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr

from kickwheel.core.config import key_from
from kickwheel.core.errors import MissingExtra, ModelError
from kickwheel.core.plugins import Context, Part
from kickwheel.models.chat import (
    CallDelta,
    ChatRequest,
    Delta,
    Done,
    FinishReason,
    TextDelta,
    Usage,
)
from kickwheel.models.prices import Prices
from kickwheel.models.sent import Sent
from kickwheel.models.retry import Refused, persist, refused
from kickwheel.models.turns import (
    SMALLEST_PREFIX,
    arguments,
    in_turns,
    label,
    label_schema,
)
from kickwheel.records import Message

if TYPE_CHECKING:
    import anthropic

_LABEL = "label"
_CACHED = {"type": "ephemeral"}
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 401,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "overloaded_error": 429,
    "timeout_error": 504,
}


class Anthropic(Part):
    """Claude at Anthropic, or at a server that speaks its protocol."""

    model: str
    """Its name there."""
    base_url: str | None = None
    """By default ANTHROPIC_BASE_URL, else Anthropic itself."""
    api_key: SecretStr | None = None
    """Write `${NAME}` for the value of a variable, not the key itself; by default
    `${ANTHROPIC_API_KEY}`."""
    max_tokens: int = Field(default=8192, gt=0)
    """Of an answer at most, where the request does not say: Anthropic wants a number."""
    prices: Prices | None = None
    """What tokens cost there; without, no cost is told."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["AnthropicModel"]:
        """The model; nothing is asked of it yet."""
        try:
            import anthropic
        except ImportError as error:
            raise MissingExtra(f"models.{context.name} (kind: anthropic)", "anthropic") from error
        key = key_from(self.api_key.get_secret_value() if self.api_key else "${ANTHROPIC_API_KEY}")
        client = anthropic.AsyncAnthropic(
            api_key=key or "none",
            base_url=self.base_url or os.environ.get("ANTHROPIC_BASE_URL"),
            max_retries=0,  # `retry.persist` does it, under the request's one deadline.
            timeout=anthropic.Timeout(None, connect=10.0),
            http_client=anthropic.DefaultAioHttpClient(),
            open_telemetry=False,
        )
        async with client:
            yield AnthropicModel(
                client, context.name, self.model, key, self.max_tokens, self.prices
            )


class AnthropicModel:
    """Claude."""

    provider = "anthropic"
    """Whose protocol it speaks, as traces name it."""

    def __init__(
        self,
        client: "anthropic.AsyncAnthropic",
        name: str,
        model: str,
        key: str | None,
        max_tokens: int,
        prices: Prices | None,
    ) -> None:
        self.name, self.model = name, model
        self._client, self._key = client, key
        self._max_tokens, self._prices = max_tokens, prices

    @property
    def identity(self) -> str:
        """What answers here: equal for models whose answers are as good."""
        return f"{self._client.base_url} {self.model}"

    def cost_usd(self, usage: Usage) -> float | None:
        """What an answer cost, in dollars; `None` where no prices are set."""
        return None if self._prices is None else self._prices.cost_usd(usage)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer, piece by piece.

        Raises:
            ModelError: no answer after three tries, within the request's time, or one that was
                cut in the middle; 401 without a key.
        """
        if not self._key:
            raise ModelError(f"{self.name}: Anthropic wants a key: ANTHROPIC_API_KEY.", status=401)
        deadline = asyncio.get_running_loop().time() + request.timeout_s
        body = message_body(request, self.model, self._max_tokens)
        labelled = bool(request.labels and request.constrained)
        reading = Reading(self.model)
        text = ""
        events = await persist(lambda: self._begun(body, deadline), deadline)
        try:
            while (event := await self._next(events, deadline)) is not None:
                for delta in self._read(reading, event):
                    if labelled and isinstance(delta, TextDelta):
                        text += delta.text
                    else:
                        yield delta
        finally:
            await events.close()
        if reading.done is None:
            raise ModelError(f"{self.name}: the answer broke off")
        if text:
            yield TextDelta(label(_LABEL, text))
        yield reading.done

    def sent(self, request: ChatRequest) -> Sent:
        """What is posted for the request."""
        url = f"{str(self._client.base_url).rstrip('/')}/v1/messages"
        return Sent(
            model=self.name, url=url, body=message_body(request, self.model, self._max_tokens)
        )

    async def _begun(
        self, body: Mapping[str, Any], deadline: float
    ) -> "anthropic.AsyncStream[Any]":
        import anthropic

        try:
            async with asyncio.timeout_at(deadline):
                create: Any = self._client.messages.create
                return await create(**body, stream=True)  # type: ignore[no-any-return]
        except TimeoutError as error:
            raise self._late() from error
        except anthropic.APITimeoutError as error:
            told = ModelError(f"{self.name}: {self._client.base_url} does not answer", status=504)
            raise Refused(told, again=True) from error
        except anthropic.APIStatusError as error:
            text = self._clean(f"{self.name}: Anthropic answers {error.status_code}: {error}")
            hint = "the key (ANTHROPIC_API_KEY, or `api_key`)"
            raise refused(text, error.status_code, error.response.headers, key_hint=hint) from error
        except anthropic.APIConnectionError as error:
            reason = self._clean(str(error.__cause__ or error))
            text = f"{self.name}: {self._client.base_url} cannot be reached: {reason}"
            raise Refused(ModelError(text), again=True) from error

    async def _next(self, events: AsyncIterator[Any], deadline: float) -> Any:
        """The next event; `None` after the last one."""
        import anthropic
        import httpx2

        try:
            async with asyncio.timeout_at(deadline):
                return await anext(events, None)
        except TimeoutError:
            raise self._late() from None
        except anthropic.APIStatusError as error:
            # An error event in the stream: the response itself had begun with 200.
            told = error.body.get("error") if isinstance(error.body, dict) else None
            kind = told.get("type") if isinstance(told, dict) else None
            said = self._clean(str(told.get("message") if isinstance(told, dict) else error))
            text = f"{self.name}: the server broke off: {said}"
            raise ModelError(text, status=_STATUS.get(str(kind), 502)) from error
        except (anthropic.APIError, httpx2.HTTPError, OSError) as error:
            raise ModelError(
                f"{self.name}: {self._client.base_url} broke off in the middle of its answer"
            ) from error
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                self._clean(f"{self.name}: not Anthropic's protocol: {error}")
            ) from error

    def _read(self, reading: "Reading", event: Any) -> list[Delta]:
        try:
            return reading.feed(event)
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                self._clean(f"{self.name}: not Anthropic's protocol: {error}")
            ) from error

    def _rubbish(self, error: Exception) -> ModelError:
        return ModelError(self._clean(f"{self.name}: not Anthropic's protocol: {error}"))

    def _late(self) -> ModelError:
        return ModelError(f"{self.name}: no whole answer within the request's time", status=504)

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "[key]") if self._key else text


class Reading:
    """The pieces of one answer, from the events of its stream."""

    def __init__(self, model: str) -> None:
        self.done: Done | None = None
        """The end, once the server told it."""
        self._model = model
        self._calls: dict[int, int] = {}
        self._silent: set[int] = set()
        """Calls of which no argument has come yet."""
        self._counts: dict[str, int] = {}
        self._finish: FinishReason | None = None

    def feed(self, event: Any) -> list[Delta]:
        """The pieces that an event brings."""
        match event.type:
            case "message_start":
                self._model = event.message.model or self._model
                self._count(event.message.usage)
            case "content_block_start" if event.content_block.type == "tool_use":
                index = self._calls[event.index] = len(self._calls)
                self._silent.add(event.index)
                block = event.content_block
                return [CallDelta(index, "", str(block.id), str(block.name))]
            case "content_block_delta" if event.delta.type == "text_delta":
                return [TextDelta(event.delta.text)] if event.delta.text else []
            case "content_block_delta" if event.delta.type == "input_json_delta":
                if event.delta.partial_json:
                    self._silent.discard(event.index)
                    return [CallDelta(self._calls[event.index], event.delta.partial_json)]
            case "content_block_stop" if event.index in self._silent:
                # A call without arguments: JSON knows no empty text.
                return [CallDelta(self._calls[event.index], "{}")]
            case "message_delta":
                self._count(event.usage)
                if event.delta.stop_reason:
                    self._finish = _FINISH.get(event.delta.stop_reason, "stop")
            case "message_stop" if self._finish is not None:
                self.done = Done(self._finish, self._usage(), self._model)
        return []

    def _count(self, usage: Any) -> None:
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ):
            value = getattr(usage, name, None)
            if isinstance(value, int):
                self._counts[name] = value

    def _usage(self) -> Usage:
        count = self._counts.get
        cached = count("cache_read_input_tokens", 0)
        written = count("cache_creation_input_tokens", 0)
        return Usage(
            prompt_tokens=count("input_tokens", 0) + cached + written,
            output_tokens=count("output_tokens", 0),
            cached_tokens=cached,
            written_tokens=written,
        )


def message_body(request: ChatRequest, model: str, max_tokens: int) -> dict[str, Any]:
    """The request as Anthropic's protocol has it, with marks where its cache pays.

    A prefix that is long enough is marked after what every conversation begins with (tools, system)
    and, where another step is to be expected, after the last turn: the next step reads all of
    this one. `seed`, which Anthropic does not know, is left out.
    """
    system, turns = in_turns(request.messages)
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens or max_tokens}
    if request.tools:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": {"type": "object", **tool.parameters},
            }
            for tool in request.tools
        ]
        body["tool_choice"] = _choice(request.tool_choice)
    if system:
        body["system"] = [{"type": "text", "text": text} for text in system]
    body["messages"] = [
        {"role": side, "content": [block for message in said for block in _blocks(message)]}
        for side, said in turns
    ]
    _mark(body, goes_on=bool(request.tools) or len(turns) > 1)
    schema = label_schema(_LABEL, request.labels) if request.labels else request.json_schema
    if schema is not None and request.constrained:
        body["output_config"] = {"format": {"type": "json_schema", "schema": dict(schema)}}
    if request.temperature is not None:
        body["temperature"] = min(request.temperature, 1.0)  # Where OpenAI's scale has its half.
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.extra:
        known = ("stream", "stream_options", "cache_prompt", *body)
        extra = {key: value for key, value in request.extra.items() if key not in known}
        body["extra_body"] = extra
    return body


def _mark(body: dict[str, Any], *, goes_on: bool) -> None:
    start = [*body.get("tools", ()), *body.get("system", ())]
    length = sum(len(str(entry)) for entry in start)
    if start and length >= SMALLEST_PREFIX:
        start[-1]["cache_control"] = _CACHED
    length += sum(len(str(message)) for message in body["messages"])
    if goes_on and body["messages"] and length >= SMALLEST_PREFIX:
        body["messages"][-1]["content"][-1]["cache_control"] = _CACHED


def _choice(choice: str) -> dict[str, str]:
    known = {"auto": "auto", "none": "none", "required": "any"}.get(choice)
    return {"type": known} if known else {"type": "tool", "name": choice}


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id}
        return [{**result, "content": message.content or ""}]
    blocks: list[dict[str, Any]] = []
    if message.content:
        blocks.append({"type": "text", "text": message.content})
    for call in message.tool_calls:
        use = {"type": "tool_use", "id": call.id, "name": call.name}
        blocks.append({**use, "input": arguments(call.arguments)})
    return blocks
