"""LlamaIndex's agents."""

from pathlib import Path
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from tests.bridges import checks, desk
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import Stub

from kickwheel.agents.bridges import llamaindex


class LlamaIndex:
    name = "LlamaIndex"
    packages = ("llama-index-core", "llama-index-llms-openai-like")
    kind = "llamaindex"
    bridge = llamaindex

    def model(self, url: str) -> Any:
        return OpenAILike(
            model="stub",
            api_base=url,
            api_key="sk-stub",
            is_chat_model=True,
            is_function_calling_model=True,
        )

    def tool(self) -> Any:
        return FunctionTool.from_defaults(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return FunctionAgent(llm=model, tools=tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        agent.streaming = streamed
        run = agent.run(user_msg=question)
        said = ""
        async for event in run.stream_events():
            said += event.delta if isinstance(event, AgentStream) else ""
        whole = str(await run)
        return said if streamed else whole


FRAMEWORK = LlamaIndex()


def made() -> Any:
    # Of itself LlamaIndex asks for no usage on a stream, so nothing would be counted here.
    return FRAMEWORK.agent(llamaindex.model("stub", desk.stub_url()), [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


def _not_strict(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for tool in tools:
        tool["function"]["strict"] = False
    return tools


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=False)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=True)


@pytest.mark.shows("tools equal")
async def test_our_tools_reach_the_model_as_from_our_agent(stub: Stub, served: Served) -> None:
    await checks.tools_equal(FRAMEWORK, stub, served, known=_not_strict)


@pytest.mark.shows("as ours", "streamed")
async def test_an_agent_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(FRAMEWORK, app_file, __name__, stub)


@pytest.mark.shows("as ours")
async def test_an_agent_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_an_agent_of_llamaindex(stub: Stub, served: Served) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub)
