"""LangChain's agents and LangGraph's graphs."""

from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from tests.bridges import checks, desk, examples
from tests.bridges.conftest import Recording, Served
from tests.bridges.stub import Stub

from kickwheel.agents.bridges import langchain


class LangGraph:
    name = "LangChain, LangGraph"
    packages = ("langchain", "langgraph", "langchain-openai")
    kind = "langgraph"
    bridge = langchain

    def model(self, url: str) -> Any:
        return ChatOpenAI(model="stub", base_url=url, api_key="sk-stub")

    def tool(self) -> Any:
        return tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return create_agent(model, tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        asked = {"messages": [{"role": "user", "content": question}]}
        if not streamed:
            return str((await agent.ainvoke(asked))["messages"][-1].text)
        said = ""
        async for message, _ in agent.astream(asked, stream_mode="messages"):
            said += message.text if message.type == "AIMessageChunk" else ""
        return said


FRAMEWORK = LangGraph()


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


@pytest.mark.shows("recorded")
async def test_its_traffic_is_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=False)


@pytest.mark.shows("recorded", "streamed")
async def test_its_streams_are_recorded(stub: Stub, recording: Recording) -> None:
    await checks.recorded(FRAMEWORK, recording, streamed=True)


@pytest.mark.shows("tools equal")
async def test_our_tools_reach_the_model_as_from_our_agent(stub: Stub, served: Served) -> None:
    await checks.tools_equal(FRAMEWORK, stub, served)


@pytest.mark.shows("as ours", "streamed")
async def test_a_graph_is_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.as_ours(FRAMEWORK, app_file, __name__, stub)


@pytest.mark.shows("as ours")
async def test_a_graph_is_done_once_whenever_its_run_goes_on(stub: Stub, app_file: Path) -> None:
    await checks.read_back(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("as ours")
async def test_a_tool_of_theirs_works_in_an_agent_of_ours(stub: Stub, app_file: Path) -> None:
    await checks.their_tools(FRAMEWORK, app_file, __name__)


@pytest.mark.shows("ours as theirs")
async def test_what_is_ours_works_in_an_agent_of_langchain(stub: Stub, served: Served) -> None:
    await checks.ours_as_theirs(FRAMEWORK, served, stub)


async def test_the_example_on_the_page_works(
    stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await examples.works(FRAMEWORK, tmp_path, stub, monkeypatch)
