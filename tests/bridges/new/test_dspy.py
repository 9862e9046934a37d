"""DSPy's modules."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import dspy as theirs
import pytest
from tests.bridges import checks, desk, telemetry
from tests.bridges.conftest import Recording, Served
from tests.bridges.desk import Framework
from tests.bridges.stub import ANSWER, ARGUMENTS, OUTPUT, PROMPT, Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel import open_app
from kickwheel.agents.bridges import dspy
from kickwheel.agents.events import Called
from kickwheel.records import Message, genai


class Dspy:
    name = "DSPy"
    packages = ("dspy",)
    kind = "dspy"
    bridge = dspy
    telemetry = Telemetry(dialect="OpenInference", package="openinference-instrumentation-dspy")
    differs = "told in its prompt"

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
ENDED: list[str] = []
"""Tools that were ended in the middle."""


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def slow() -> Any:
    """A module in whose tool a run stands still."""

    async def weather(city: str, when: Any = None) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ENDED.append("weather")
        return "late"

    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [theirs.Tool(weather)])


def offered() -> Any:
    return FRAMEWORK.tool()


@pytest.fixture(autouse=True)
def _in_texts(stub: Stub) -> Iterator[None]:
    """The stub answers in DSPy's text protocol while a test runs."""
    before, stub.speaks = stub.speaks, partial(_speaks, stub)
    yield
    stub.speaks = before


def _speaks(stub: Stub, body: Mapping[str, Any]) -> str | None:
    system = str(body["messages"][0]["content"])
    if "`next_tool_name`" in system:
        name = "finish"
        if "observation_0" not in json.dumps(body["messages"][1:]):
            name = re.findall(r"\(1\) (\w+)", system)[0]
        arguments = {} if name == "finish" else stub.arguments.get(name, ARGUMENTS)
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


def _handed(stub: Stub) -> None:
    """The earlier turns are told in one text."""
    said = stub.asked[0].body["messages"][-1]["content"]
    order = ["system: Be brief.", "user: And in Rome?", "assistant: It rains.", desk.QUESTION]
    assert sorted(order, key=said.index) == order


class TestDspy(Truths):
    @pytest.mark.shows("recorded")
    async def test_its_traffic_is_recorded(
        self, framework: Framework, stub: Stub, recording: Recording
    ) -> None:
        await _recorded(recording, streamed=False)

    @pytest.mark.shows("recorded", "streamed")
    async def test_its_streams_are_recorded(
        self, framework: Framework, stub: Stub, recording: Recording
    ) -> None:
        await _recorded(recording, streamed=True)

    @pytest.mark.shows("its own telemetry")
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_what_it_tells_of_itself_is_a_trace_of_ours(
        self, framework: Framework, stub: Stub, recording: Recording, streamed: bool
    ) -> None:
        (found,) = await telemetry.told(framework, stub, recording, streamed=streamed)
        asked, _, answered = telemetry.of_kind(found, "model")
        # Tools, calls and results are texts of its own.
        assert "[[ ## next_tool_name ## ]]\nweather" in (asked.output[0].content or "")
        assert "sunny in Oslo" in (answered.input[-1].content or "")
        assert ANSWER in (answered.output[0].content or "")
        assert asked.attributes[genai.REQUEST_MODEL] == "stub"
        telemetry.ran(found)
        telemetry.below(found, framework.telemetry.agent)
        assert len(telemetry.learned(found)) == 3

    @pytest.mark.shows("tools equal")
    async def test_our_tools_reach_the_model_as_from_our_agent(
        self, framework: Framework, stub: Stub, served: Served
    ) -> None:
        (ours,) = served.app.tools("desk")
        agent = framework.agent(dspy.model("stub", stub.url), dspy.tools([ours]))
        assert await framework.ask(agent, desk.QUESTION, streamed=False) == ANSWER
        body = stub.asked[0].body
        assert "tools" not in body
        prompt = body["messages"][0]["content"]
        assert f"weather, whose description is <desc>{ours.spec.description}</desc>" in prompt
        assert f"It takes arguments {ours.spec.parameters['properties']}." in prompt

    @pytest.mark.shows("as ours", "streamed")
    async def test_its_agent_is_one_of_ours(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        await checks.as_ours(framework, app_file, module, stub, asks=3, handed=_handed)

    @pytest.mark.shows("as ours")
    async def test_who_reads_no_further_ends_its_work(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        with app_file.open("a", encoding="utf-8") as file:
            file.write(f'  slow: {{kind: dspy, object: "{module}:slow"}}\n')
        asked = [Message(role="user", content="?")]
        async with open_app(app_file) as app, aclosing(app.model("slow").run(asked)) as events:
            async for event in events:
                if isinstance(event, Called):
                    break
        assert ENDED == ["weather"]
        assert len(stub.asked) == 1

    @pytest.mark.shows("ours as theirs")
    async def test_what_is_ours_works_in_its_agent(
        self, framework: Framework, stub: Stub, served: Served
    ) -> None:
        await checks.ours_as_theirs(framework, served, stub, asks=2)
