"""Agents of the OpenAI Agents SDK."""

from typing import Any

from openai import AsyncOpenAI
from tests.bridges import checks, desk
from tests.bridges.conftest import Served
from tests.bridges.stub import Stub
from tests.bridges.truths import Truths

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
)
from kickwheel.agents.bridges import openai_agents

QUIET = RunConfig(tracing_disabled=True)


class OpenAiAgents:
    name = "OpenAI Agents"
    packages = ("openai-agents",)
    kind = "openai_agents"
    bridge = openai_agents
    differs = "`strict: false` is added"
    known = staticmethod(checks.not_strict)

    def model(self, url: str) -> Any:
        return OpenAIChatCompletionsModel("stub", AsyncOpenAI(base_url=url, api_key="sk-stub"))

    def tool(self) -> Any:
        return function_tool(desk.weather, strict_mode=False)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return Agent(name="desk", model=model, tools=tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        if not streamed:
            return str((await Runner.run(agent, question, run_config=QUIET)).final_output)
        run, said = Runner.run_streamed(agent, question, run_config=QUIET), ""
        async for event in run.stream_events():
            if getattr(event, "data", None) and event.data.type == "response.output_text.delta":
                said += event.data.delta
        return said


FRAMEWORK = OpenAiAgents()


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestOpenAiAgents(Truths):
    """All of them."""


async def test_its_default_protocol_reaches_our_models(stub: Stub, served: Served) -> None:
    model = OpenAIResponsesModel("general", AsyncOpenAI(base_url=served.url, api_key="k"))
    await checks.responses(FRAMEWORK, model, stub)
