"""Each kind of agent works inside each other kind, and inside itself."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import desk, events, last

from kickwheel.agents.events import Finished

INNER = {
    "tool_loop": "{kind: tool_loop, model: says}",
    "react": "{kind: react, model: steps}",
    "code": "{kind: code, model: writes}",
    "plan": "{kind: plan, model: plans}",
    "router": "{kind: router, agents: [leaf, other], rules: [{match: x, agent: other}], "
    "otherwise: leaf}",
    "graph": "{kind: graph, nodes: {only: {model: says}}, edges: [{to: only}]}",
    "handoff": "{kind: handoff, agents: [leaf, other]}",
    "vote": "{kind: vote, model: says, samples: 2}",
}
OUTER = {
    "tool_loop": "{kind: tool_loop, model: asks, agents: [INNER]}",
    "react": "{kind: react, model: asks, agents: [INNER]}",
    "code": "{kind: code, model: asks, agents: [INNER]}",
    "plan": "{kind: plan, model: asks, agents: [INNER], answer: step}",
    "router": "{kind: router, agents: [INNER, other], rules: [{match: x, agent: other}], "
    "otherwise: INNER}",
    "graph": "{kind: graph, nodes: {a: {agent: INNER}, b: {model: echoes, task: '{a}'}}, "
    "edges: [{to: a}, {from: a, to: b}]}",
    "handoff": "{kind: handoff, agents: [front, INNER]}",
    "vote": "{kind: vote, agents: [INNER], samples: 2}",
}
MODELS = ("says", "steps", "writes", "plans", "asks", "echoes")


def app(outer: str) -> str:
    model = "{kind: openai, model: NAME, base_url: URL, api_key: k}"
    agents = {
        "leaf": "{kind: tool_loop, model: says, description: knows it}",
        "other": "{kind: tool_loop, model: echoes}",
        "front": "{kind: tool_loop, model: asks}",
        **{f"in_{kind}": lines for kind, lines in INNER.items()},
        **{f"of_{kind}": OUTER[outer].replace("INNER", f"in_{kind}") for kind in INNER},
    }
    lines = ["models:", *(f"  {name}: {model.replace('NAME', name)}" for name in MODELS)]
    return "\n".join([*lines, "agents:", *(f"  {name}: {own}" for name, own in agents.items())])


def asked(outer: str, inner: str, body: dict[str, Any]) -> Any:
    """What the outer agent's model says: it asks the inner agent once, and tells its answer."""
    if len(body["messages"]) > 2:
        return last(body)
    match outer:
        case "react":
            return f'Action: {inner}\nInput: {{"task": "go"}}'
        case "code":
            return f'```python\nanswer(await {inner}(task="go"))\n```'
        case "plan":
            step = {"id": "a", "what": "a", "call": inner, "arguments": {"task": "go"}, "needs": []}
            return json.dumps({"steps": [step]})
        case "handoff":
            return f"hand_to_{inner}", {"reason": "it knows"}
    return inner, {"task": "go"}


@pytest.mark.parametrize("outer", OUTER)
async def test_each_kind_has_each_other_kind_work_for_it(tmp_path: Path, outer: str) -> None:
    inner = ""

    def say(body: dict[str, Any]) -> Any:
        match body["model"]:
            case "steps":
                return "Answer: It is 42."
            case "writes":
                return '```python\nanswer("It is " + str(6 * 7) + ".")\n```'
            case "plans":
                return '{"steps": []}' if "response_format" in body else "It is 42."
            case "asks":
                said = asked(outer, inner, body)
                result = re.fullmatch(r"Observation: (.*)", said) if isinstance(said, str) else None
                return f"Answer: {result[1]}" if result else said
            case "echoes":
                return last(body)
        return "It is 42."

    told: dict[str, str | None] = {}
    async with desk(tmp_path, say, app(outer)) as (opened, _):
        for kind in INNER:
            inner = f"in_{kind}"
            end = (await events(opened, f"of_{kind}", "go"))[-1]
            assert isinstance(end, Finished)
            told[kind] = end.answer.content or end.note
    assert told == dict.fromkeys(INNER, "It is 42.")
