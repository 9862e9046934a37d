"""One question to an agent or a model, noted in a trace."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from kickwheel.agents.events import WHY, Called, Event, Finished, Text
from kickwheel.core.errors import ModelError
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, Collected, Model, TextDelta, Usage
from kickwheel.records import Message, ToolCall
from kickwheel.trace.record import Recorder

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer, and the trace that it left."""

    answer: str
    calls: tuple[ToolCall, ...]
    """The calls that were made on the way, or that a model answered with."""
    trace: str
    """Id of the trace."""
    prompt_tokens: int
    output_tokens: int
    seconds: float
    note: str = ""
    """Why there is no whole answer, where there is none."""

    def read(self, model: type[M]) -> M:
        """The answer as the Pydantic model that was the agent's `output`.

        Raises:
            ModelError: it is none; where the agent has that output, because there is no answer.
        """
        try:
            return model.model_validate_json(self.answer)
        except ValidationError as error:
            why = self.note or f"it is no {model.__name__}: {error}"
            raise ModelError(f"the answer cannot be read: {why}") from error


async def ask(
    model: Model,
    messages: Sequence[Message],
    recorder: Recorder,
    *,
    on_event: Callable[[Event], None] | None = None,
) -> Answered:
    """The answer of an agent or model.

    Args:
        on_event: told what happens as it happens; of a model, its text. Without it models may
            answer in one piece, which costs both sides less.
    Raises:
        ModelError: a model did not answer, or not in a way that can be used.
        ToolError: a tool whose result should have been the answer failed.
    """
    started = time.perf_counter()
    with recorder.trace(model.name, model.name) as root:
        run = getattr(model, "run", None)
        request = ChatRequest(messages=tuple(messages), whole=on_event is None)
        events = _model(model, request) if run is None else run(messages, request)
        calls, finished = await _followed(events, on_event)
        root.input, root.output = tuple(messages), (finished.answer,)
    return Answered(
        answer=finished.answer.content or "",
        calls=tuple(calls) or finished.answer.tool_calls,
        trace=root.trace_id or "",
        prompt_tokens=finished.usage.prompt_tokens,
        output_tokens=finished.usage.output_tokens,
        seconds=time.perf_counter() - started,
        note=finished.note,
    )


async def _followed(
    events: AsyncGenerator[Event], on_event: Callable[[Event], None] | None
) -> tuple[list[ToolCall], Finished]:
    calls: list[ToolCall] = []
    # Left to the collector, a generator costs a task and a wake-up to be closed.
    async with aclosing(events):
        async for event in events:
            if on_event is not None:
                on_event(event)
            if isinstance(event, Called):
                calls.append(event.call)
            if isinstance(event, Finished):
                return calls, event
    raise AssertionError("the last event of an agent is Finished")


async def _model(model: Model, request: ChatRequest) -> AsyncGenerator[Event]:
    collected = Collected()
    async with aclosing(observed.stream(model, request)) as deltas:
        async for delta in deltas:
            collected.add(delta)
            if isinstance(delta, TextDelta):
                yield Text(delta.text)
    yield Finished(
        why=WHY[collected.done.finish_reason] if collected.done else "length",
        answer=collected.message(),
        usage=collected.done.usage if collected.done else Usage(),
        steps=1,
    )
