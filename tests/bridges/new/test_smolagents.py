"""Agents of smolagents."""

import asyncio
import json
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from smolagents import OpenAIModel, ToolCallingAgent, tool
from tests.bridges import checks, desk, telemetry
from tests.bridges.conftest import Recording
from tests.bridges.desk import Framework
from tests.bridges.stub import ANSWER, OUTPUT, PROMPT, Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel import open_app
from kickwheel.agents.bridges import smolagents
from kickwheel.agents.events import Called
from kickwheel.records import Message, genai


def _nullable(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What may be left out is nullable, an argument's `anyOf` with null is taken apart, and an
    answer is a call, too."""
    parameters = tools[0]["function"]["parameters"]
    del parameters["additionalProperties"]
    when, unit = (parameters["properties"][name] for name in ("when", "unit"))
    about = when["description"]
    when |= {**when.pop("anyOf")[0], "description": about, "nullable": True}
    unit["nullable"] = True
    answer = {"type": "string", "description": "The final answer to the problem"}
    final = {
        "name": "final_answer",
        "description": "Provides a final answer to the given problem.",
        "parameters": {"type": "object", "properties": {"answer": answer}, "required": ["answer"]},
    }
    return [*tools, {"type": "function", "function": final}]


class Smolagents:
    name = "smolagents"
    packages = ("smolagents",)
    kind = "smolagents"
    bridge = smolagents
    telemetry = Telemetry(
        dialect="OpenInference",
        package="openinference-instrumentation-smolagents",
        agent="ToolCallingAgent.run",
        tools=("weather", "final_answer"),
    )
    differs = "optional is `nullable`, `anyOf` only types; `final_answer` is added"
    known = staticmethod(_nullable)

    def model(self, url: str) -> Any:
        return OpenAIModel("stub", api_base=url, api_key="sk-stub")

    def tool(self) -> Any:
        return tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return ToolCallingAgent(tools=tools, model=model, stream_outputs=True, verbosity_level=0)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        agent.stream_outputs = streamed
        return str(await asyncio.to_thread(agent.run, question))


FRAMEWORK = Smolagents()
GATE = threading.Event()


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def slow() -> Any:
    """An agent in whose tool a run stands still until `GATE` opens."""

    def weather(city: str, when: dict | None = None) -> str:
        """Weather of a city.

        Args:
            city: Name of the city.
            when: Time of interest.
        """
        GATE.wait(10)
        return "late"

    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [tool(weather)])


def offered() -> Any:
    return FRAMEWORK.tool()


async def _recorded(recording: Recording, *, streamed: bool) -> None:
    project = f"smolagents-{'streamed' if streamed else 'whole'}"
    agent = FRAMEWORK.agent(FRAMEWORK.model(recording.project(project)), [FRAMEWORK.tool()])
    assert await FRAMEWORK.ask(agent, desk.QUESTION, streamed=streamed) == ANSWER
    asked, answered = [trace.spans[0] for trace in await checks.kept(recording.store, project, 2)]
    assert [tool.name for tool in asked.tools] == ["weather", "final_answer"]
    assert asked.output[0].tool_calls[0].name == "weather"
    # It tells results as a user, and wants the answer as a call.
    assert answered.input[-1].role == "user"
    assert answered.input[-1].content == "Observation:\nsunny in Oslo"
    assert json.loads(answered.output[0].tool_calls[0].arguments) == {"answer": ANSWER}
    for span in (asked, answered):
        assert span.attributes[genai.INPUT_TOKENS] == PROMPT
        assert span.attributes[genai.OUTPUT_TOKENS] == OUTPUT


def _handed(stub: Stub) -> None:
    """Calls and results of the earlier turns are told as texts, as smolagents tells its own."""
    said = json.dumps(stub.asked[0].body["messages"])
    order = ["Be brief.", "And in Rome?", "Calling tools:", "rain in Rome", "It rains.", "Oslo"]
    assert sorted(order, key=said.index) == order


class TestSmolagents(Truths):
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
        asked, answered = telemetry.of_kind(found, "model")
        assert asked.output[0].tool_calls[0].name == "weather"
        # Results are told as texts of the user, and the answer is a call.
        assert answered.input[-1] == Message(role="user", content="Observation:\nsunny in Oslo")
        assert json.loads(answered.output[0].tool_calls[0].arguments) == {"answer": ANSWER}
        for span in (asked, answered):
            assert span.attributes[genai.INPUT_TOKENS] == PROMPT
            assert span.attributes[genai.OUTPUT_TOKENS] == OUTPUT
        telemetry.ran(found)
        telemetry.below(found, framework.telemetry.agent)
        first, _ = telemetry.learned(found)
        assert tuple(tool.name for tool in first.tools) == framework.telemetry.tools

    @pytest.mark.shows("as ours", "streamed")
    async def test_its_agent_is_one_of_ours(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        await checks.as_ours(framework, app_file, module, stub, streams=False, handed=_handed)

    @pytest.mark.shows("as ours")
    async def test_who_reads_no_further_ends_its_work(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        with app_file.open("a", encoding="utf-8") as file:
            file.write(f'  slow: {{kind: smolagents, object: "{module}:slow"}}\n')
        async with open_app(app_file) as app:
            async with aclosing(app.model("slow").run([Message(role="user", content="?")])) as run:
                async for event in run:
                    if isinstance(event, Called):
                        break
            GATE.set()
            for thread in threading.enumerate():
                if thread.name == "kickwheel-tool":
                    await asyncio.to_thread(thread.join, 10)
        assert len(stub.asked) == 1
