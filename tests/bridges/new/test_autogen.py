"""AutoGen's agents."""

from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import ModelClientStreamingChunkEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
from tests.bridges import checks, desk
from tests.bridges.stub import ANSWER, Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel.agents import Called, Finished, Returned, Text
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
    telemetry = Telemetry(
        dialect="GenAI and OpenInference",
        package="openinference-instrumentation-autogen-agentchat",
        agent="desk",
        traces=2,
        tools=(),
        counts_streams=False,
    )
    differs = "`strict: false` is added"
    known = staticmethod(checks.not_strict)

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


def team() -> Any:
    """A team of one who knows the weather and one who knows nothing."""
    model = made()._model_client
    one = AssistantAgent("one", model, tools=[desk.weather], reflect_on_tool_use=True)
    two = AssistantAgent("two", model, model_client_stream=True)
    return RoundRobinGroupChat([one, two], termination_condition=MaxMessageTermination(6))


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestAutoGen(Truths):
    """All of them."""


async def test_a_team_is_one_agent_of_ours(stub: Stub, app_file: Path) -> None:
    events = await checks.ran("autogen", f"{__name__}:team", app_file, *desk.EARLIER)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.answer.content, finished.steps) == (ANSWER, 3)
    told = [type(event) for event in events if not isinstance(event, Text)]
    assert told == [Called, Returned, Finished]
    assert desk.CALLS == ["Oslo"]
