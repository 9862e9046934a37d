"""CrewAI's agents and crews."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crewai import LLM, Agent
from crewai.tools import tool
from tests.bridges import checks, desk
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import Stub

from kickwheel.agents.bridges import crewai


class CrewAi:
    name = "CrewAI"
    packages = ("crewai",)
    kind = "crewai"
    bridge = crewai

    def model(self, url: str) -> Any:
        return LLM(model="openai/stub", base_url=url, api_key="sk-stub", stream=True)

    def tool(self) -> Any:
        return tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return Agent(role="assistant", goal="help", backstory="none", llm=model, tools=tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        agent.llm.stream = streamed
        return str((await agent.kickoff_async(question)).raw)


FRAMEWORK = CrewAi()


def made() -> Any:
    return FRAMEWORK.agent(FRAMEWORK.model(desk.stub_url()), [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


def _strict(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI's strict form: what may be left out may be null instead, and has no default."""
    function = tools[0]["function"]
    function["strict"] = True
    function["parameters"]["required"] = ["city", "when", "unit"]
    when, unit = (function["parameters"]["properties"][name] for name in ("when", "unit"))
    moment = when["anyOf"][0]
    moment |= {"additionalProperties": False, "required": ["day", "hour"]}
    del moment["description"], moment["properties"]["hour"]["default"], when["default"]
    about = unit.pop("description")
    del unit["default"]
    options = {"anyOf": [dict(unit), {"type": "null"}], "description": about}
    unit.clear()
    unit |= options
    return tools


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=False)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=True)


@pytest.mark.shows("tools equal")
async def test_our_tools_reach_the_model_as_from_our_agent(stub: Stub, served: Served) -> None:
    await checks.tools_equal(FRAMEWORK, stub, served, known=_strict)


@pytest.mark.shows("as ours", "streamed")
async def test_an_agent_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(
        FRAMEWORK,
        app_file,
        __name__,
        stub,
        handed=partial(checks.handed_over, asked=f"\nCurrent Task: {desk.QUESTION}"),
    )


@pytest.mark.shows("as ours")
async def test_an_agent_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_an_agent_of_crewai(stub: Stub, served: Served) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub)
