"""Agents at work with the tools of an MCP server that changes."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import InMemorySubscriptionBus, ToolsListChanged
from tests.agents.desk import answer, desk
from tests.agents.tools.test_mcp_http import served

from kickwheel.agents.ask import ask
from kickwheel.core.errors import ToolError
from kickwheel.records import Message

STRANGER = Path(__file__).with_name("stranger.py")


def app(agent: str) -> str:
    return f"""
models: {{general: {{kind: openai, model: any, base_url: URL}}}}
tools: {{clinic: {{kind: mcp, command: ["{sys.executable}", "{STRANGER}", kind]}}}}
agents: {{desk: {{{agent}, model: general, tools: [clinic]}}}}
"""


@pytest.mark.parametrize(
    "agent", ["kind: tool_loop", "kind: react", "kind: code, runs: monty", "kind: plan"]
)
async def test_a_tool_that_a_server_adds_is_offered_without_opening_the_app_again(
    tmp_path: Path, agent: str
) -> None:
    seen: list[str] = []

    def say(body: dict[str, Any]) -> Any:
        seen.append(str(body))
        if "react" in agent:
            return "Answer: well"
        return '{"steps": []}' if "plan" in agent else "well"

    async with desk(tmp_path, say, app(agent)) as (opened, _):
        clinic = opened.live["tools", "clinic"]
        grow = next(tool for tool in clinic if tool.spec.name == "grow")

        async def asked() -> str:
            seen.clear()
            await ask(opened.model("desk"), [Message(role="user", content="hi")], opened.recorder)
            return seen[0]

        assert "new it" not in await asked()
        await grow.call({"text": ""})
        for _ in range(200):
            if any(tool.spec.name == "new" for tool in clinic):
                break
            await asyncio.sleep(0.02)
        assert "new it" in await asked()


async def test_a_tool_that_a_call_brings_is_offered_in_the_next_step(tmp_path: Path) -> None:
    offered: list[list[str]] = []

    def say(body: dict[str, Any]) -> Any:
        offered.append([tool["function"]["name"] for tool in body["tools"]])
        if "new" in offered[-1]:
            return "there it is"
        return ("grow", {"text": f"please, {len(offered)}"})

    async with desk(tmp_path, say, app("kind: tool_loop")) as (opened, _):
        question = [Message(role="user", content="hi")]
        answered = await ask(opened.model("desk"), question, opened.recorder)
    assert answered.answer == "there it is"
    assert "new" not in offered[0]


GRAPH = """
models: {general: {kind: openai, model: any, base_url: URL}}
tools: {clinic: {kind: mcp, url: MCP}}
agents:
  desk:
    kind: graph
    nodes: {booked: {tool: clinic, call: book_it, arguments: {day: "{question}", hour: nine}}}
    edges: [{to: booked}]
"""


async def test_a_node_of_a_graph_calls_the_tool_as_the_server_has_it_now(tmp_path: Path) -> None:
    bus = InMemorySubscriptionBus()
    server = MCPServer("clinic", subscriptions=bus)

    async def by_day(day: str) -> str:
        return f"on {day}"

    async def by_hour(day: str, hour: str) -> str:
        return f"on {day} at {hour}"

    async def other() -> str:
        return "other"

    async def offers(theirs: str, function: Any = None) -> None:
        """Puts one tool in the place of all others, and waits until the app has heard of it."""
        for tool in await server.list_tools():
            server.remove_tool(tool.name)
        server.add_tool(function or other, name=theirs, description=f"{function}")
        for _ in range(500):
            # Published until the stream is open: what comes before is not sent.
            await bus.publish(ToolsListChanged())
            if [tool.spec.description for tool in clinic] == [f"{function}"]:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the app has not heard of the change")

    server.add_tool(by_day, name="book.it")
    async with served(server.streamable_http_app()) as port:
        text = GRAPH.replace("MCP", f"http://127.0.0.1:{port}/mcp")
        async with desk(tmp_path, lambda body: "", text) as (opened, _):
            clinic = opened.live["tools", "clinic"]
            assert "on Monday" in await answer(opened, "desk", "Monday")
            # By another name there, which is the same here.
            await offers("book_it", by_hour)
            assert "on Monday at nine" in await answer(opened, "desk", "Monday")
            await offers("other")
            with pytest.raises(ToolError, match=r'desk\.booked: .* does not offer "book_it" any'):
                await answer(opened, "desk", "Monday")
            await offers("book_it", by_day)
            assert "on Monday" in await answer(opened, "desk", "Monday")
