"""Strands' agents."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool
from strands.models.openai import OpenAIModel
from tests.bridges import checks, desk
from tests.bridges.desk import Framework
from tests.bridges.stub import Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import strands


class Strands:
    name = "Strands"
    packages = ("strands-agents",)
    kind = "strands"
    bridge = strands
    telemetry = Telemetry(dialect="GenAI as it was", agent="Strands Agents", tools=())

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
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestStrands(Truths):
    @pytest.mark.shows("as ours", "streamed")
    async def test_its_agent_is_one_of_ours(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        handed = partial(checks.handed_over, system="user")
        await checks.as_ours(framework, app_file, module, stub, handed=handed)
