"""Agents of Google's ADK."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.adk.tools import FunctionTool
from google.genai.types import UserContent
from tests.bridges import checks, desk
from tests.bridges.conftest import Recording
from tests.bridges.desk import Framework
from tests.bridges.stub import Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import adk


class Adk:
    name = "Google ADK"
    packages = ("google-adk", "litellm")
    kind = "adk"
    bridge = adk
    telemetry = Telemetry(dialect="GenAI", agent="assistant", result='{"result": "sunny in Oslo"}')

    def model(self, url: str) -> Any:
        return LiteLlm(model="openai/stub", api_base=url, api_key="sk-stub")

    def tool(self) -> Any:
        return FunctionTool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return LlmAgent(name="assistant", model=model, tools=tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        runner = InMemoryRunner(agent, app_name="tests")
        await runner.session_service.create_session(app_name="tests", user_id="u", session_id="s")
        mode = StreamingMode.SSE if streamed else StreamingMode.NONE
        said = ""
        async for event in runner.run_async(
            user_id="u",
            session_id="s",
            new_message=UserContent(question),
            run_config=RunConfig(streaming_mode=mode),
        ):
            texts = [part.text or "" for part in event.content.parts or ()]
            said += "".join(texts) if bool(event.partial) == streamed else ""
        return said


FRAMEWORK = Adk()
SUNNY = '{"result": "sunny in Oslo"}'
"""Results of tools are always JSON."""


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestAdk(Truths):
    @pytest.mark.shows("recorded")
    async def test_its_traffic_is_recorded(
        self, framework: Framework, stub: Stub, recording: Recording
    ) -> None:
        await checks.recorded(framework, recording, streamed=False, result=SUNNY)

    @pytest.mark.shows("recorded", "streamed")
    async def test_its_streams_are_recorded(
        self, framework: Framework, stub: Stub, recording: Recording
    ) -> None:
        await checks.recorded(framework, recording, streamed=True, result=SUNNY)

    @pytest.mark.shows("as ours", "streamed")
    async def test_its_agent_is_one_of_ours(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        handed = partial(checks.handed_over, system="user", result='{"result": "rain in Rome"}')
        await checks.as_ours(framework, app_file, module, stub, handed=handed)
