"""Agents at work with the tools of an MCP server that changes."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import desk

from kickwheel.agents.ask import ask
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
