"""DSPy's modules."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dspy as theirs
import pytest
from tests.bridges import checks, desk
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import ANSWER, ARGUMENTS, OUTPUT, PROMPT, Stub

from kickwheel.agents.bridges import dspy
from kickwheel.records import genai


class Dspy:
    name = "DSPy"
    packages = ("dspy",)
    kind = "dspy"
    bridge = dspy

    def model(self, url: str) -> Any:
        return theirs.LM("openai/stub", api_base=url, api_key="sk-stub", cache=False)

    def tool(self) -> Any:
        return theirs.Tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        program = theirs.ReAct("question -> answer", tools=tools)
        program.set_lm(model)
        return program

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        if not streamed:
            return str((await agent.acall(question=question)).answer)
        listener = theirs.streaming.StreamListener("answer")
        program = theirs.streamify(agent, stream_listeners=[listener], is_async_program=True)
        said = [
            piece.chunk
            async for piece in program(question=question)
            if isinstance(piece, theirs.streaming.StreamResponse)
        ]
        return "".join(said)


FRAMEWORK = Dspy()


def made() -> Any:
    return FRAMEWORK.agent(FRAMEWORK.model(desk.stub_url()), [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


@pytest.fixture(autouse=True)
def _in_texts(stub: Stub) -> Iterator[None]:
    """The stub answers in DSPy's text protocol while a test runs."""
    before, stub.speaks = stub.speaks, _speaks
    yield
    stub.speaks = before


def _speaks(body: Mapping[str, Any]) -> str | None:
    system = str(body["messages"][0]["content"])
    if "`next_tool_name`" in system:
        name = "finish"
        if "observation_0" not in json.dumps(body["messages"][1:]):
            name = re.findall(r"\(1\) (\w+)", system)[0]
        arguments = {"concierge": {"task": "Oslo?"}, "finish": {}}.get(name, ARGUMENTS)
        return _fields(next_tool_name=name, next_tool_args=json.dumps(arguments), next_thought="-")
    return _fields(reasoning="-", answer=ANSWER) if "`answer`" in system else None


def _fields(**fields: str) -> str:
    written = [f"[[ ## {name} ## ]]\n{value}\n" for name, value in fields.items()]
    return "\n".join([*written, "[[ ## completed ## ]]"])


async def _recorded(recording: Recording, *, streamed: bool) -> None:
    project = f"dspy-{'streamed' if streamed else 'whole'}"
    agent = FRAMEWORK.agent(FRAMEWORK.model(recording.project(project)), [FRAMEWORK.tool()])
    assert await FRAMEWORK.ask(agent, desk.QUESTION, streamed=streamed) == ANSWER
    spans = [trace.spans[0] for trace in await checks.kept(recording.store, project, 3)]
    asked, _, answered = spans
    # Tools, calls and results are texts of its own.
    assert not asked.tools
    assert "weather" in (asked.input[0].content or "")
    assert "[[ ## next_tool_name ## ]]\nweather" in (asked.output[0].content or "")
    assert "sunny in Oslo" in (answered.input[-1].content or "")
    assert ANSWER in (answered.output[0].content or "")
    for span in spans:
        assert span.attributes[genai.INPUT_TOKENS] == PROMPT
        assert span.attributes[genai.OUTPUT_TOKENS] == OUTPUT


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await _recorded(recording, streamed=False)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await _recorded(recording, streamed=True)


@pytest.mark.shows("tools equal")
async def test_our_tools_are_described_in_its_prompt(stub: Stub, served: Served) -> None:
    (ours,) = served.app.tools("desk")
    model = dspy.model("stub", stub.url)
    agent = FRAMEWORK.agent(model, dspy.tools([ours]))
    assert await FRAMEWORK.ask(agent, desk.QUESTION, streamed=False) == ANSWER
    body = stub.asked[0].body
    assert "tools" not in body
    prompt = body["messages"][0]["content"]
    assert f"weather, whose description is <desc>{ours.spec.description}</desc>" in prompt
    assert f"It takes arguments {ours.spec.parameters['properties']}." in prompt


def _handed(stub: Stub) -> None:
    """The earlier turns are told in one text."""
    said = stub.asked[0].body["messages"][-1]["content"]
    order = ["system: Be brief.", "user: And in Rome?", "assistant: It rains.", desk.QUESTION]
    assert sorted(order, key=said.index) == order


@pytest.mark.shows("as ours", "streamed")
async def test_an_agent_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(FRAMEWORK, app_file, __name__, stub, asks=3, handed=_handed)


@pytest.mark.shows("as ours")
async def test_an_agent_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_a_module_of_dspy(stub: Stub, served: Served) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub, asks=2)
