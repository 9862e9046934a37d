"""MCP's older SDK, and frameworks that still use it, against the /mcp of `kickwheel serve`.

The server needs the newer SDK, so it runs in the environment that `make setup` makes.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from crewai import Agent
from crewai.mcp import MCPServerHTTP
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.mcp import MCPStreamableHttpPlugin
from tests.bridges import desk
from tests.bridges.stub import ANSWER, Stub

from kickwheel.agents.bridges import crewai, semantic_kernel

ROOT = Path(__file__).parents[3]


@pytest.fixture
def address(app_file: Path) -> Iterator[str]:
    with app_file.open("a", encoding="utf-8") as file:
        file.write("serve: {mcp: {offer: [desk]}}\n")
    with _serving(app_file) as url:
        yield f"{url}/mcp"


@contextmanager
def _serving(app_file: Path) -> Iterator[str]:
    python = ROOT / ".venv" / "bin" / "python"
    assert python.exists(), "make setup first"
    command = [str(python), "-m", "kickwheel", "serve", str(app_file), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split("/v1 answers")[0]
        finally:
            process.terminate()
            process.wait(20)


async def test_the_older_sdk_lists_and_calls_our_tools(address: str) -> None:
    async with (
        streamablehttp_client(address) as (reads, writes, _),
        ClientSession(reads, writes) as session,
    ):
        hello = await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        sunny = await session.call_tool("weather", {"city": "Oslo"})
        wrong = await session.call_tool("weather", {"town": "Oslo"})
    assert hello.protocolVersion <= "2025-11-25"
    assert tools["weather"].inputSchema["required"] == ["city"]
    assert (sunny.isError, sunny.content[0].text) == (False, "sunny in Oslo")
    assert wrong.isError
    assert "town" in wrong.content[0].text


async def test_an_agent_of_crewai_finds_our_tools_over_mcp(stub: Stub, address: str) -> None:
    served = MCPServerHTTP(url=address, streamable=True)
    model = crewai.model("stub", stub.url)
    agent = Agent(role="desk", goal="help", backstory="none", llm=model, mcps=[served])
    await agent.kickoff_async(desk.QUESTION)
    (tool,) = stub.tools()
    assert tool["function"]["name"].endswith("_weather")
    # No more is asserted: CrewAI 1.15.30 loses the result of a call, since its client fails when it
    # disconnects («no running event loop»).


async def test_an_agent_of_semantic_kernel_works_with_ours_over_mcp(
    stub: Stub, address: str
) -> None:
    async with MCPStreamableHttpPlugin(name="desk", url=address) as plugin:
        service = semantic_kernel.model("stub", stub.url)
        agent = ChatCompletionAgent(service=service, name="desk", plugins=[plugin])
        assert str((await agent.get_response(desk.QUESTION)).content) == ANSWER
    assert "sunny in Oslo" in str(stub.asked[-1].body["messages"][-1]["content"])
