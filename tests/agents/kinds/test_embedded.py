"""Each kind works on the embedded model: what its grammars promise holds, whatever it would say."""

import json
from pathlib import Path
from typing import Any

import pytest

from kickwheel.agents.events import Called, Chosen, Event, Finished
from kickwheel.app import App, open_app
from kickwheel.core.errors import ModelError
from kickwheel.models.chat import ChatRequest
from kickwheel.records import Message

APP = """
models:
  m: {kind: local, base: smollm2-135m, context: 2048}
tools:
  t:
    kind: python
    trusted: true
    effects: none
    functions: ['tests.agents.kinds.doing:book']
agents:
  loop: {kind: tool_loop, model: m, tools: [t], answer: result, description: Books rooms.}
  talk: {kind: tool_loop, model: m, max_tokens: 12, description: Small talk.}
  react: {kind: react, model: m, tools: [t], max_steps: 2, max_tokens: 300}
  code: {kind: code, model: m, tools: [t], max_tokens: 40}
  plan: {kind: plan, model: m, tools: [t], max_tokens: 300, replans: 0}
  router: {kind: router, model: m, agents: [loop, talk]}
  handoff: {kind: handoff, agents: [talk, loop], max_handoffs: 1}
  vote: {kind: vote, agents: [formed], samples: 2}
  human: {kind: human}
  formed:
    kind: tool_loop
    model: m
    output: {type: object, properties: {city: {enum: [Oslo, Rome]}}, required: [city]}
  graph:
    kind: graph
    nodes: {a: {agent: formed}, b: {agent: loop}, c: {agent: talk, task: "{a} {b}"}}
    edges: [{to: a}, {to: b}, {from: a, to: c}, {from: b, to: c}]
"""


async def events(app: App, name: str) -> list[Event]:
    agent: Any = app.model(name)
    asked = [Message(role="user", content="Book a room in Oslo.")]
    with_a_seed = ChatRequest(messages=(), temperature=0.0, seed=1)
    return [event async for event in agent.run(asked, with_a_seed)]


async def answered_or_told(app: App, name: str) -> bool:
    """So small a model may write neither a program nor a plan; then that is told as an error."""
    try:
        return end(await events(app, name)).why in ("answered", "length")
    except ModelError as error:
        return error.status == 502


def end(found: list[Event]) -> Finished:
    assert isinstance(found[-1], Finished)
    return found[-1]


@pytest.mark.slow
async def test_each_kind_works_on_the_embedded_model(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(APP, encoding="utf-8")
    async with open_app(tmp_path) as app:
        loop = await events(app, "loop")
        (called,) = (event.call for event in loop if isinstance(event, Called))
        city = json.loads(called.arguments)["city"]
        assert (called.name, end(loop).answer.content) == ("book", f"room in {city}")
        talk = end(await events(app, "talk"))
        assert talk.answer.content
        assert talk.why in ("answered", "length")
        formed = end(await events(app, "formed"))
        assert formed.answer.content in ('{"city":"Oslo"}', '{"city":"Rome"}')
        vote = end(await events(app, "vote"))
        assert vote.answer.content == formed.answer.content
        react = await events(app, "react")
        assert end(react).why in ("answered", "steps")
        assert {event.call.name for event in react if isinstance(event, Called)} <= {"book"}
        router = await events(app, "router")
        (chosen,) = (event.agent for event in router if isinstance(event, Chosen))
        assert chosen in ("loop", "talk")
        assert end(await events(app, "handoff")).answer.content
        assert end(await events(app, "graph")).answer.content
        assert end(await events(app, "human")).why == "waiting"
        for name in ("code", "plan"):
            assert await answered_or_told(app, name), name
