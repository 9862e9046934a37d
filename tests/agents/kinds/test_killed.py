"""Each kind is killed whenever it asks a model something new, and asked again under its key."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.agents.desk import desk, reply
from tests.models.loopback import loopback

import kickwheel

REPOSITORY = Path(__file__).parents[3]
APP = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
tools:
  t: {kind: python, effects: once, functions: ['tests.agents.kinds.killed_tool:note']}
agents:
  react: {kind: react, model: m, tools: [t]}
  code: {kind: code, model: m, tools: [t], answer: model}
  plan: {kind: plan, model: m, tools: [t]}
  vote: {kind: vote, agents: [react], samples: 2, agree: 1}
  loop: {kind: tool_loop, model: m, tools: [t]}
  route: {kind: router, agents: [loop, react], model: m}
  first: {kind: tool_loop, model: m}
  hand: {kind: handoff, agents: [first, loop]}
  graph:
    kind: graph
    nodes:
      a: {model: m, task: a}
      note: {tool: t, arguments: {text: "{a}"}}
      z: {model: m, task: "z {note}"}
    edges: [{to: a}, {from: a, to: note}, {from: note, to: z}]
"""
NOTES = {
    "react": ["2", "4"],
    "code": ["a", "b", "noted a", "noted b"],
    "plan": ["a", "b", "noted a"],
    "vote": [],
    "loop": ["1", "3"],
    "route": ["1", "3"],
    "hand": ["3", "5"],
    "graph": ["a"],
}
STEPS = [
    {"id": "a", "what": "a", "call": "note", "arguments": {"text": "a"}, "needs": []},
    {"id": "b", "what": "b", "call": "note", "arguments": {"text": "b"}, "needs": []},
    {"id": "c", "what": "c", "call": "note", "arguments": {"text": "${a}"}, "needs": ["b"]},
]
PROGRAM = """```python
import asyncio

async def twice(text):
    return await note(text=await note(text=text))

await asyncio.gather(twice("a"), twice("b"))
```"""


def says(name: str, body: dict[str, Any]) -> Any:
    asked = len(body["messages"])
    if name == "graph":
        return "a" if body["messages"][-1]["content"] == "a" else "Done."
    if name in ("loop", "route", "hand"):
        tools = [tool["function"]["name"] for tool in body.get("tools", [])]
        if not tools:
            return '{"label": "loop"}'
        if "note" not in tools:
            return ("hand_to_loop", {"reason": "it notes"})
        more = asked < (7 if name == "hand" else 5)
        return ("note", {"text": str(asked)}) if more else "Done."
    if name == "plan":
        return json.dumps({"steps": STEPS}) if "response_format" in body else "Done."
    if name == "code":
        return PROGRAM if asked == 2 else "Done."
    if name == "react" and asked < 6:
        return f'Action: note\nInput: {{"text": "{asked}"}}'
    return "Answer: Done."


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTES)
async def test_it_ends_with_its_answer_and_nothing_was_done_twice(
    tmp_path: Path, name: str
) -> None:
    await killed_until_it_ends(tmp_path, name, APP)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTES)
async def test_it_does_on_postgres_too(tmp_path: Path, name: str, postgres_url: str) -> None:
    await killed_until_it_ends(tmp_path, name, f"{APP}store: {json.dumps(postgres_url)}\n")


async def killed_until_it_ends(tmp_path: Path, name: str, app: str) -> None:
    children: list[asyncio.subprocess.Process] = []
    seen: set[str] = set()

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = json.dumps(body, sort_keys=True)
        if key not in seen:
            seen.add(key)
            os.kill(children[-1].pid, signal.SIGKILL)
            await asyncio.sleep(5)
        return await reply(request, body, says(name, body))

    async with asyncio.timeout(120), loopback(answer) as server:
        (tmp_path / "app.yml").write_text(app.replace("URL", f"{server.url}/v1"))
        while True:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kickwheel.cli", "run", "app.yml", "Note it, please."),
                *("--as", name, "--key", "k", "--json"),
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            children.append(child)
            out, err = await child.communicate()
            if child.returncode != -signal.SIGKILL:
                break
    assert child.returncode == 0, err.decode()
    assert json.loads(out)["answer"] == "Done."
    noted = tmp_path / "noted"
    assert (sorted(noted.read_text().splitlines()) if noted.exists() else []) == NOTES[name]
    # Requests that were made at once may have died together.
    assert 1 < len(children) <= len(seen) + 1


@pytest.mark.parametrize("name", ["react", "code", "plan"])
async def test_calls_that_a_person_must_allow_wait_for_them_in_each_kind(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = APP.replace("effects: once", "effects: once, confirm: true")

    async with desk(tmp_path, lambda body: says(name, body), text):
        monkeypatch.chdir(tmp_path)
        await asyncio.to_thread(kickwheel.run, tmp_path, "Note it, please.", name=name)
        for _ in range(9):
            (standing,) = await asyncio.to_thread(kickwheel.runs, tmp_path)
            if standing.state != "waiting":
                break
            asked = standing.questions[0]
            assert "May note be called with" in asked.text
            await asyncio.to_thread(
                kickwheel.answer, tmp_path, standing.id, "yes", question=asked.path
            )
    assert (standing.state, standing.answer) == ("done", "Done.")
    noted = (tmp_path / "noted").read_text().splitlines()
    assert sorted(noted) == NOTES[name]
