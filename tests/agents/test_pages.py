"""The code on the pages about agents and tools runs, and their YAML is a valid app."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
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


def block(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def run(page: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block(page, "python"), page, "exec"), names)
    return names


def test_a_function_that_a_page_names_stands_in_the_file_that_it_shows() -> None:
    shown = 0
    for page in DOCS.rglob("*.md"):
        text = page.read_text("utf-8")
        files = dict(re.findall(r"```python\n# (\w+)\.py.*\n((?s:.*?))```", text))
        for names in re.findall(r"functions: \[(.*?)\]", text):
            for module, name in re.findall(r"(\w+):(\w+)", names):
                if module in files:
                    assert f"def {name}(" in files[module], f"{page.name}: {module}:{name}"
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

    await run("agents/tool_loop.md")["watch"](Agent(), [])
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


def test_the_step_on_the_page_is_read_as_a_call() -> None:
    read = transcript.read(block("agents/react.md", "text"), [ToolSpec(name="weather")])
    assert read == transcript.Act("I need the weather there.", "weather", '{"city": "Oslo"}')


async def test_the_program_on_the_page_runs() -> None:
    functions: dict[str, Function] = {"fare": doing.fare}
    outcome = await run_program(block("agents/code.md", "python"), functions)
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
