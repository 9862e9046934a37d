"""Each kind is killed in each call of a tool, before the tool acts and after it acted."""

import asyncio
import json
import multiprocessing
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.agents.desk import reply
from tests.agents.kinds.deadly import live
from tests.agents.kinds.test_killed import APP, NOTES, says
from tests.models.loopback import loopback

import kickwheel
from kickwheel.core.journal import Question

KINDS = ("code", "graph", "handoff", "human", "plan", "react", "router", "tool_loop", "vote")
PROCESSES = multiprocessing.get_context("forkserver")
# Four fifths of a life would be imports: what all lives use is there before they begin.
PROCESSES.set_forkserver_preload(
    [
        "tests.agents.kinds.deadly",
        "kickwheel.app",
        "kickwheel.agents.tools.python",
        "kickwheel.models.client",
        "psycopg",
        *(f"kickwheel.agents.kinds.{kind}" for kind in KINDS),
    ]
)
DEADLY = (
    APP.replace("killed_tool", "deadly")
    + "  person: {kind: human, choices: ['yes', 'no']}\n"
    + "  asks: {kind: tool_loop, model: m, agents: [person], tools: [t]}\n"
)
NOTED = NOTES | {"vote": ["2", "2", "4", "4"], "asks": ["3"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTED)
async def test_a_call_that_must_not_be_made_twice_is_asked_about_and_made_once(
    tmp_path: Path, name: str
) -> None:
    asked = await killed_in_each_call(tmp_path, name, DEADLY)
    assert sorted(noted(tmp_path, text=True)) == NOTED[name]
    # Before it acted, and after it acted, of each call.
    assert sum("may have been made" in question.text for question in asked) >= 2 * len(NOTED[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTED)
async def test_a_call_that_may_be_repeated_is_repeated_with_the_same_key(
    tmp_path: Path, name: str
) -> None:
    app = DEADLY.replace("effects: once", "effects: repeatable")
    asked = await killed_in_each_call(tmp_path, name, app)
    assert not [question for question in asked if "may have been made" in question.text]
    made = Counter(noted(tmp_path))
    assert sorted(line.partition("\t")[2] for line in made) == NOTED[name]
    assert len({line.partition("\t")[0] for line in made}) == len(made)
    assert min(made.values()) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTED)
@pytest.mark.parametrize("effects", ["once", "repeatable"])
async def test_it_is_so_on_postgres_too(
    tmp_path: Path, name: str, effects: str, postgres_url: str
) -> None:
    app = f"{DEADLY}store: {json.dumps(postgres_url)}\n".replace(
        "effects: once", f"effects: {effects}"
    )
    await killed_in_each_call(tmp_path, name, app)
    lines = noted(tmp_path)
    made = lines if effects == "once" else set(lines)  # The same key is the same call.
    assert sorted(line.partition("\t")[2] for line in made) == NOTED[name]


@pytest.mark.slow
async def test_who_said_yes_to_a_call_is_asked_only_whether_it_was_made(tmp_path: Path) -> None:
    app = DEADLY.replace("effects: once", "effects: once, confirm: true")
    asked = await killed_in_each_call(tmp_path, "loop", app)
    assert sorted(noted(tmp_path, text=True)) == NOTED["loop"]
    confirmed = [question.path for question in asked if "May note be called" in question.text]
    assert len(confirmed) == len(set(confirmed)) == len(NOTED["loop"])


async def killed_in_each_call(folder: Path, name: str, app: str) -> list[Question]:
    """What persons were asked until the agent had its answer; each of them looked, and told the
    truth."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await reply(request, body, said_by(name, body))

    asked: list[Question] = []
    async with asyncio.timeout(120), loopback(answer) as server:
        (folder / "app.yml").write_text(app.replace("URL", f"{server.url}/v1"))
        said = None
        while True:
            child = PROCESSES.Process(target=live, args=(str(folder), name, said))
            child.start()
            await asyncio.to_thread(child.join)
            assert child.exitcode in (0, -signal.SIGKILL)
            (standing,) = await asyncio.to_thread(kickwheel.runs, folder)
            said = None
            if standing.state == "done":
                break
            if standing.questions and child.exitcode == 0:
                question = standing.questions[0]
                asked.append(question)
                said = (standing.id, question.path, truth(folder, question))
    assert standing.answer == "Done."
    return asked


def said_by(name: str, body: dict[str, Any]) -> Any:
    if name == "vote":
        return says("react", body)
    if name != "asks":
        return says(name, body)
    calls = {1: ("person", {"task": "May I?"}), 3: ("note", {"text": "3"})}
    return calls.get(len(body["messages"]), "Done.")


def truth(folder: Path, question: Question) -> str:
    """What somebody answers who looks whether the call was made."""
    if "may have been made" not in question.text:
        return "yes"
    key = f"{question.run}/{question.path.removesuffix('?')}"
    made = [line.partition("\t")[2] for line in noted(folder) if line.startswith(f"{key}\t")]
    return f"done: noted {made[0]}" if made else "again"


def noted(folder: Path, *, text: bool = False) -> list[str]:
    """A line for each time that the tool acted; `text`: without its key."""
    file = folder / "noted"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.partition("\t")[2] for line in lines] if text else lines
