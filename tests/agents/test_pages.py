"""The code on the pages about agents and tools runs, and their YAML is a valid app."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import desk, events
from tests.agents.kinds import doing

from kickwheel.agents import Called, Event, Finished, Returned, Text, planned, transcript
from kickwheel.agents.ask import Answered
from kickwheel.agents.stubs import stubs
from kickwheel.agents.tools.monty import Function, run_program
from kickwheel.agents.tools.python import from_function
from kickwheel.app import check_app
from kickwheel.models.chat import Usage
from kickwheel.records import Message, ToolCall, ToolSpec

DOCS = Path(__file__).parents[2] / "docs"


def block(page: str, language: str, number: int = 0) -> str:
    text = (DOCS / page).read_text("utf-8")
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return found[number]


def run(page: str, number: int = 0) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block(page, "python", number), page, "exec"), names)
    return names


ELSEWHERE = {("bridges/README.md", "desk"), ("import-nat.md", "MODULE")}
"""Pages whose file is told of under several frameworks, and a placeholder."""


def test_a_function_that_a_page_names_stands_in_the_file_that_it_shows() -> None:
    shown = 0
    for page in DOCS.rglob("*.md"):
        text = page.read_text("utf-8")
        files = dict(re.findall(r"```python\n# (\w+)\.py.*\n((?s:.*?))```", text))
        for names in re.findall(r"functions: \[(.*?)\]", text):
            for module, name in re.findall(r"(\w+):(\w+)", names):
                where = str(page.relative_to(DOCS)), module
                if where not in ELSEWHERE:
                    assert f"def {name}(" in files.get(module, ""), f"{page.name}: {module}:{name}"
                    shown += 1
    assert shown >= 8


async def test_the_function_on_the_page_is_a_tool() -> None:
    tool = from_function(run("tools/python.md")["book_room"])
    assert list(tool.spec.parameters["properties"]) == ["room", "nights", "bed"]
    assert await tool.call({"room": "12", "nights": 2}) == "Room 12 is yours for 2 nights."


async def test_the_loop_on_the_page_shows_what_an_agent_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ToolCall(id="1", name="weather", arguments='{"city": "Oslo"}')
    answer = Message(role="assistant", content="Sunny.")

    class Agent:
        async def run(self, messages: object) -> AsyncIterator[Event]:
            yield Called(call)
            yield Returned(call, "sun")
            yield Text("Sunny.")
            yield Finished(why="answered", answer=answer, usage=Usage(output_tokens=3), steps=2)

    await run("agents/tool_loop.md", 1)["watch"](Agent(), [])
    said = '→ weather {"city": "Oslo"}\n← sun\nSunny.answered 3\n'
    assert capsys.readouterr().out == said


def test_the_yaml_on_the_pages_is_a_valid_app(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(
        "models:\n  general: {kind: openai, model: any}\n" + block("tools/python.md", "yaml"),
        encoding="utf-8",
    )
    assert len(check_app(tmp_path).parts) == 2


PAGES = [
    *("README", "tool_loop", "react", "code", "plan", "router", "graph", "handoff", "vote"),
    *("human", "output"),
]


@pytest.mark.parametrize("kind", PAGES)
def test_the_app_on_the_page_is_valid(tmp_path: Path, kind: str) -> None:
    (tmp_path / "app.yml").write_text(block(f"agents/{kind}.md", "yaml"), encoding="utf-8")
    assert check_app(tmp_path).parts


FILES = {
    "travel.py": "from tests.agents.kinds.doing import fare, weather\n",
    "services.py": "from tests.agents.kinds.doing import book as find_room\n",
    "billing.py": "from tests.agents.kinds.doing import book\n",
    "shop.yaml": "openapi: 3.0.0\npaths: {}\n",
}
"""What pages speak of and do not show."""


def says(body: dict[str, Any]) -> str:
    """What a model may answer to whatever the agents of the pages ask."""
    form = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    known = form.get("properties", {})
    if "label" in known:
        return json.dumps({"label": known["label"]["enum"][0]})
    if known:
        return json.dumps({"steps": []} if "steps" in known else {"total": 1.5, "to": "Ann"})
    if "JSON of this schema" in str(body["messages"][-1]["content"]):
        return '{"total": 1.5, "to": "Ann"}'
    return "Answer: yes"


@pytest.mark.parametrize("kind", PAGES)
async def test_every_agent_on_the_page_answers(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    named = r"\{kind: (?:openai|local)(?:[^{}]|\{[^{}]*\})*\}"
    app = re.sub(named, OF_THE_TEST, block(f"agents/{kind}.md", "yaml"))
    async with desk(tmp_path, says, app) as (opened, server):
        names = [name for shelf, name in opened.plan.parts if shelf == "agents"]
        for name in names:
            asked = len(server.asked)
            found = await events(opened, name, "Hello")
            assert isinstance(found[-1], Finished)
            # A person has not answered yet; all else has, after it asked a model.
            why = "waiting" if kind == "human" and name == "doctor" else "answered"
            assert found[-1].why == why, name
            assert (len(server.asked) > asked) == (why == "answered")
    assert names


OF_THE_TEST = "{kind: openai, model: m, base_url: URL, api_key: k, prices: {input: 1, output: 2}}"


def test_the_step_on_the_page_is_read_as_a_call() -> None:
    read = transcript.read(block("agents/react.md", "text"), [ToolSpec(name="weather")])
    assert read == transcript.Act("I need the weather there.", "weather", '{"city": "Oslo"}')


async def test_the_program_on_the_page_runs() -> None:
    functions: dict[str, Function] = {"fare": doing.fare}
    outcome = await run_program(block("agents/code.md", "python", 1), functions)
    assert outcome.value == [16, ["Oslo", "Bern"]]
    stub = stubs([from_function(doing.fare).spec])["fare"]
    assert stub.text == block("agents/code.md", "text").rstrip()


def test_the_plan_on_the_page_can_be_carried_out() -> None:
    plan = json.loads(block("agents/plan.md", "json"))
    tools = {"fare": from_function(doing.fare).spec, "hotels": ToolSpec(name="hotels")}
    steps = [planned.step(entry) for entry in plan["steps"]]
    assert list(planned.wrong(steps, tools, ())) == []
    assert [sorted(step.needs) for step in steps] == [[], [], ["back", "there"]]


def test_the_model_on_the_page_reads_the_answer() -> None:
    answered = Answered(
        answer='{"total": 12.5, "to": "Ann"}',
        calls=(),
        trace="",
        prompt_tokens=1,
        output_tokens=1,
        seconds=0.1,
    )
    assert run("agents/output.md")["owed"](answered) == 12.5


def test_the_agents_of_the_readme_are_a_valid_app(tmp_path: Path) -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    part = next(b for b in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "human" in b)
    (tmp_path / "app.yml").write_text(part, encoding="utf-8")
    (tmp_path / "shop.yaml").write_text("openapi: 3.0.0\npaths: {}\n", encoding="utf-8")
    assert len(check_app(tmp_path).parts) == 10
