"""Strands' agents."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from tests.bridges import checks, desk
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import Stub

from kickwheel.agents.bridges import strands


class Strands:
    name = "Strands"
    packages = ("strands-agents",)
    kind = "strands"
    bridge = strands

    def model(self, url: str) -> Any:
        return OpenAIModel(client_args={"base_url": url, "api_key": "sk-stub"}, model_id="stub")

    def tool(self) -> Any:
        return tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return Agent(model=model, tools=tools, callback_handler=None)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        agent.messages = []
        agent.model.update_config(stream=streamed)
        if not streamed:
            return str(await agent.invoke_async(question)).strip()
        return "".join([event.get("data", "") async for event in agent.stream_async(question)])


FRAMEWORK = Strands()


def made() -> Any:
    return FRAMEWORK.agent(FRAMEWORK.model(desk.stub_url()), [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


_handed = partial(checks.handed_over, system="user")
"""Strands' messages know no system."""


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=False)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=True)


@pytest.mark.shows("tools equal")
async def test_our_tools_reach_the_model_as_from_our_agent(stub: Stub, served: Served) -> None:
    await checks.tools_equal(FRAMEWORK, stub, served)


@pytest.mark.shows("as ours", "streamed")
async def test_an_agent_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(FRAMEWORK, app_file, __name__, stub, handed=_handed)


@pytest.mark.shows("as ours")
async def test_an_agent_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_an_agent_of_strands(stub: Stub, served: Served) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub)
