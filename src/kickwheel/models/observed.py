"""A model's answer with a `model` span around it: the one place where calls of models are noted."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from kickwheel.models import chat, pictures
from kickwheel.models.chat import (
    ChatRequest,
    Collected,
    Completion,
    Delta,
    FinishReason,
    Model,
    Usage,
)
from kickwheel.records import genai
from kickwheel.trace.record import OpenSpan, span

OURS = "kickwheel"
"""`gen_ai.provider.name` of models that name none: those that we run."""


async def stream(model: Model, request: ChatRequest) -> AsyncGenerator[Delta]:
    """What `model.stream` gives, noted in the trace that is open here; outside one, just that.

    A stream that breaks or is left early is noted with what came until then. Close it when you
    leave it early (`contextlib.aclosing`), so that the engine stops too.

    Raises:
        ModelError: as `Model.stream`.
    """
    with span("model", model.name) as noted:
        note_request(noted, model, request)
        pictures.check(model, request.messages)
        started = time.perf_counter()
        collected = Collected()
        deltas = model.stream(request)
        try:
            async for delta in deltas:
                collected.add(delta)
                yield delta
        finally:
            note_answer(noted, model, collected, started)
            # A model may give any iterator; those that can be closed stop their engine by it.
            close = getattr(deltas, "aclose", None)
            if close is not None:
                await close()


async def complete(model: Model, request: ChatRequest) -> Completion:
    """The whole answer of `model`, noted as `stream` notes it.

    Where nobody waits for pieces (`request.whole`) a model may have a shorter way, as
    `chat.complete` has it.

    Raises:
        ModelError: as `Model.stream`.
    """
    started = time.perf_counter()
    if request.whole and hasattr(model, "whole"):
        with span("model", model.name) as noted:
            note_request(noted, model, request)
            pictures.check(model, request.messages)
            whole = await chat.complete(model, request)
            noted.attributes[genai.TIME_TO_FIRST_CHUNK_S] = whole.first_s
            noted.output = (whole.message,)
            _note_end(noted, model, whole.usage, whole.finish_reason, whole.model)
        return whole
    collected = Collected()
    async with aclosing(stream(model, request)) as deltas:
        async for delta in deltas:
            collected.add(delta)
    return collected.completion(started)


def note_request(
    noted: OpenSpan, model: Model, request: ChatRequest, name: str | None = None
) -> None:
    """Notes what is asked of the model.

    Args:
        name: what it was asked as; by default its own name.
    """
    noted.input = request.messages
    noted.tools = request.tools
    attributes = noted.attributes
    attributes[genai.OPERATION] = "chat"
    attributes[genai.PROVIDER] = provider(model)
    attributes[genai.REQUEST_MODEL] = name or model.name
    if not request.whole:
        attributes[genai.STREAM] = True
    if request.temperature is not None:
        attributes[genai.TEMPERATURE] = request.temperature
    if request.max_tokens is not None:
        attributes[genai.MAX_TOKENS] = request.max_tokens
    if request.seed is not None:
        attributes[genai.SEED] = request.seed


def note_answer(noted: OpenSpan, model: Model, collected: Collected, started: float) -> None:
    """Notes what came back; `started` is the `time.perf_counter()` of the request."""
    if collected.first is not None:
        noted.attributes[genai.TIME_TO_FIRST_CHUNK_S] = collected.first - started
        noted.output = (collected.message(),)
    done = collected.done
    if done is not None:
        _note_end(noted, model, done.usage, done.finish_reason, done.model)


def _note_end(
    noted: OpenSpan, model: Model, usage: Usage, finish_reason: FinishReason, answered: str
) -> None:
    attributes = noted.attributes
    attributes[genai.INPUT_TOKENS] = usage.prompt_tokens
    attributes[genai.OUTPUT_TOKENS] = usage.output_tokens
    attributes[genai.CACHED_TOKENS] = usage.cached_tokens
    if usage.written_tokens:
        attributes[genai.CACHE_WRITTEN_TOKENS] = usage.written_tokens
    if usage.estimated:
        attributes[genai.USAGE_ESTIMATED] = True
    cost = cost_usd(model, usage)
    if cost is not None:
        attributes[genai.COST_USD] = cost
    attributes[genai.FINISH_REASONS] = [finish_reason]
    if answered:
        attributes[genai.RESPONSE_MODEL] = answered


def cost_usd(model: Model, usage: Usage) -> float | None:
    """What an answer of the model cost, in dollars; `None` where its prices are not known."""
    if usage.cost_usd is not None:
        return usage.cost_usd
    cost_of = getattr(model, "cost_usd", None)
    return cost_of(usage) if cost_of else None


def provider(model: Model) -> str:
    """Whose protocol the model speaks, as traces name it."""
    return str(getattr(model, "provider", OURS))
