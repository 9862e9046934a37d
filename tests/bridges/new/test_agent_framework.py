"""Agents of Microsoft's Agent Framework."""

from typing import Any

from agent_framework import Agent, tool
from agent_framework.openai import OpenAIChatClient, OpenAIChatCompletionClient
from tests.bridges import checks, desk
from tests.bridges.conftest import Served
from tests.bridges.stub import Stub
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import agent_framework


class AgentFramework:
    name = "MS Agent Framework"
    packages = ("agent-framework-core", "agent-framework-openai")
    kind = "agent_framework"
    bridge = agent_framework

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
