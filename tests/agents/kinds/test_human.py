import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import desk, last

import kickwheel
from kickwheel.app import resumed
from kickwheel.core.errors import ModelError, UsageError
from kickwheel.records import Message

DOCTOR = """
models:
  m: {kind: openai, model: m, base_url: URL, api_key: k}
agents:
  doctor: {kind: human, description: a doctor, question: "A patient asks: {question}"}
  desk: {kind: tool_loop, model: m, agents: [doctor]}
"""
CHOICE = """
agents:
  boss: {kind: human, choices: [approve, reject]}
"""


def say(body: dict[str, Any]) -> Any:
    if body["messages"][-1]["role"] == "tool":
        return f"The doctor says: {last(body)}"
    return ("doctor", {"task": "How many tablets?"})


def test_a_run_waits_for_a_person_and_goes_on_days_later(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(CHOICE, encoding="utf-8")
    asked = kickwheel.run(tmp_path, "Refund 400 EUR?")
    assert asked.answer == ""
    (run,) = kickwheel.runs(tmp_path)
    assert (run.state, run.questions[0].text) == ("waiting", "Refund 400 EUR?")
    with pytest.raises(UsageError, match="approve, reject"):
        kickwheel.answer(tmp_path, run.id, "perhaps")
    done = kickwheel.answer(tmp_path, run.id[:8], "Approve")
    assert (done.state, done.answer) == ("done", "approve")
    with pytest.raises(UsageError, match="waits for no answer"):
        kickwheel.answer(tmp_path, run.id, "reject")


async def test_an_agent_asks_a_person_and_makes_no_call_twice(tmp_path: Path) -> None:
    async with desk(tmp_path, say, DOCTOR) as (app, server):
        agent: Any = app.model("desk")
        found = [e async for e in agent.run([Message(role="user", content="I have a headache")])]
        assert found[-1].why == "waiting"
        assert len(server.asked) == 1
        await app.keeper.answer(found[-1].run, "Two a day.")
        run = app.store.runs.named(found[-1].run)
        end = await resumed(app, run)
    assert end.answer.content == "The doctor says: Two a day."
    assert len(server.asked) == 2


def test_a_cancelled_run_waits_no_more(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(CHOICE, encoding="utf-8")
    kickwheel.run(tmp_path, "Really?")
    (run,) = kickwheel.runs(tmp_path)
    assert kickwheel.cancel(tmp_path, run.id).state == "cancelled"
    with pytest.raises(UsageError):
        kickwheel.answer(tmp_path, run.id, "approve")


STEPS = """
agents:
  trip:
    kind: graph
    nodes:
      book: {tool: desk, call: book}
      die: {tool: desk, call: die}
      say: {tool: desk, call: bill, arguments: {of: "{book}"}}
    edges: [{to: book}, {from: book, to: die}, {from: die, to: say}]
tools:
  desk: {kind: python, functions: ["deskwork:book", "deskwork:die", "deskwork:bill"]}
  """
CODE = """
import os, signal
from pathlib import Path
HERE = Path(__file__).parent
def book() -> str:
    with open(HERE / "booked", "a") as file:
        file.write("x")
    return "room 12"
def die() -> str:
    if not (HERE / "died").exists():
        (HERE / "died").write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return ""
def bill(of: str) -> str:
    return f"bill of {of}"
"""


def test_a_killed_run_goes_on_and_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    (tmp_path / "deskwork.py").write_text(CODE, encoding="utf-8")
    (tmp_path / "app.yml").write_text(STEPS, encoding="utf-8")
    program = Path(sys.executable).with_name("kickwheel")
    command = [str(program), "run", str(tmp_path), "go", "--key", "k1"]
    killed = subprocess.run(command, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (run,) = kickwheel.runs(tmp_path)
    assert run.state == "running"
    # `die` may have run, and is not known to be harmless twice: a person is asked.
    waits = kickwheel.resume(tmp_path, run.id)
    assert waits.state == "waiting"
    assert "die" in waits.questions[0].text
    done = kickwheel.answer(tmp_path, run.id, "again")
    assert (done.state, done.answer) == ("done", "bill of room 12")
    assert (tmp_path / "booked").read_text() == "x"
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["answer"] == "bill of room 12"
    assert (tmp_path / "booked").read_text() == "x"


FORMED = """
agents:
  boss:
    kind: human
    output: "forms:Refund"
"""
FORMS = """
from pydantic import BaseModel, Field
class Refund(BaseModel):
    total: int = Field(ge=10)
"""


def test_a_run_that_goes_on_still_wants_the_form_that_it_was_begun_with(tmp_path: Path) -> None:
    (tmp_path / "forms.py").write_text(FORMS, encoding="utf-8")
    (tmp_path / "app.yml").write_text(FORMED, encoding="utf-8")
    kickwheel.run(tmp_path, "How much?")
    (run,) = kickwheel.runs(tmp_path)
    with pytest.raises(ModelError, match='"total" must be at least 10, not 3'):
        kickwheel.answer(tmp_path, run.id, '{"total": 3}')


def test_an_empty_answer_is_none(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(CHOICE, encoding="utf-8")
    kickwheel.run(tmp_path, "Really?")
    (run,) = kickwheel.runs(tmp_path)
    with pytest.raises(UsageError, match="empty"):
        kickwheel.answer(tmp_path, run.id, " ")
