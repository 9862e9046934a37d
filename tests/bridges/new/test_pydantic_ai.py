"""PydanticAI's agents."""

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, DeferredToolRequests, Tool
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.bridges import checks, desk
from tests.bridges.conftest import Served
from tests.bridges.stub import Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import pydantic_ai
from kickwheel.core.errors import ModelError


class PydanticAi:
    name = "PydanticAI"
    packages = ("pydantic-ai-slim",)
    kind = "pydantic_ai"
    bridge = pydantic_ai
    telemetry = Telemetry(dialect="GenAI", agent="agent")

    def model(self, url: str) -> Any:
        return OpenAIChatModel("stub", provider=OpenAIProvider(base_url=url, api_key="sk-stub"))

    def tool(self) -> Any:
        return Tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return Agent(model, tools=tools, system_prompt="You know the weather.")

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        if not streamed:
            return str((await agent.run(question)).output)
        async with agent.run_stream(question) as run:
            return "".join([piece async for piece in run.stream_text(delta=True)])


FRAMEWORK = PydanticAi()


def careful() -> Any:
    """An agent whose tool wants a person's yes."""
    tool = Tool(desk.weather, requires_approval=True)
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return Agent(model, tools=[tool], output_type=[str, DeferredToolRequests])


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestPydanticAi(Truths):
    """All of them."""


async def test_its_default_protocol_reaches_our_models(stub: Stub, served: Served) -> None:
    model = OpenAIResponsesModel(
        "general", provider=OpenAIProvider(base_url=served.url, api_key="k")
    )
    await checks.responses(FRAMEWORK, model, stub)


async def test_its_own_system_prompt_stays_beside_what_the_caller_says(
    stub: Stub, app_file: Path
) -> None:
    await checks.ran("pydantic_ai", f"{__name__}:made", app_file, *desk.EARLIER)
    system = [t["content"] for t in stub.asked[0].body["messages"] if t["role"] == "system"]
    assert sorted(system) == ["Be brief.", "You know the weather."]


async def test_an_agent_that_waits_for_a_person_says_so(stub: Stub, app_file: Path) -> None:
    with pytest.raises(ModelError, match="waits for"):
        await checks.ran("pydantic_ai", f"{__name__}:careful", app_file)
    assert desk.CALLS == []
