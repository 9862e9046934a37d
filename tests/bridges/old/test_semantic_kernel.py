"""Semantic Kernel's agents."""

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import KernelFunctionFromMethod, KernelPlugin, kernel_function
from tests.bridges import checks, desk
from tests.bridges.conftest import Served
from tests.bridges.desk import Framework
from tests.bridges.stub import Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import semantic_kernel


def _in_plugin(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for tool in tools:
        tool["function"]["name"] = f"kickwheel-{tool['function']['name']}"
        del tool["function"]["parameters"]["additionalProperties"]
    return tools


class SemanticKernel:
    name = "Semantic Kernel"
    packages = ("semantic-kernel",)
    kind = "semantic_kernel"
    bridge = semantic_kernel
    telemetry = Telemetry(dialect="GenAI as it was", agent="assistant", tools=("desk-weather",))
    differs = "names as `kickwheel-name`; no `additionalProperties`"
    known = staticmethod(_in_plugin)

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
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


@kernel_function(name="weather", description="Weather of a city.")
def offered_weather(city: str, when: dict[str, str] | None = None, unit: str = "C") -> str:
    return desk.weather(city)  # Semantic Kernel has no schema for the literals of the other one.


def offered() -> Any:
    return [offered_weather]


class TestSemanticKernel(Truths):
    @pytest.mark.shows("as ours", "streamed")
    async def test_its_agent_is_one_of_ours(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        await checks.as_ours(framework, app_file, module, stub, tool="desk-weather")

    async def test_arguments_may_have_any_name_and_mistakes_are_told(
        self, framework: Framework, stub: Stub, served: Served
    ) -> None:
        await checks.any_names(framework, served, stub, wrong="Missing required argument")
