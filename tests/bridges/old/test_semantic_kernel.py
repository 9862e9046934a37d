"""Semantic Kernel's agents."""

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import KernelFunctionFromMethod, KernelPlugin, kernel_function
from tests.bridges import checks, desk
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import Stub

from kickwheel.agents.bridges import semantic_kernel


class SemanticKernel:
    name = "Semantic Kernel"
    packages = ("semantic-kernel",)
    kind = "semantic_kernel"
    bridge = semantic_kernel

    def model(self, url: str) -> Any:
        client = AsyncOpenAI(base_url=url, api_key="sk-stub")
        return OpenAIChatCompletion(ai_model_id="stub", async_client=client)

    def tool(self) -> Any:
        function = KernelFunctionFromMethod(kernel_function(desk.weather), plugin_name="desk")
        return KernelPlugin(name="desk", functions=[function])

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return ChatCompletionAgent(service=model, name="assistant", plugins=tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        if not streamed:
            return str((await agent.get_response(question)).content)
        return "".join([str(piece.content) async for piece in agent.invoke_stream(question)])


FRAMEWORK = SemanticKernel()


def made() -> Any:
    return FRAMEWORK.agent(FRAMEWORK.model(desk.stub_url()), [FRAMEWORK.tool()])


@kernel_function(name="weather", description="Weather of a city.")
def offered_weather(city: str, when: dict[str, str] | None = None, unit: str = "C") -> str:
    return desk.weather(city)  # Semantic Kernel has no schema for the literals of the other one.


def offered() -> Any:
    return [offered_weather]


def _in_plugin(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for tool in tools:
        tool["function"]["name"] = f"kickwheel-{tool['function']['name']}"
        del tool["function"]["parameters"]["additionalProperties"]
    return tools


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=False)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=True)


@pytest.mark.shows("tools equal")
async def test_our_tools_reach_the_model_as_from_our_agent(stub: Stub, served: Served) -> None:
    await checks.tools_equal(FRAMEWORK, stub, served, known=_in_plugin)


@pytest.mark.shows("as ours", "streamed")
async def test_an_agent_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(FRAMEWORK, app_file, __name__, stub, tool="desk-weather")


@pytest.mark.shows("as ours")
async def test_an_agent_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_an_agent_of_semantic_kernel(
    stub: Stub, served: Served
) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub)
