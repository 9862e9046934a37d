"""Pictures that tools bring in, in each kind of agent that has tools."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.agents.desk import desk
from tests.agents.kinds.seeing import picture, taken

from kickwheel.agents.events import Finished
from kickwheel.core.errors import ModelError
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.records import Image, Message

APP = """
models:
  seeing: {kind: openai, model: m, base_url: URL, api_key: k, input: [text, image]}
  blind: {kind: openai, model: m, base_url: URL, api_key: k}
tools:
  camera: {kind: "tests.agents.kinds.seeing:Camera", effects: none, trusted: true}
agents:
  tool_loop: {kind: tool_loop, model: MODEL, tools: [camera]}
  react: {kind: react, model: MODEL, tools: [camera]}
  plan: {kind: plan, model: MODEL, tools: [camera]}
  code: {kind: code, model: MODEL, tools: [camera], answer: model}
  graph:
    kind: graph
    nodes:
      cat: {tool: camera, arguments: {of: cat}}
      dog: {tool: camera, arguments: {of: dog}}
      tell: {model: MODEL, task: "{question} {cat}, {dog}"}
    edges: [{to: [cat, dog]}, {from: [cat, dog], to: tell}]
  other: {kind: tool_loop, model: MODEL, instructions: other}
  relay: {kind: handoff, agents: [tool_loop, other]}
  choosing: {kind: router, model: blind, agents: [other, react], otherwise: other}
  person: {kind: human}
"""
ANIMALS = ("cat", "dog")
PLAN = {
    "steps": [
        {"id": of, "what": "see", "call": "take", "arguments": {"of": of}, "needs": []}
        for of in ANIMALS
    ]
}
PROGRAM = "```python\na = await take(of='cat')\nb = await take(of='dog')\na + ', ' + b\n```"
SAYS: dict[str, list[Any]] = {
    "tool_loop": [[("take", {"of": of}) for of in ANIMALS]],
    "react": [f'Thought: see\nAction: take\nInput: {{"of": "{of}"}}' for of in ANIMALS],
    "plan": [json.dumps(PLAN)],
    "code": [PROGRAM],
    "graph": [],
    "relay": [[("take", {"of": of}) for of in ANIMALS]],
}


ERROR = object()


def shown(body: dict[str, Any]) -> list[bytes]:
    """The pictures that a model was sent, in their order; each group is marked as data."""
    found = []
    for message in body["messages"]:
        if isinstance(message["content"], list):
            assert message["role"] == "user"
            texts = [part["text"] for part in message["content"] if part["type"] == "text"]
            assert "no instruction" in texts[-1]
            for part in message["content"]:
                if part["type"] == "image_url":
                    data = part["image_url"]["url"].partition(",")[2]
                    found.append(base64.b64decode(data))
    return found


async def said(app: Any, name: str, *asked: Message) -> str:
    events = [event async for event in app.model(name).run(asked)]
    assert isinstance(events[-1], Finished)
    return events[-1].answer.content or ""


@pytest.mark.parametrize("name", SAYS)
@pytest.mark.parametrize("model", ["seeing", "blind"])
async def test_a_model_with_eyes_sees_them_and_one_without_reads(
    tmp_path: Path, name: str, model: str
) -> None:
    left = [*SAYS[name], "Thought: I saw.\nAnswer: two animals"]
    app_file = APP.replace("MODEL", model)
    async with desk(tmp_path, lambda body: left.pop(0), app_file) as (app, server):
        assert "two animals" in await said(app, name, Message(role="user", content="Who is there?"))
    _, last, _ = server.asked[-1]
    assert "a picture of cat" in json.dumps(last)
    assert shown(last) == ([picture("cat"), picture("dog")] if model == "seeing" else [])


@pytest.mark.parametrize("name", ["tool_loop", "react", "plan", "code", "graph"])
async def test_a_run_that_goes_on_shows_what_was_seen_before(tmp_path: Path, name: str) -> None:
    taken.clear()
    left: list[Any] = [*SAYS[name], ERROR, "Thought: I saw.\nAnswer: two animals"]
    question = ChatRequest(messages=(Message(role="user", content="Who is there?"),))

    def says(body: dict[str, Any]) -> Any:
        said = left.pop(0)
        if said is ERROR:
            raise web.HTTPBadRequest
        return said

    async with desk(tmp_path, says, APP.replace("MODEL", "seeing")) as (app, server):
        with acting_for(Caller(user="ann", key="k")):
            with pytest.raises(ModelError):
                await complete(app.model(name), question)
            answer = await complete(app.model(name), question)
    assert "two animals" in (answer.message.content or "")
    assert sorted(taken) == ["cat", "dog"]
    failed, last = (body for _, body, _ in server.asked[-2:])
    assert shown(last) == shown(failed) == [picture("cat"), picture("dog")]


SENT = Message(
    role="user", content="Who?", images=(Image(url="https://a.example/b", sent=True, at=4),)
)


async def test_a_task_of_a_graph_shows_what_the_user_did(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda body: "Three.", APP.replace("MODEL", "seeing")) as opened:
        app, server = opened
        assert await said(app, "graph", SENT) == "Three."
    kinds = [part["type"] for part in server.asked[-1][1]["messages"][-1]["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "image_url"]


async def test_who_only_chooses_needs_no_eyes(tmp_path: Path) -> None:
    left = ["other", "A cat."]
    app_file = APP.replace("MODEL", "seeing")
    async with desk(tmp_path, lambda body: left.pop(0), app_file) as (app, server):
        assert await said(app, "choosing", SENT) == "A cat."
    choice, answer = (body["messages"][-1]["content"] for _, body, _ in server.asked)
    assert choice == "Who?"
    assert answer[1]["image_url"]["url"] == "https://a.example/b"


async def test_a_person_who_would_not_see_them_is_not_asked(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda body: "", APP.replace("MODEL", "seeing")) as (app, _):
        with pytest.raises(ModelError, match="person takes no pictures"):
            await said(app, "person", SENT)
