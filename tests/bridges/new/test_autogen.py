"""AutoGen's agents."""

from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
from tests.bridges import checks, desk, examples
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import Stub

from kickwheel.agents.bridges import autogen

INFO = {
    "vision": False,
    "function_calling": True,
    "json_output": True,
    "structured_output": True,
    "family": "unknown",
}


class AutoGen:
    name = "AutoGen"
    packages = ("autogen-agentchat", "autogen-ext")
    kind = "autogen"
    bridge = autogen
    differs = "`strict: false` is added"

    def model(self, url: str) -> Any:
        return OpenAIChatCompletionClient(
            model="stub", base_url=url, api_key="sk-stub", model_info=INFO
        )

    def tool(self) -> Any:
        return FunctionTool(desk.weather, "Weather of a city.")

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return AssistantAgent(
            "desk",
            model,
            tools=tools or None,
            reflect_on_tool_use=bool(tools),
            model_client_stream=True,
        )

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        agent._model_client_stream = streamed
        said, answer = "", ""
        async for event in agent.run_stream(task=question):
            if isinstance(event, ModelClientStreamingChunkEvent):
                said += event.content
            elif hasattr(event, "messages"):
                answer = event.messages[-1].content
        await agent.on_reset(None)
        return said if streamed else answer


FRAMEWORK = AutoGen()


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=False)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=True)


@pytest.mark.shows("tools equal")
async def test_our_tools_reach_the_model_as_from_our_agent(stub: Stub, served: Served) -> None:
    await checks.tools_equal(FRAMEWORK, stub, served, checks.not_strict)


@pytest.mark.shows("as ours", "streamed")
async def test_an_agent_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(FRAMEWORK, app_file, __name__, stub)


@pytest.mark.shows("as ours")
async def test_an_agent_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_an_agent_of_autogen(stub: Stub, served: Served) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub)


async def test_the_example_on_the_page_works(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await examples.works(FRAMEWORK, tmp_path, stub, monkeypatch)
