"""`kind: anthropic`: Claude, through Anthropic's own SDK."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr

from kickwheel.core import redact
from kickwheel.core.config import key_from
from kickwheel.core.errors import MissingExtra, ModelError
from kickwheel.core.plugins import Context, Part
from kickwheel.models.chat import ChatRequest, Delta, TextDelta, Usage
from kickwheel.models.messages import LABEL, Reading, message_body
from kickwheel.models.pictures import Eyes, Input, beside, eyes
from kickwheel.models.prices import Prices
from kickwheel.models.retry import Refused, persist, refused
from kickwheel.models.sent import Sent
from kickwheel.models.taken import Taken
from kickwheel.models.turns import label

if TYPE_CHECKING:
    import anthropic

_NAMED = frozenset(
    ("model", "max_tokens", "messages", "system", "tools", "tool_choice", "stop_sequences")
)
"""What the SDK takes by name in each of its versions; it has no temperature from 2.0 on, but all
else goes into the body as it is."""
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
    input: Input = ("text",)
    """What it takes in: `[text, image]` for a model with eyes, which then sees screenshots, and
    pictures that callers send."""

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
                client,
                context.name,
                self.model,
                key,
                self.max_tokens,
                self.prices,
                eyes(self.input, context.store.artifacts.folder),
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
        sees: Eyes | None = None,
    ) -> None:
        self.name, self.model = name, model
        self._client, self._key = client, key
        self._max_tokens, self._prices = max_tokens, prices
        self._eyes = sees
        self._taken = Taken(name)

    @property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return self._eyes is not None

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
            raise ModelError(
                f"{self.name}: Anthropic wants a key. Set ANTHROPIC_API_KEY.", status=401
            )
        deadline = asyncio.get_running_loop().time() + request.timeout_s
        body = await beside(request.messages, lambda: self._body(request))
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
            yield TextDelta(label(LABEL, text))
        yield reading.done

    def sent(self, request: ChatRequest) -> Sent:
        """What is posted for the request."""
        url = f"{str(self._client.base_url).rstrip('/')}/v1/messages"
        return Sent(
            model=self.name,
            url=url,
            body=self._body(request),
        )

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        body = message_body(request, self.model, self._max_tokens, self._eyes)
        return self._taken.fitted(body)

    async def _begun(self, body: dict[str, Any], deadline: float) -> "anthropic.AsyncStream[Any]":
        import anthropic

        try:
            async with asyncio.timeout_at(deadline):
                create: Any = self._client.messages.create
                named = {key: value for key, value in body.items() if key in _NAMED}
                more = {key: value for key, value in body.items() if key not in _NAMED}
                return await create(  # type: ignore[no-any-return]
                    **named, stream=True, extra_body=more
                )
        except TimeoutError as error:
            raise self._late() from error
        except anthropic.APITimeoutError as error:
            told = ModelError(f"{self.name}: {self._client.base_url} does not answer", status=504)
            raise Refused(told, again=True) from error
        except anthropic.APIStatusError as error:
            if error.status_code == 400 and self._taken.learned(str(error), body):
                return await self._begun(self._taken.fitted(body), deadline)
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

    def _read(self, reading: Reading, event: Any) -> list[Delta]:
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
        return redact.without(text, self._key)
