"""The helpdesk, on the real package: its traffic, its tools, and the way to a desk."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import desk, last

from kickwheel.agents.ask import ask
from kickwheel.app import check_app
from kickwheel.core.store import open_store
from kickwheel.flywheel.curate import Options, curate
from kickwheel.records import Message
from kickwheel.trace import chatlog
from kickwheel.trace.store import Traces

BLUEPRINT = Path(__file__).parents[2] / "blueprints" / "helpdesk"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("helpdesk")
    shutil.copytree(BLUEPRINT, copy, dirs_exist_ok=True)
    sys.path.insert(0, str(BLUEPRINT))
    return copy


def test_customers_say_what_they_are_told_to_want(folder: Path) -> None:
    import tickets

    assert tickets.said("You want your money. You're angry.") == "I want my money. I'm angry."
    lines = [json.loads(x) for x in tickets.write(folder).read_text("utf-8").splitlines()]
    answers = [line["messages"][-1]["content"] for line in lines]
    assert (answers.count("retail"), answers.count("airline")) == (113, 49)
    assert not any(" your " in line["messages"][1]["content"] for line in lines)


def test_the_routers_traffic_makes_a_dataset_of_labels(folder: Path, tmp_path: Path) -> None:
    import tickets

    with open_store(tmp_path / "store") as store:
        traces = Traces(store)
        chatlog.import_(tickets.write(folder), traces, workload="helpdesk")
        made = curate(
            traces.all("helpdesk"),
            Options(name="helpdesk/routing", agent="helpdesk", test=60, kind="label"),
        )
    assert len(made.part("test")) == 60
    assert {example.answer.content for example in made.examples} == {"retail", "airline"}
    assert made.cleanliness is not None


async def test_a_question_goes_to_its_desk_which_calls_its_tools_under_its_policy(
    folder: Path, tmp_path: Path
) -> None:
    text = (folder / "app.yml").read_text("utf-8")
    parts = text[text.index("tools:") : text.index("flywheel:")]
    models = "models:\n" + "".join(
        f"  {name}: {{kind: openai, model: m, base_url: URL, api_key: k}}\n"
        for name in ("general", "routing")
    )
    seen: list[str] = []

    def say(body: dict[str, Any]) -> Any:
        system = str(body["messages"][0]["content"])
        if system.startswith("Who should answer"):
            return '{"label": "airline"}'
        seen.append(system)
        if body["messages"][-1]["role"] == "tool":
            return f"found: {last(body)[:400]}"
        return ("get_user_details", {"user_id": "emma_kim_9957"})

    async with desk(folder, say, models + parts) as (app, _):
        question = [Message(role="user", content="I am emma_kim_9957. Cancel my flight.")]
        answered = await ask(app.model("helpdesk"), question, app.recorder)
    assert "Emma" in answered.answer
    assert [call.name for call in answered.calls] == ["get_user_details"]
    assert seen[0].startswith("# Airline Agent Policy")


def test_the_blueprint_is_a_valid_app() -> None:
    plan = check_app(BLUEPRINT)
    assert plan.loop.agent == "helpdesk"
    assert ("tools", "shop") in plan.parts
