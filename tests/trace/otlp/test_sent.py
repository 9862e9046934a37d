"""What real instrumentations sent of one task, kept as files: asked «Oslo?», a model calls a tool
for the weather, and answers.

    openinference    openinference-instrumentation-openai 0.1.66
    traceloop        opentelemetry-instrumentation-openai 0.62.4
    pydantic_ai      pydantic-ai-slim 2.68.0, Agent.instrument_all()
    strands          strands-agents 1.62.0, on by itself
    agent_framework  agent-framework-core 1.23.0, enable_instrumentation(enable_sensitive_data=True)
    langsmith        langchain 1.5.2 by langsmith 0.15.1, LANGSMITH_OTEL_ENABLED

Each against a stub of an OpenAI server; attributes that tell of the machine alone were left out.
"""

from pathlib import Path

import pytest

from kickwheel.flywheel.curate.extract import extract
from kickwheel.records import Message, Span, Trace, genai
from kickwheel.trace.otlp import plain
from kickwheel.trace.otlp.read import read

SENT = sorted(Path(__file__).with_name("sent").glob("*.json"))
TOLD_TOOLS = {"openinference", "traceloop", "pydantic_ai", "langsmith"}
"""Those whose model spans say which tools were offered."""
RAN = {"pydantic_ai", "strands", "agent_framework", "langsmith"}
"""Those that run the tool themselves."""


def sent(file: Path) -> list[Trace]:
    return [
        Trace(id=arrival.id, workload=arrival.workload, spans=arrival.spans)
        for arrival in read(plain.read(file.read_bytes())).arrivals
    ]


def of_kind(file: Path, kind: str) -> list[Span]:
    return [span for trace in sent(file) for span in trace.spans if span.kind == kind]


@pytest.mark.parametrize("file", SENT, ids=lambda file: file.stem)
def test_what_the_model_was_asked_and_said_is_whole(file: Path) -> None:
    first, second = of_kind(file, "model")
    (call,) = first.output[0].tool_calls
    asked = (Message(role="system", content="Be brief."), Message(role="user", content="Oslo?"))
    came = Message(role="tool", content="sunny in Oslo", tool_call_id=call.id)
    assert (call.name, call.arguments) == ("weather", '{"city": "Oslo"}')
    assert first.input == asked
    assert second.input == (*asked, Message(role="assistant", tool_calls=(call,)), came)
    assert second.output == (Message(role="assistant", content="The answer is 42."),)
    for span, reason in ((first, "tool_calls"), (second, "stop")):
        told = span.attributes
        assert (told[genai.INPUT_TOKENS], told[genai.OUTPUT_TOKENS]) == (50, 10)
        assert told[genai.REQUEST_MODEL] == "gpt-5-mini"
        assert told[genai.FINISH_REASONS] == [reason]
        assert [tool.name for tool in span.tools] == ["weather"] * (file.stem in TOLD_TOOLS)


@pytest.mark.parametrize("file", SENT, ids=lambda file: file.stem)
def test_the_tool_that_ran_is_a_span_of_its_own(file: Path) -> None:
    ran = of_kind(file, "tool")
    assert len(ran) == (file.stem in RAN)
    for span in ran:
        (call,) = span.input[0].tool_calls
        assert span.name == call.name == "weather"
        assert span.output == (Message(role="tool", content="sunny in Oslo", tool_call_id=call.id),)


@pytest.mark.parametrize("file", SENT, ids=lambda file: file.stem)
def test_the_model_learns_from_it(file: Path) -> None:
    answers: list[Message] = []
    for trace in sent(file):
        found = extract(trace)
        assert not isinstance(found, str), found
        answers += [candidate.answer for candidate in found]
    assert [answer.content for answer in answers] == [None, "The answer is 42."]
    assert all(trace.workload == file.stem for trace in sent(file))
