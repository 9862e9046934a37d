"""A model's answer with a `model` span around it: the one place where calls of models are noted."""

import time
from collections.abc import AsyncGenerator

from kickwheel.models.chat import ChatRequest, Collected, Delta, Model
from kickwheel.records import genai
from kickwheel.trace.record import OpenSpan, span


async def stream(model: Model, request: ChatRequest) -> AsyncGenerator[Delta]:
    """What `model.stream` gives, noted in the trace that is open here; outside one, just that.

    A stream that breaks or is left early is noted with what came until then. Close it when you
    leave it early (`contextlib.aclosing`), so that the engine stops too.

    Raises:
        ModelError: as `Model.stream`.
    """
    with span("model", model.name) as noted:
        note_request(noted, model.name, request)
        started = time.perf_counter()
        collected = Collected()
        deltas = model.stream(request)
        try:
            async for delta in deltas:
                collected.add(delta)
                yield delta
        finally:
            note_answer(noted, collected, started)
            _note_cost(noted, model, collected)
            # A model may give any iterator; those that can be closed stop their engine by it.
            close = getattr(deltas, "aclose", None)
            if close is not None:
                await close()


def note_request(noted: OpenSpan, name: str, request: ChatRequest) -> None:
    """Notes what is asked of the model that is called `name`."""
    noted.input = request.messages
    noted.tools = request.tools
    attributes = noted.attributes
    attributes[genai.OPERATION] = "chat"
    attributes[genai.REQUEST_MODEL] = name
    if request.temperature is not None:
        attributes[genai.TEMPERATURE] = request.temperature
    if request.max_tokens is not None:
        attributes[genai.MAX_TOKENS] = request.max_tokens
    if request.seed is not None:
        attributes[genai.SEED] = request.seed


def note_answer(noted: OpenSpan, collected: Collected, started: float) -> None:
    """Notes what came back; `started` is the `time.perf_counter()` of the request."""
    attributes = noted.attributes
    if collected.first is not None:
        attributes[genai.TIME_TO_FIRST_CHUNK_S] = collected.first - started
        noted.output = (collected.message(),)
    if collected.done is not None:
        usage = collected.done.usage
        attributes[genai.INPUT_TOKENS] = usage.prompt_tokens
        attributes[genai.OUTPUT_TOKENS] = usage.output_tokens
        attributes[genai.CACHED_TOKENS] = usage.cached_tokens
        attributes[genai.FINISH_REASONS] = [collected.done.finish_reason]
        if collected.done.model:
            attributes[genai.RESPONSE_MODEL] = collected.done.model


def _note_cost(noted: OpenSpan, model: Model, collected: Collected) -> None:
    # Only a model whose prices are known tells what an answer cost.
    cost_of = getattr(model, "cost_usd", None)
    cost_usd = cost_of(collected.done.usage) if cost_of and collected.done else None
    if cost_usd is not None:
        noted.attributes[genai.COST_USD] = cost_usd
