"""PydanticAI's agents."""

from typing import Any

from pydantic_ai import Agent, Tool
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.bridges import checks, desk
from tests.bridges.conftest import Served
from tests.bridges.stub import Stub
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import pydantic_ai


class PydanticAi:
    name = "PydanticAI"
    packages = ("pydantic-ai-slim",)
    kind = "pydantic_ai"
    bridge = pydantic_ai

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
