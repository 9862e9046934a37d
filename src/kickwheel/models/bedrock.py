"""`kind: bedrock`: any model on Amazon Bedrock that converses, through AWS's own SDK.

The SDK waits, so each answer is read by a thread, of which a model has up to `AT_ONCE`. It signs
with whatever the AWS tools find: variables, profiles, the role of the machine, or a bearer token
in AWS_BEARER_TOKEN_BEDROCK. Whoever leaves is free at once and closes the connection; only a
request that was left before its answer began holds its thread, for `SILENT_S` at most.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from kickwheel.core.errors import MissingExtra, ModelError, UsageError
from kickwheel.core.plugins import Context, Part
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.models.converse import LABEL, Reading, converse_body
from kickwheel.models.pictures import Eyes, Input, beside, eyes
from kickwheel.models.prices import Prices
from kickwheel.models.retry import Refused, persist, refused
from kickwheel.models.sent import Sent
from kickwheel.models.taken import Taken
from kickwheel.models.turns import label

if TYPE_CHECKING:
    import botocore.client

T = TypeVar("T")

AT_ONCE = 64
"""Answers of one model that are read at once; further ones wait."""
SILENT_S = 300
"""How long Bedrock may say nothing at all."""
_STATUS = {
    "validationException": 400,
    "throttlingException": 429,
    "modelTimeoutException": 504,
}


class Bedrock(Part):
    """A model on Amazon Bedrock."""

    model: str
    """Its id, or that of an inference profile: `eu.amazon.nova-lite-v1:0`."""
    region: str | None = None
    """By default as the AWS tools have it: AWS_REGION, or the profile's."""
    base_url: str | None = None
    """Another endpoint than the region's own, as a VPC has."""
    prices: Prices | None = None
    """What tokens cost there; without, no cost is told."""
    input: Input = ("text",)
    """What it takes in: `[text, image]` for a model with eyes, which then sees screenshots, and
    pictures that callers send."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["BedrockModel"]:
        """The model; nothing is asked of it yet."""
        where = f"models.{context.name}"
        client = await asyncio.to_thread(self._client, where)
        threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kickwheel-bedrock")
        try:
            sees = eyes(self.input, context.store.artifacts.folder)
            yield BedrockModel(client, threads, context.name, self.model, self.prices, sees)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            client.close()

    def _client(self, where: str) -> "botocore.client.BaseClient":
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError, NoRegionError
        except ImportError as error:
            raise MissingExtra(f"{where} (kind: bedrock)", "bedrock") from error
        config = Config(
            connect_timeout=10,
            read_timeout=SILENT_S,
            max_pool_connections=AT_ONCE,
            # `retry.persist` does it, under the request's one deadline.
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        try:
            # A session of its own: the shared one keeps the credentials that it once found.
            return boto3.Session().client(
                "bedrock-runtime",
                region_name=self.region,
                endpoint_url=self.base_url,
                config=config,
            )
        except NoRegionError as error:
            raise UsageError(f"{where}: no region. Set `region`, or AWS_REGION.") from error
        except (BotoCoreError, ValueError) as error:
            raise UsageError(f"{where}: {error}") from error


class BedrockModel:
    """A model on Bedrock."""

    provider = "aws.bedrock"
    """Whose protocol it speaks, as traces name it."""

    def __init__(
        self,
        client: "botocore.client.BaseClient",
        threads: ThreadPoolExecutor,
        name: str,
        model: str,
        prices: Prices | None,
        sees: Eyes | None = None,
    ) -> None:
        self.name, self.model = name, model
        self._client, self._threads, self._prices = client, threads, prices
        self._eyes = sees
        self._taken = Taken(name)

    @property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return self._eyes is not None

    @property
    def identity(self) -> str:
        """What answers here: equal for models whose answers are as good."""
        return f"{self._client.meta.endpoint_url} {self.model}"

    def cost_usd(self, usage: Usage) -> float | None:
        """What an answer cost, in dollars; `None` where no prices are set."""
        return None if self._prices is None else self._prices.cost_usd(usage)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The answer, piece by piece.

        Raises:
            ModelError: no answer after three tries, within the request's time, or one that was
                cut in the middle; 401 where AWS does not let us in.
        """
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
            # In another thread: closing may wait for the one that still reads.
            with suppress(RuntimeError):
                self._threads.submit(events.close)
        if reading.finish is None:
            raise ModelError(f"{self.name}: the answer broke off")
        if text:
            yield TextDelta(label(LABEL, text))
        yield Done(reading.finish, reading.usage, self.model)

    def sent(self, request: ChatRequest) -> Sent:
        """What is posted for the request."""
        url = f"{self._client.meta.endpoint_url}/model/{self.model}/converse-stream"
        body = self._body(request)
        return Sent(model=self.name, url=url, body=body)

    def _body(self, request: ChatRequest) -> dict[str, Any]:
        return self._fitted(converse_body(request, self.model, self._eyes))

    def _fitted(self, body: dict[str, Any]) -> dict[str, Any]:
        hints = body.get("inferenceConfig")
        return {**body, "inferenceConfig": self._taken.fitted(hints)} if hints else body

    async def _begun(self, body: dict[str, Any], deadline: float) -> "_Events":
        from botocore import exceptions as aws

        try:
            answer = await self._thread(lambda: self._client.converse_stream(**body), deadline)
            return _Events(answer["stream"])
        except aws.ClientError as error:
            meta = error.response.get("ResponseMetadata", {})
            text = f"{self.name}: Bedrock answers {error}"
            status, headers = meta.get("HTTPStatusCode", 502), meta.get("HTTPHeaders", {})
            if status == 400 and self._taken.learned(text, body.get("inferenceConfig", {})):
                return await self._begun(self._fitted(body), deadline)
            if "ExpiredToken" in str(error.response.get("Error", {}).get("Code")):
                status = 401
            raise refused(text, status, headers, key_hint="AWS credentials") from error
        except (
            aws.NoCredentialsError,
            aws.PartialCredentialsError,
            aws.TokenRetrievalError,
        ) as error:
            raise ModelError(
                f"{self.name}: {error}. Set up AWS credentials.", status=401
            ) from error
        except aws.ParamValidationError as error:
            raise ModelError(f"{self.name}: {error}", status=400) from error
        except (aws.ReadTimeoutError, aws.ConnectTimeoutError) as error:
            raise Refused(ModelError(f"{self.name}: {error}", status=504), again=True) from error
        except (aws.BotoCoreError, aws.HTTPClientError) as error:
            raise Refused(ModelError(f"{self.name}: {error}"), again=True) from error
        except (KeyError, ValueError, TypeError) as error:
            raise ModelError(f"{self.name}: not Bedrock's protocol: {error}") from error

    async def _next(self, events: "_Events", deadline: float) -> Mapping[str, Any] | None:
        """The next event; `None` after the last one."""
        from botocore import exceptions as aws
        from botocore.eventstream import ParserError
        from urllib3.exceptions import HTTPError

        try:
            return await self._thread(events.next, deadline)
        except aws.EventStreamError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            text = f"{self.name}: the server broke off: {error}"
            raise ModelError(text, status=_STATUS.get(code, 502)) from error
        except (aws.BotoCoreError, HTTPError, OSError) as error:
            text = f"{self.name}: Bedrock broke off in the middle of its answer"
            raise ModelError(text) from error
        except (ParserError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{self.name}: not Bedrock's protocol: {error}") from error

    async def _thread(self, work: Callable[[], T], deadline: float) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                return await loop.run_in_executor(self._threads, work)
        except TimeoutError:
            text = f"{self.name}: no whole answer within the request's time"
            raise ModelError(text, status=504) from None

    def _read(self, reading: Reading, event: Mapping[str, Any]) -> list[Delta]:
        try:
            return reading.feed(event)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{self.name}: not Bedrock's protocol: {error!r}") from error


class _Events:
    """The events of an answer, read by threads, one at a time."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._iterator: Iterator[Mapping[str, Any]] = iter(stream)

    def next(self) -> Mapping[str, Any] | None:
        """The next event, once it is there; `None` after the last one."""
        return next(self._iterator, None)

    def close(self) -> None:
        """Closes the connection, and ends the wait of a thread that still reads from it."""
        with suppress(Exception):
            shutdown = getattr(getattr(self._stream, "_raw_stream", None), "shutdown", None)
            if shutdown is not None:
                shutdown()
            self._stream.close()
