"""Agents of the OpenAI Agents SDK."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from tests.bridges import checks, desk, telemetry
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import ANSWER, Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    TracingProcessor,
    function_tool,
    set_trace_processors,
)
from kickwheel.agents import Finished
from kickwheel.agents.bridges import openai_agents
from kickwheel.core.errors import ModelError

set_trace_processors([])  # By itself it would send traces to OpenAI.


class OpenAiAgents:
    name = "OpenAI Agents"
    packages = ("openai-agents",)
    kind = "openai_agents"
    bridge = openai_agents
    telemetry = Telemetry(
        dialect="OpenInference",
        package="openinference-instrumentation-openai-agents",
        agent="desk",
        tools=(),
        counts_streams=False,
    )
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
            return str((await Runner.run(agent, question)).final_output)
        run, said = Runner.run_streamed(agent, question), ""
        async for event in run.stream_events():
            if getattr(event, "data", None) and event.data.type == "response.output_text.delta":
                said += event.data.delta
        return said


FRAMEWORK = OpenAiAgents()


def handing_over() -> Any:
    """An agent whose first call hands over to another one."""
    return Agent(name="front", model=made().model, handoffs=[made()])


def careful() -> Any:
    """An agent whose tool wants a person's yes."""
    tool = function_tool(desk.weather, strict_mode=False, needs_approval=True)
    return Agent(name="desk", model=made().model, tools=[tool])


class OverResponses(OpenAiAgents):
    """Its default protocol, over which its telemetry tells more."""

    kind = "openai_agents_responses"
    telemetry = replace(OpenAiAgents.telemetry, tools=("weather",), counts_streams=True)

    def model(self, url: str) -> Any:
        return OpenAIResponsesModel("stub", AsyncOpenAI(base_url=url, api_key="sk-stub"))


class HandingOver(OpenAiAgents):
    """Its agent hands each question over to another one."""

    kind = "openai_agents_handoff"

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return Agent(name="front", model=model, handoffs=[super().agent(model, tools)])


class Overheard(TracingProcessor):
    """Counts what would be sent to OpenAI."""

    def __init__(self) -> None:
        self.count = 0

    def on_trace_start(self, trace: Any) -> None:
        self.count += 1

    def on_span_start(self, span: Any) -> None:
        self.count += 1

    def on_trace_end(self, trace: Any) -> None: ...
    def on_span_end(self, span: Any) -> None: ...
    def shutdown(self) -> None: ...
    def force_flush(self) -> None: ...


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


@pytest.mark.parametrize("streamed", [False, True])
async def test_over_its_default_protocol_it_tells_of_tools_and_tokens(
    stub: Stub, recording: Recording, streamed: bool
) -> None:
    framework = OverResponses()
    traces = await telemetry.told(framework, stub, recording, streamed=streamed)
    telemetry.whole(framework, traces, streamed=streamed)


async def test_what_an_agent_says_that_was_handed_over_to_is_learned_too(
    stub: Stub, recording: Recording
) -> None:
    stub.arguments["transfer_to_desk"] = {}
    (found,) = await telemetry.told(HandingOver(), stub, recording, streamed=False)
    first, last = telemetry.learned(found)
    assert [call.name for call in first.answer.tool_calls] == ["transfer_to_desk"]
    assert last.answer.content == ANSWER


async def test_a_run_of_ours_leaves_nothing_to_be_sent_to_openai(
    stub: Stub, app_file: Path
) -> None:
    overheard = Overheard()
    set_trace_processors([overheard])
    await checks.ran("openai_agents", f"{__name__}:made", app_file)
    assert overheard.count == 0
    await Runner.run(made(), desk.QUESTION)
    assert overheard.count > 0


async def test_an_agent_that_is_handed_over_to_is_told_too(stub: Stub, app_file: Path) -> None:
    stub.arguments["transfer_to_desk"] = {}
    finished = (await checks.ran("openai_agents", f"{__name__}:handing_over", app_file))[-1]
    assert isinstance(finished, Finished)
    assert (finished.answer.content, finished.steps) == (ANSWER, 2)


async def test_an_agent_that_waits_for_a_person_says_so(stub: Stub, app_file: Path) -> None:
    with pytest.raises(ModelError, match="waits for a person"):
        await checks.ran("openai_agents", f"{__name__}:careful", app_file)
    assert desk.CALLS == []
