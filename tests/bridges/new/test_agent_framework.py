"""Agents of Microsoft's Agent Framework."""

from pathlib import Path
from typing import Any

import pytest
from agent_framework import Agent, tool
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient
from tests.bridges import checks, desk
from tests.bridges.conftest import Served
from tests.bridges.stub import Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import agent_framework
from kickwheel.core.errors import ModelError


class AgentFramework:
    name = "MS Agent Framework"
    packages = ("agent-framework-core", "agent-framework-openai")
    kind = "agent_framework"
    bridge = agent_framework
    telemetry = Telemetry(dialect="GenAI", agent="desk")

    def model(self, url: str) -> Any:
        return OpenAIChatCompletionClient("stub", base_url=url, api_key="sk-stub")

    def tool(self) -> Any:
        return tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return Agent(model, name="desk", tools=tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        if not streamed:
            return str((await agent.run(question)).text)
        stream, pieces = agent.run(question, stream=True), 0
        async for update in stream:
            pieces += bool(update.text)
        assert pieces > 3
        return str((await stream.get_final_response()).text)


FRAMEWORK = AgentFramework()


def careful() -> Any:
    """An agent whose tool wants a person's yes."""
    return FRAMEWORK.agent(made().client, [tool(desk.weather, approval_mode="always_require")])


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestAgentFramework(Truths):
    """All of them."""


async def test_its_default_protocol_reaches_our_models(stub: Stub, served: Served) -> None:
    model = OpenAIChatClient("general", base_url=served.url, api_key="k")
    await checks.responses(FRAMEWORK, model, stub)


async def test_an_agent_that_waits_for_a_person_says_so(stub: Stub, app_file: Path) -> None:
    with pytest.raises(ModelError, match="waits for a person"):
        await checks.ran("agent_framework", f"{__name__}:careful", app_file)
    assert desk.CALLS == []
