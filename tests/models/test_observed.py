from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from kickwheel.core.errors import ModelError
from kickwheel.core.store import open_store
from kickwheel.models import observed
from kickwheel.models.chat import CallDelta, ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.records import Message, Span, ToolCall, ToolSpec, genai
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

ASKED = ChatRequest(
    messages=(Message(role="user", content="Weather in Oslo?"),),
    tools=(ToolSpec(name="weather"),),
    temperature=0.0,
    max_tokens=64,
    seed=7,
)
ANSWER: tuple[Delta, ...] = (
    TextDelta("Let me "),
    TextDelta("look."),
    CallDelta(0, id="call_1", name="weather"),
    CallDelta(0, '{"city": "Oslo"}'),
    Done("tool_calls", Usage(prompt_tokens=12, output_tokens=5, cached_tokens=3), "small-1"),
)


class Scripted:
    """A model that says what it was given; an exception in it is raised."""

    name = "small"

    def __init__(self, *pieces: Delta | Exception) -> None:
        self.pieces = pieces
        self.closed = False

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        try:
            for piece in self.pieces:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self.closed = True


@pytest.fixture
def traces(tmp_path: Path) -> Iterator[Traces]:
    with open_store(tmp_path) as store:
        yield Traces(store)


def model_span(traces: Traces) -> Span:
    (trace,) = traces.all()
    (span,) = (span for span in trace.spans if span.kind == "model")
    return span


async def test_an_answer_passes_through_and_is_noted_whole(traces: Traces) -> None:
    with Recorder(traces) as recorder, recorder.trace("desk", "desk"):
        pieces = [piece async for piece in observed.stream(Scripted(*ANSWER), ASKED)]
    assert tuple(pieces) == ANSWER
    span = model_span(traces)
    assert (span.name, span.error) == ("small", None)
    assert (span.input, span.tools) == (ASKED.messages, ASKED.tools)
    call = ToolCall(id="call_1", name="weather", arguments='{"city": "Oslo"}')
    assert span.output == (Message(role="assistant", content="Let me look.", tool_calls=(call,)),)
    attributes = dict(span.attributes)
    first_s = attributes.pop(genai.TIME_TO_FIRST_CHUNK_S)
    assert isinstance(first_s, float)
    assert 0 <= first_s <= (span.end_ns - span.start_ns) / 1e9
    assert attributes == {
        genai.OPERATION: "chat",
        genai.PROVIDER: "kickwheel",
        genai.REQUEST_MODEL: "small",
        genai.RESPONSE_MODEL: "small-1",
        genai.TEMPERATURE: 0.0,
        genai.MAX_TOKENS: 64,
        genai.SEED: 7,
        genai.STREAM: True,
        genai.INPUT_TOKENS: 12,
        genai.OUTPUT_TOKENS: 5,
        genai.CACHED_TOKENS: 3,
        genai.FINISH_REASONS: ["tool_calls"],
    }


async def test_a_model_that_breaks_off_is_noted_with_what_came_until_then(traces: Traces) -> None:
    model = Scripted(TextDelta("Let "), ModelError("the connection broke"))
    with (
        Recorder(traces) as recorder,
        recorder.trace("desk", "desk"),
        pytest.raises(ModelError),
    ):
        [piece async for piece in observed.stream(model, ASKED)]
    span = model_span(traces)
    assert span.error == "ModelError: the connection broke"
    assert span.output == (Message(role="assistant", content="Let "),)


async def test_leaving_early_closes_the_model(traces: Traces) -> None:
    model = Scripted(*ANSWER)
    with Recorder(traces) as recorder, recorder.trace("desk", "desk"):
        async with aclosing(observed.stream(model, ASKED)) as pieces:
            async for _ in pieces:
                break
    assert model.closed
    assert model_span(traces).output == (Message(role="assistant", content="Let me "),)


async def test_outside_a_trace_it_is_just_the_model() -> None:
    assert tuple([p async for p in observed.stream(Scripted(*ANSWER), ASKED)]) == ANSWER


async def test_what_a_model_with_prices_cost_is_noted(traces: Traces) -> None:
    class Priced(Scripted):
        def cost_usd(self, usage: Usage) -> float:
            return usage.prompt_tokens * 0.5

    with Recorder(traces) as recorder, recorder.trace("desk", "desk"):
        [piece async for piece in observed.stream(Priced(*ANSWER), ASKED)]
    assert model_span(traces).attributes[genai.COST_USD] == 6.0


async def test_whose_protocol_answered_and_that_nobody_counted_is_noted(traces: Traces) -> None:
    class Far(Scripted):
        provider = "openai"

    guessed = Done("stop", Usage(prompt_tokens=4, output_tokens=1, estimated=True))
    with Recorder(traces) as recorder, recorder.trace("desk", "desk"):
        [piece async for piece in observed.stream(Far(TextDelta("Hi"), guessed), ASKED)]
    attributes = model_span(traces).attributes
    assert attributes[genai.PROVIDER] == "openai"
    assert attributes[genai.USAGE_ESTIMATED] is True
