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
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import Stub

from kickwheel.agents.bridges import adk


class Adk:
    name = "Google ADK"
    packages = ("google-adk", "litellm")
    kind = "adk"
    bridge = adk

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


def made() -> Any:
    return FRAMEWORK.agent(FRAMEWORK.model(desk.stub_url()), [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


_handed = partial(checks.handed_over, system="user", result='{"result": "rain in Rome"}')
"""ADK's messages know no system, and results are always JSON."""
SUNNY = '{"result": "sunny in Oslo"}'


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=False, result=SUNNY)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=True, result=SUNNY)


@pytest.mark.shows("tools equal")
async def test_our_tools_reach_the_model_as_from_our_agent(stub: Stub, served: Served) -> None:
    await checks.tools_equal(FRAMEWORK, stub, served)


@pytest.mark.shows("as ours", "streamed")
async def test_an_agent_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(FRAMEWORK, app_file, __name__, stub, handed=_handed)


@pytest.mark.shows("as ours")
async def test_an_agent_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_an_agent_of_adk(stub: Stub, served: Served) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub)
