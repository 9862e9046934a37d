"""`kind: bedrock`: any model on Amazon Bedrock that converses, through AWS's own SDK.

The SDK waits, so each answer is read by a thread, of which a model has up to `AT_ONCE`. It signs
with whatever the AWS tools find: variables, profiles, the role of the machine, or a bearer token
in AWS_BEARER_TOKEN_BEDROCK.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from kickwheel.core.errors import MissingExtra, ModelError, UsageError
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
    import botocore.client

T = TypeVar("T")

AT_ONCE = 64
"""Answers of one model that are read at once; further ones wait."""
_LABEL = "label"
_CACHED = {"cachePoint": {"type": "default"}}
_CACHING = ("anthropic.claude", "amazon.nova")
"""In the names of models that take marks for a cache; others refuse a request with one."""
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
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

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["BedrockModel"]:
        """The model; nothing is asked of it yet."""
        where = f"models.{context.name}"
        client = await asyncio.to_thread(self._client, where)
        threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kickwheel-bedrock")
        try:
            yield BedrockModel(client, threads, context.name, self.model, self.prices)
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
            read_timeout=600,
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
    ) -> None:
        self.name, self.model = name, model
        self._client, self._threads, self._prices = client, threads, prices

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
        body = converse_body(request, self.model)
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
            yield TextDelta(label(_LABEL, text))
        yield Done(reading.finish, reading.usage, self.model)

    def sent(self, request: ChatRequest) -> Sent:
        """What is posted for the request."""
        url = f"{self._client.meta.endpoint_url}/model/{self.model}/converse-stream"
        return Sent(model=self.name, url=url, body=converse_body(request, self.model))

    async def _begun(self, body: Mapping[str, Any], deadline: float) -> "_Events":
        from botocore import exceptions as aws

        try:
            answer = await self._thread(lambda: self._client.converse_stream(**body), deadline)
            return _Events(answer["stream"])
        except aws.ClientError as error:
            meta = error.response.get("ResponseMetadata", {})
            text = f"{self.name}: Bedrock answers {error}"
            status, headers = meta.get("HTTPStatusCode", 502), meta.get("HTTPHeaders", {})
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

    def _read(self, reading: "Reading", event: Mapping[str, Any]) -> list[Delta]:
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


class Reading:
    """The pieces of one answer, from the events of its stream."""

    def __init__(self, model: str) -> None:
        self.finish: FinishReason | None = None
        """Why it ended, once the server told it."""
        self.usage = Usage()
        self._calls: dict[int, int] = {}
        self._silent: set[int] = set()
        """Calls of which no argument has come yet."""

    def feed(self, event: Mapping[str, Any]) -> list[Delta]:
        """The pieces that an event brings."""
        ((kind, said),) = event.items()
        if kind == "contentBlockStart" and "toolUse" in said["start"]:
            block, use = said["contentBlockIndex"], said["start"]["toolUse"]
            index = self._calls[block] = len(self._calls)
            self._silent.add(block)
            return [CallDelta(index, "", use["toolUseId"], use["name"])]
        if kind == "contentBlockDelta":
            block, delta = said["contentBlockIndex"], said["delta"]
            if delta.get("text"):
                return [TextDelta(delta["text"])]
            if delta.get("toolUse", {}).get("input"):
                self._silent.discard(block)
                return [CallDelta(self._calls[block], delta["toolUse"]["input"])]
        elif kind == "contentBlockStop" and said["contentBlockIndex"] in self._silent:
            # A call without arguments: JSON knows no empty text.
            return [CallDelta(self._calls[said["contentBlockIndex"]], "{}")]
        elif kind == "messageStop":
            reason = said["stopReason"]
            if reason.startswith("malformed"):
                raise ValueError(f"the model wrote what cannot be used ({reason})")
            self.finish = _FINISH.get(reason, "stop")
        elif kind == "metadata":
            self.usage = _usage(said["usage"])
        return []


def converse_body(request: ChatRequest, model: str) -> dict[str, Any]:
    """The request as Bedrock's Converse has it, with marks where its cache pays.

    Marks stand as in `anthropic.message_body`, for models that know them. `seed`, which Converse
    does not know, is left out; `extra` goes to the model as it is.
    """
    system, turns = in_turns(request.messages)
    body: dict[str, Any] = {"modelId": model}
    # Converse has no "none": tools are then not offered, unless results of theirs need them.
    called = any(message.tool_calls for message in request.messages)
    if request.tools and (request.tool_choice != "none" or called):
        body["toolConfig"] = {"tools": [{"toolSpec": _spec(tool)} for tool in request.tools]}
        choice = _choice(request.tool_choice)
        if choice is not None:
            body["toolConfig"]["toolChoice"] = choice
    if system:
        body["system"] = [{"text": text} for text in system]
    body["messages"] = [
        {"role": side, "content": [block for message in said for block in _blocks(message)]}
        for side, said in turns
    ]
    if any(name in model for name in _CACHING):
        _mark(body, goes_on=bool(request.tools) or len(turns) > 1)
    config = {
        "maxTokens": request.max_tokens,
        "temperature": None if request.temperature is None else min(request.temperature, 1.0),
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
    }
    if any(value is not None for value in config.values()):
        body["inferenceConfig"] = {k: v for k, v in config.items() if v is not None}
    schema = label_schema(_LABEL, request.labels) if request.labels else request.json_schema
    if schema is not None and request.constrained:
        structure = {"jsonSchema": {"name": "answer", "schema": json.dumps(schema)}}
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
    known = ("stream", "stream_options", "cache_prompt")
    extra = {key: value for key, value in request.extra.items() if key not in known}
    if extra:
        body["additionalModelRequestFields"] = extra
    return body


def _mark(body: dict[str, Any], *, goes_on: bool) -> None:
    length = len(str(body.get("toolConfig", ""))) + len(str(body.get("system", "")))
    if "system" in body and length >= SMALLEST_PREFIX:
        body["system"].append(_CACHED)
    length += len(str(body["messages"]))
    if goes_on and body["messages"] and length >= SMALLEST_PREFIX:
        body["messages"][-1]["content"].append(_CACHED)


def _spec(tool: Any) -> dict[str, Any]:
    spec = {"name": tool.name, "inputSchema": {"json": {"type": "object", **tool.parameters}}}
    return {**spec, "description": tool.description} if tool.description else spec


def _choice(choice: str) -> dict[str, Any] | None:
    if choice in ("auto", "none"):
        return None
    return {"any": {}} if choice == "required" else {"tool": {"name": choice}}


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        content = [{"text": message.content or "(nothing)"}]
        return [{"toolResult": {"toolUseId": message.tool_call_id, "content": content}}]
    blocks: list[dict[str, Any]] = []
    if message.content:
        blocks.append({"text": message.content})
    for call in message.tool_calls:
        use = {"toolUseId": call.id, "name": call.name, "input": arguments(call.arguments)}
        blocks.append({"toolUse": use})
    return blocks


def _usage(said: Mapping[str, Any]) -> Usage:
    cached, written = said.get("cacheReadInputTokens", 0), said.get("cacheWriteInputTokens", 0)
    return Usage(
        prompt_tokens=said["inputTokens"] + cached + written,
        output_tokens=said["outputTokens"],
        cached_tokens=cached,
        written_tokens=written,
    )
