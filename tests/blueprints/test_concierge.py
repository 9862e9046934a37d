"""The concierge as an agent: its services, its world, and the loop from a question to an answer."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kickwheel.agents.tools import calling
from kickwheel.agents.tools.schema import mistakes
from kickwheel.app import check_app, open_app
from kickwheel.cli import group
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import code
from kickwheel.records import ToolCall

CONCIERGE = Path(__file__).parents[2] / "blueprints" / "concierge"
QUESTION = "Find a music event in New York on March 25th 2023"
CALL = {"event_type": "Music", "city": "New York, NY", "date": "2023-03-25"}

SCRIPTED = '''
"""A model that always writes the call that the specialist should."""

from contextlib import asynccontextmanager

from kickwheel import Part
from kickwheel.models.chat import CallDelta, Done, Usage


class Scripted(Part):
    call: str

    @asynccontextmanager
    async def open(self, context):
        name, _, arguments = self.call.partition(" ")
        yield Model(context.name, name, arguments)


class Model:
    def __init__(self, name, tool, arguments):
        self.name, self.tool, self.arguments = name, tool, arguments

    async def stream(self, request):
        yield CallDelta(0, self.arguments, "call_0", self.tool)
        yield Done("tool_calls", Usage(prompt_tokens=35, output_tokens=20))
'''


def tool(name: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "description": f"{name}.", "parameters": parameters}
    return {"type": "function", "function": function}


EVENTS = tool(
    "Events_3_FindEvents",
    event_type={"type": "string", "enum": ["Music", "Theater"]},
    city={"type": "string"},
    date={"type": "string"},
)
OTHER_EVENTS = tool("Events_3_FindEvents", city={"type": "string"})
WEATHER = tool("Weather_1_GetWeather", city={"type": "string"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the blueprint whose specialist is scripted."""
    folder = tmp_path / "concierge"
    shutil.copytree(CONCIERGE, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    (folder / "scripted.py").write_text(SCRIPTED)
    app = (folder / "app.yml").read_text(encoding="utf-8")
    before, _, rest = app.partition("models:\n")
    call = f"Events_3_FindEvents {json.dumps(CALL)}"
    models = f"models:\n  specialist: {{kind: scripted:Scripted, call: {call!r}}}\n"
    agents = rest[rest.index("tools:") : rest.index("flywheel:")]
    (folder / "app.yml").write_text(before + models + agents, encoding="utf-8")
    return folder


def set_up(folder: Path, *offers: list[dict[str, Any]]) -> None:
    lines = [json.dumps({"messages": [], "tools": tools}) for tools in offers]
    store = folder / ".kickwheel"
    store.mkdir()
    (store / "concierge.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_run_prints_the_call_and_the_answer(folder: Path) -> None:
    set_up(folder, [EVENTS, WEATHER])
    ran = CliRunner().invoke(group, ["run", str(folder), QUESTION], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "Events_3_FindEvents" in ran.output
    assert '"New York, NY"' in ran.output
    assert "Music events in New York, NY on March 25, 2023: " in ran.output


def test_before_the_set_up_the_error_says_how_to_do_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))
    ran = CliRunner().invoke(group, ["run", str(folder), QUESTION])
    assert ran.exit_code != 0
    told = ran.output + str(ran.exception)
    assert "the services are not set up yet" in told
    assert f"kickwheel turn {folder}" in told


async def test_each_service_is_offered_once_with_its_most_frequent_schema(folder: Path) -> None:
    set_up(folder, [OTHER_EVENTS, WEATHER], [EVENTS], [WEATHER, EVENTS])
    async with open_app(folder) as app:
        tools = app.live["agents", "concierge"].tools
    assert [spec.name for spec in tools] == ["Events_3_FindEvents", "Weather_1_GetWeather"]
    assert tools[0].parameters == EVENTS["function"]["parameters"]
    assert list(tools[0].parameters["properties"]) == ["event_type", "city", "date"], "as learned"


async def test_a_broken_line_of_traffic_is_named(folder: Path) -> None:
    set_up(folder, [EVENTS])
    file = folder / ".kickwheel" / "concierge.jsonl"
    for line in ("{", "3", '{"tools": [{"type": "function"}]}'):
        file.write_text(json.dumps({"tools": [EVENTS]}) + f"\n{line}\n", encoding="utf-8")
        with pytest.raises(UsageError, match=r"concierge\.jsonl:2: "):
            async with open_app(folder):
                pass


async def test_where_the_package_was_fetched_before_a_new_store_needs_no_set_up(
    folder: Path, services: tuple[dict[str, Any], list[dict[str, Any]]]
) -> None:
    async with open_app(folder) as app:
        assert len(app.live["agents", "concierge"].tools) == len(services[0])


def test_the_blueprint_is_a_valid_app() -> None:
    plan = check_app(CONCIERGE)
    assert plan.loop.agent == "concierge"
    assert plan.loop.model == "specialist"
    assert {kind for kind, _ in plan.parts} == {"models", "tools", "agents"}


@pytest.fixture(scope="module")
def services(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The real services, and the lines of the real traffic."""
    store = tmp_path_factory.mktemp("store")
    file = code("traffic:write", CONCIERGE)(store)
    specs = code("backend:offered", CONCIERGE)(file)
    tools = {spec.name: code("backend:Service", CONCIERGE)(spec) for spec in specs}
    return tools, [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


async def test_every_recorded_call_has_an_answer_that_is_always_the_same(
    services: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    tools, lines = services
    assert len(tools) == 39
    made = 0
    for line in lines:
        function = line["messages"][-1]["tool_calls"][0]["function"]
        call = ToolCall(id="call_0", name=function["name"], arguments=function["arguments"])
        if mistakes(json.loads(call.arguments), tools[call.name].spec.parameters):
            continue  # It was offered with one of the rarer schemas.
        first, second = [await calling.call(tools, call) for _ in range(2)]
        assert first == second
        assert first.state == "done", first.text
        assert "  " not in first.text
        assert "None" not in first.text
        assert first.text.endswith(".")
        made += 1
    assert made > 600


def test_what_is_booked_is_what_was_found() -> None:
    answer = code("world:answer", CONCIERGE)
    found = answer("Hotels_2_SearchHouse", {"where_to": "Austin, TX"})
    booked = answer(
        "Hotels_2_BookHouse",
        {"where_to": "Austin, TX", "check_in_date": "05/12/2023", "check_out_date": "2023-05-18"},
    )
    house = found.partition("the ")[2].partition(" House")[0]
    assert f"the {house} House in Austin, TX from May 12, 2023 to May 18, 2023" in booked


def test_an_answer_is_the_same_on_every_machine() -> None:
    # Written down once: a changed hash or word list would change every demo.
    answer = code("world:answer", CONCIERGE)
    assert answer("Weather_1_GetWeather", {"city": "Pacifica", "date": "2023-04-11"}) == (
        "Pacifica on April 11, 2023: foggy, then clear, 0 to 8 °C, 49 % chance of rain, "
        "wind 4 km/h."
    )


def test_a_service_without_words_of_its_own_answers_too() -> None:
    answer = code("world:answer", CONCIERGE)
    told = answer("Pets_1_Feed", {"animal": "cat", "when": None})
    assert told.startswith("Pets_1_Feed: done with animal cat. Confirmation ")
