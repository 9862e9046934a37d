"""What would never end is stopped by each budget, and says which one it was."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import desk, events

from kickwheel.agents.events import Finished
from kickwheel.core.errors import ModelError
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.records import Message

APP = """
models:
  m: {kind: openai, model: m, base_url: URL, api_key: k, prices: {input: 1, output: 1}}
tools:
  t:
    kind: python
    trusted: true
    effects: none
    functions: ['tests.agents.kinds.doing:fare']
agents:
  loop: {kind: tool_loop, model: m, tools: [t], max_steps: 999999}
  first: {kind: tool_loop, model: m, tools: [t], max_steps: 999999}
  react: {kind: react, model: m, tools: [t], max_steps: 999999}
  outermost: {kind: KIND, LIMIT}
"""
KINDS = {
    "tool_loop": "tool_loop, model: m, tools: [t]",
    "react": "react, model: m, tools: [t]",
    "plan": "plan, model: m, agents: [loop]",
    "router": "router, agents: [loop, react], rules: [{match: zzz, agent: react}], otherwise: loop",
    "handoff": "handoff, agents: [first, loop]",
    "vote": "vote, agents: [loop], samples: 2",
    "code": "code, model: m, agents: [loop]",
    "graph": (
        "graph, nodes: {a: {model: m}, b: {model: m}}, max_rounds: 999999, "
        "edges: [{to: a}, {from: a, to: b}, {from: b, to: a, when: {contains: more}}]"
    ),
    "nested": "tool_loop, model: m, agents: [react]",
}
# Each call of the model uses 14 tokens, at a millionth of a dollar each.
LIMITS = {
    "steps": "max_steps: 5",
    "tokens": "max_steps: 999999, budget: {tokens: 60}",
    "cost": "max_steps: 999999, budget: {cost_usd: 0.00006}",
    "time": "max_steps: 999999, timeout_s: 0.3",
}


def say(body: dict[str, Any]) -> Any:
    names = [tool["function"]["name"] for tool in body.get("tools", [])]
    first, asked = str(body["messages"][0]["content"]), len(body["messages"])
    if "Action:" in first:
        return f'Action: fare\nInput: {{"start": "{"x" * asked}", "end": "y"}}'
    if "def loop" in first:
        return "```python\nawait loop(task='x')\n```"
    if "steps" in str(body.get("response_format")):
        step = {"id": "a", "what": "", "call": "loop", "arguments": {"task": "x"}, "needs": []}
        return json.dumps({"steps": [step]})
    if "fare" in names:
        return ("fare", {"start": "x" * asked, "end": "y"})
    return (names[0], {"task": "x" * asked}) if names else "more"


@pytest.mark.parametrize("why", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_never_ends_is_stopped_by_each_budget(
    tmp_path: Path, kind: str, why: str
) -> None:
    text = APP.replace("KIND", KINDS[kind]).replace("LIMIT", LIMITS[why])
    async with desk(tmp_path, say, text) as (app, server):
        end = (await events(app, "outermost", "Go."))[-1]
        asked = len(server.asked)
        with pytest.raises(ModelError) as raised:
            await complete(app.model("outermost"), ChatRequest(messages=(GO,)))
    assert isinstance(end, Finished)
    assert (end.why, end.answer.content) == (why, None)
    assert end.note
    assert raised.value.status == 504
    if why != "time":
        assert asked <= (6 if kind == "vote" else 5)


GO = Message(role="user", content="Go.")
