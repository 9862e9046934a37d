"""Agents of smolagents."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from smolagents import OpenAIModel, ToolCallingAgent, tool
from tests.bridges import checks, desk
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import ANSWER, OUTPUT, PROMPT, Stub

from kickwheel.agents.bridges import smolagents
from kickwheel.records import genai


class Smolagents:
    name = "smolagents"
    packages = ("smolagents",)
    kind = "smolagents"
    bridge = smolagents

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


def made() -> Any:
    return FRAMEWORK.agent(FRAMEWORK.model(desk.stub_url()), [FRAMEWORK.tool()])


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


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await _recorded(recording, streamed=False)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await _recorded(recording, streamed=True)


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


@pytest.mark.shows("tools equal")
async def test_our_tools_reach_the_model_as_from_our_agent(stub: Stub, served: Served) -> None:
    await checks.tools_equal(FRAMEWORK, stub, served, known=_nullable)


def _handed(stub: Stub) -> None:
    """Calls and results of the earlier turns are told as texts, as smolagents tells its own."""
    said = json.dumps(stub.asked[0].body["messages"])
    order = ["Be brief.", "And in Rome?", "Calling tools:", "rain in Rome", "It rains.", "Oslo"]
    assert sorted(order, key=said.index) == order


@pytest.mark.shows("as ours", "streamed")
async def test_an_agent_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(FRAMEWORK, app_file, __name__, stub, streams=False, handed=_handed)


@pytest.mark.shows("as ours")
async def test_an_agent_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_an_agent_of_smolagents(stub: Stub, served: Served) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub)
