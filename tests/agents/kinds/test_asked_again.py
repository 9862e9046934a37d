"""A run that failed for a tool, and is asked for again under its key."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import desk

from kickwheel.core.errors import KickwheelError, ToolError
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.records import Message

APP = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
tools:
  t: {kind: python, effects: EFFECTS, functions: ['tests.agents.kinds.test_asked_again:stock']}
agents:
  tool_loop: {kind: tool_loop, model: m, tools: [t], answer: result}
  graph: {kind: graph, nodes: {a: {tool: t}}, edges: [{to: a}]}
  plan: {kind: plan, model: m, tools: [t], replans: 0, answer: step}
  nested: {kind: graph, nodes: {a: {agent: graph}}, edges: [{to: a}]}
"""
PLAN = {"steps": [{"id": "a", "what": "a", "call": "stock", "arguments": {}, "needs": []}]}
made: list[str] = []


def stock() -> str:
    """How much there is."""
    made.append("stock")
    if len(made) == 1:
        raise ToolError("the store is closed", lasting=True)
    return "7 chairs"


def says(body: dict[str, Any]) -> Any:
    return json.dumps(PLAN) if "response_format" in body else ("stock", {})


@pytest.mark.parametrize("name", ["tool_loop", "graph", "plan", "nested"])
@pytest.mark.parametrize("effects", ["none", "repeatable", "once"])
async def test_a_tool_that_a_run_failed_for_is_called_again_unless_it_must_not_be(
    tmp_path: Path, name: str, effects: str
) -> None:
    made.clear()
    question = ChatRequest(messages=(Message(role="user", content="How many chairs?"),))
    told: list[str] = []
    async with desk(tmp_path, says, APP.replace("EFFECTS", effects)) as (app, server):
        with acting_for(Caller(user="ann", key="k")):
            for _ in range(3):
                try:
                    told.append((await complete(app.model(name), question)).message.content or "")
                except KickwheelError as error:
                    told.append(f"error: {error}")
    first, *again = told
    assert "the store is closed" in first
    assert again == ([first] * 2 if effects == "once" else ["7 chairs"] * 2)
    assert len(made) == (1 if effects == "once" else 2)
    assert len(server.asked) == (0 if name in ("graph", "nested") else 1), "no model again"
