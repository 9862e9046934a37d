"""What an agent does while it works, as it happens, and the same as a model would stream it.

Every kind of agent tells its work in these events; `deltas` is the view of them that makes an agent
answer like a model.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from kickwheel.core.errors import ModelError, PersonAsked
from kickwheel.models.chat import (
    CallDelta,
    ChatRequest,
    Delta,
    Done,
    FinishReason,
    TextDelta,
    Usage,
)
from kickwheel.records import Message, ToolCall

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of what the agent says."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A tool is about to be called."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Returned:
    """A tool's result is here."""

    call: ToolCall
    text: str
    state: Literal["done", "failed", "invalid"] = "done"
    """`failed`: the tool raised or took too long. `invalid`: the call named no tool or did not fit
    its schema, so nothing was called."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Another agent goes on from here."""

    agent: str
    by: str
    """Who chose it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A person is asked, and the run waits."""

    question: str
    choices: tuple[str, ...] = ()


Why = Literal[
    "answered", "calls", "length", "filtered", "steps", "time", "tokens", "cost", "waiting"
]
"""How a run ended. `answered`: the answer is complete. `calls`: the caller is asked to call its own
tools. `length`: the model reached its limit of tokens. `filtered`: the model's provider withheld
the answer. `steps`, `time`, `tokens`, `cost`: the agent's budget is used up, without an answer.
`waiting`: a person is asked; the run goes on when they have answered."""

WHY: dict[FinishReason, Why] = {
    "stop": "answered",
    "tool_calls": "calls",
    "length": "length",
    "content_filter": "filtered",
}
"""How a run ends whose model ended its answer so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of the agent's work; always the last event, except after an exception."""

    why: Why
    answer: Message
    """What the agent said last; for `calls`, the calls of the caller's tools."""
    usage: Usage
    """Tokens of all model calls together."""
    steps: int
    """Model calls that were made."""
    note: str = ""
    """Where a budget was used up: which, and what to do; for `waiting`: what is asked."""
    work: tuple[Message, ...] = ()
    """For `calls`: what it called itself before, and what came of it, for whoever goes on with the
    conversation."""
    run: str = ""
    """For `waiting`: id of the run, by which it is answered."""


Event = Text | Called | Returned | Chosen | Asked | Finished


class Agent(Protocol):
    """Who does the work. It answers like a model (`models.chat.Model`), and tells more by `run`."""

    name: str

    def run(
        self, messages: Sequence[Message], request: ChatRequest | None = None
    ) -> AsyncIterator[Event]:
        """What the agent does about the conversation, as it happens.

        Args:
            messages: the conversation up to the question, oldest first.
            request: what else the caller asked for: its own tools, temperature, limits. Its
                messages are not looked at.
        Raises:
            ModelError: a model did not answer, or not in a way that can be used.
            ToolError: a tool whose result should have been the answer failed.
        """

    def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        """The same as a model's answer: what was said, and calls of the caller's own tools.

        Raises:
            ModelError: as `run`; with status 504 where a budget was used up before anything was
                said, since an empty answer would look like one.
            ToolError: as `run`.
        """


Tell = Callable[[Event], None]


async def as_it_happens(
    work: Callable[[Callable[[T], None]], Coroutine[Any, Any, None]],
) -> AsyncGenerator[T]:
    """The events that `work` tells, each as soon as it is told; its exception comes last.

    The work runs in a task of its own, so that its deadlines and spans stay inside it whoever reads
    here, and however slowly. Reading no further ends it.
    """
    events: asyncio.Queue[T | None] = asyncio.Queue()
    task = asyncio.create_task(work(events.put_nowait))
    task.add_done_callback(lambda _: events.put_nowait(None))
    try:
        while (event := await events.get()) is not None:
            yield event
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def when_all_is_done(
    work: Callable[[Tell], Coroutine[Any, Any, None]],
) -> AsyncGenerator[Event]:
    """The events that `work` tells, once it has ended: for readers who wait for the end anyway."""
    events: list[Event] = []
    await work(events.append)
    for event in events:
        yield event


_REASONS: dict[str, FinishReason] = {
    "answered": "stop",
    "calls": "tool_calls",
    "length": "length",
    "filtered": "content_filter",
    "steps": "length",
    "time": "length",
    "tokens": "length",
    "cost": "length",
    "waiting": "stop",
}

SPENT = ("steps", "time", "tokens", "cost")
"""The ends of a run whose budget is used up."""


async def deltas(events: AsyncGenerator[Event], name: str) -> AsyncGenerator[Delta]:
    """The events of the agent `name` as the pieces of one answer."""
    said = apart = False
    async with aclosing(events):
        async for event in events:
            match event:
                case Text(text):
                    # Words before a call and those after it are different paragraphs.
                    yield TextDelta(f"\n\n{text}" if said and apart else text)
                    said, apart = True, False
                case Called():
                    apart = True
                case Finished():
                    if event.why in SPENT and not said:
                        raise ModelError(f"{name} {event.note}", status=504)
                    if event.why == "waiting":
                        raise PersonAsked(event.note, event.run)
                    for index, call in enumerate(event.answer.tool_calls):
                        yield CallDelta(index, call.arguments, call.id, call.name)
                    yield Done(_REASONS[event.why], event.usage, name)
