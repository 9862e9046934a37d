"""What is asked of a model and what comes back, piece by piece.

A model has one door, `stream`; `complete` collects what comes through it.
"""

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import msgspec

from kickwheel.records import Message, PromptForm, ToolCall, ToolSpec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a model.

    `msgspec.structs.replace` makes another of it: an agent does so several times a step, at a
    thirtieth of what a dataclass takes.
    """

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str = "auto"
    """`auto`, `none`, `required`, or the name of the one tool to call."""
    json_schema: Mapping[str, Any] | None = None
    """The answer must be JSON of this schema."""
    labels: tuple[str, ...] = ()
    """The answer must be one of these, word for word."""
    grammar: str | None = None
    """GBNF that the answer must follow, where the engine takes one; others are not told of it."""
    temperature: float | None = None
    """`None`: the model's own default; 0 for greedy."""
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    form: PromptForm | None = None
    """Only for models that we prompt ourselves; `None`: as its adapter was tuned, else full."""
    constrained: bool = True
    """Only for models that we prompt ourselves: whether calls, JSON and labels are enforced by a
    grammar."""
    timeout_s: float = 120.0
    whole: bool = False
    """Nobody waits for the pieces: the answer may come in one, which costs both sides less."""
    extra: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """Further fields of the OpenAI protocol, passed on as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one answer."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt tokens, those that the engine had already read."""
    written_tokens: int = 0
    """Of the prompt tokens, those that were written to a cache that is paid for."""
    estimated: bool = False
    """Whether a number is ours, from the texts' lengths: the server did not count."""
    cost_usd: float | None = None
    """What they cost, where only this answer's way tells it, as with several models in a chain;
    elsewhere `None`, and the model's prices tell (`observed.cost_usd`)."""

    def __add__(self, other: "Usage") -> "Usage":
        """Both together; the cost only where it is known of both."""
        mine, its = self._cost_usd(), other._cost_usd()
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            written_tokens=self.written_tokens + other.written_tokens,
            estimated=self.estimated or other.estimated,
            cost_usd=None if mine is None or its is None else mine + its,
        )

    def _cost_usd(self) -> float | None:
        spent = self.prompt_tokens or self.output_tokens
        return self.cost_usd if self.cost_usd is not None or spent else 0.0


class TextDelta(msgspec.Struct, frozen=True):
    """A piece of the answer's text; made by the dozen, at a third of what a dataclass takes."""

    text: str


class CallDelta(msgspec.Struct, frozen=True):
    """A piece of a call: the first for an index has id and name, all may have arguments."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an answer; always the last piece."""

    finish_reason: FinishReason
    usage: Usage
    model: str = ""
    """What answered, as it names itself."""


Delta = TextDelta | CallDelta | Done


class Model(Protocol):
    """Anything that answers a prompt, here or far away."""

    name: str

    def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        """The answer, piece by piece; the last piece is `Done`.

        Raises:
            ModelError: the model did not answer, or stopped in the middle.
        """


class Continuing(Model, Protocol):
    """A model that can also go on with a text as it stands, without turns and roles."""

    def continuation(self, prompt: str, request: ChatRequest) -> AsyncIterator[Delta]:
        """What the model writes after the prompt, piece by piece; the last piece is `Done`.

        Args:
            request: limits and the like; its messages and tools are not looked at.
        Raises:
            ModelError: as `Model.stream`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole answer."""

    message: Message
    finish_reason: FinishReason
    usage: Usage
    model: str
    latency_s: float
    first_s: float
    """Time to the first piece."""


async def complete(model: Model, request: ChatRequest) -> Completion:
    """The whole answer of `model`; where it may come in one piece (`request.whole`), by the model's
    own shorter way, if it has one: a method `whole`.

    Raises:
        ModelError: as `Model.stream`.
    """
    if request.whole:
        shorter = getattr(model, "whole", None)
        if shorter is not None:
            return cast(Completion, await shorter(request))
    started = time.perf_counter()
    collected = Collected()
    async for delta in model.stream(request):
        collected.add(delta)
    return collected.completion(started)


class Collected:
    """Pieces of an answer, put together as they come."""

    def __init__(self) -> None:
        self.first: float | None = None
        self.done: Done | None = None
        self._text: list[str] = []
        self._calls: dict[int, list[str]] = {}
        self._heads: dict[int, tuple[str, str]] = {}

    def add(self, delta: Delta) -> None:
        """Takes the next piece."""
        if self.first is None:
            self.first = time.perf_counter()
        # By `isinstance`, in a quarter of the time of `match`.
        if isinstance(delta, TextDelta):
            self._text.append(delta.text)
        elif isinstance(delta, CallDelta):
            index = delta.index
            if delta.name is not None:
                self._heads[index] = (delta.id or f"call_{index}", delta.name)
            self._calls.setdefault(index, []).append(delta.arguments)
        else:
            self.done = delta

    def message(self) -> Message:
        """What the pieces so far make up."""
        calls = tuple(
            ToolCall(id=self._heads[i][0], name=self._heads[i][1], arguments="".join(parts))
            for i, parts in sorted(self._calls.items())
            if i in self._heads
        )
        text = "".join(self._text)
        return Message(role="assistant", content=text or None, tool_calls=calls)

    def completion(self, started: float) -> Completion:
        """The whole answer; `started` is the `time.perf_counter()` of the request."""
        done = self.done or Done("length", Usage())
        ended = time.perf_counter()
        return Completion(
            message=self.message(),
            finish_reason=done.finish_reason,
            usage=done.usage,
            model=done.model,
            latency_s=ended - started,
            first_s=(self.first or ended) - started,
        )
