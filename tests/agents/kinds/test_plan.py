import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agents.desk import answer, desk, events, last
from tests.agents.kinds import doing

from kickwheel.agents import planned
from kickwheel.agents.events import Called, Finished, Returned
from kickwheel.agents.kinds.plan import Plan, Planning
from kickwheel.agents.tools import Limits
from kickwheel.agents.tools.python import from_function
from kickwheel.agents.tools.schema import mistakes
from kickwheel.app import check_app
from kickwheel.core.errors import ConfigError, ModelError
from kickwheel.models.chat import (
    ChatRequest,
    Delta,
    Done,
    FinishReason,
    TextDelta,
    Usage,
    complete,
)
from kickwheel.records import Message, ToolSpec

APP = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
tools:
  t:
    kind: python
    trusted: true
    functions: ['tests.agents.kinds.doing:weather', 'tests.agents.kinds.doing:fare']
  b:
    kind: python
    trusted: true
    effects: once
    functions: ['tests.agents.kinds.doing:book']
agents:
  desk: {kind: plan, model: m, tools: [t, b], instructions: You help travellers.}
  helper: {kind: tool_loop, model: m, instructions: helper}
  boss: {kind: plan, model: m, agents: [helper, desk], instructions: boss, answer: step}
"""


def step(id: str, call: str, *needs: str, **arguments: Any) -> dict[str, Any]:
    return {"id": id, "what": id, "call": call, "arguments": arguments, "needs": list(needs)}


def plan(*steps: dict[str, Any]) -> str:
    return json.dumps({"steps": steps})


def in_turn(*steps: str) -> Any:
    left = list(steps)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


async def test_steps_use_earlier_results_and_the_model_answers(tmp_path: Path) -> None:
    written = plan(
        step("a", "fare", start="Oslo", end="Rome"),
        step("b", "fare", start="Oslo", end="Rome", seats="${a}"),
        step("c", "fare", "a", start="to ${b} in all", end=""),
    )
    async with desk(tmp_path, in_turn(written, "It is 8, then 64."), APP) as (app, server):
        found = await events(app, "desk", "The fare?")
    assert found[-1].answer.content == "It is 8, then 64."  # type: ignore[union-attr]
    made = [event.text for event in found if isinstance(event, Returned)]
    assert made == ["8", "64", str(len("to 64 in all"))]
    first, second = (asked for _, asked, _ in server.asked)
    assert "fare(start, end, seats?:integer): The fare of a trip" in first["messages"][0]["content"]
    assert first["response_format"]["type"] == "json_schema"
    assert "b (b): 64" in last(second)
    assert second["messages"][0]["content"] == "You help travellers."


class Scripted:
    name = "m"

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.ends: FinishReason = "stop"

    async def stream(self, request: ChatRequest) -> Any:
        text = self.answers.pop(0)
        for piece in (text[:3], text[3:]):
            yield TextDelta(piece)
        done: Delta = Done(self.ends, Usage(output_tokens=1))
        yield done


class Meets:
    """A tool whose calls end only when two run at once."""

    def __init__(self) -> None:
        self.spec = ToolSpec(name="meet", parameters={"type": "object", "properties": {}})
        self.limits = Limits(timeout_s=5, effects="none", trusted=True)
        self.barrier = asyncio.Barrier(2)

    async def call(self, arguments: Any) -> str:
        await self.barrier.wait()
        return "met"


async def test_steps_that_need_nothing_of_each_other_run_at_once() -> None:
    model = Scripted(plan(step("a", "meet"), step("b", "meet")), "Done.")
    agent = Planning("desk", model, {"meet": Meets()}, Plan(model="m"))
    told = await complete(agent, ChatRequest(messages=(_user("go"),)))
    assert told.message.content == "Done."


async def test_a_failed_step_leads_to_a_new_plan_with_what_is_known(tmp_path: Path) -> None:
    doing.booked.clear()
    first = plan(
        step("a", "book", city="Oslo"),
        step("b", "weather", city="Atlantis"),
        step("c", "weather", "b", city="Rome"),
    )
    second = plan(step("d", "weather", city="Rome"), step("e", "fare", start="${a}", end="${d}"))
    async with desk(tmp_path, in_turn(first, second, "All done."), APP) as (app, server):
        found = await events(app, "desk", "?")
    assert found[-1].answer.content == "All done."  # type: ignore[union-attr]
    assert doing.booked == ["Oslo"]
    told = last(server.asked[1][1])
    assert "Step b (weather) failed: error: " in told
    assert "a (a): room in Oslo" in told
    called = [event.call.name for event in found if isinstance(event, Called)]
    assert sorted(called[:2]) == ["book", "weather"]
    assert called[2:] == ["weather", "fare"]


async def test_plans_that_fail_again_and_again_are_an_error(tmp_path: Path) -> None:
    plans = [plan(step(f"a{n}", "weather", city="Atlantis")) for n in range(9)]
    async with desk(tmp_path, in_turn(*plans), APP) as (app, server):
        with pytest.raises(ModelError, match="its plan failed 3 times, the last time in step a2"):
            await events(app, "desk", "?")
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("Let me think.", "it is no JSON"),
        ('{"steps": "none"}', '"steps" must be array'),
        (plan(step("a", "wether", city="Oslo")), "wether"),
        (plan(step("a", "weather", town="Oslo")), 'step "a": there is no argument "town"'),
        (plan(step("a", "weather", "z", city="Oslo")), 'step "a" needs "z", which is no step'),
        (plan(step("a", "weather", city="${z}")), 'step "a" needs "z", which is no step'),
        (plan(step("a", "weather", "a", city="Oslo")), "in a circle: a"),
        (
            plan(step("a", "weather", "b", city="Oslo"), step("b", "weather", city="${a}")),
            "in a circle: a, b",
        ),
        (
            plan(step("a", "weather", city="x"), step("a", "weather", city="x")),
            "stands there twice",
        ),
        (plan(*(step(f"s{n}", "weather", city="x") for n in range(40))), "32"),
    ],
)
async def test_what_is_wrong_with_a_plan_is_told_and_the_third_time_is_an_error(
    tmp_path: Path, written: str, says: str
) -> None:
    async with desk(tmp_path, in_turn(written), APP) as (app, server):
        with pytest.raises(ModelError, match="no plan that can be carried out, 3 times"):
            await events(app, "desk", "?")
    assert len(server.asked) == 3
    assert says in last(server.asked[1][1])


async def test_a_plan_that_breaks_off_is_told_that_it_was_too_long(tmp_path: Path) -> None:
    model = Scripted('{"steps": [{"id": "a"', "{", "{")
    model.ends = "length"
    agent = Planning("desk", model, {"meet": Meets()}, Plan(model="m"))
    with pytest.raises(ModelError, match="it broke off, since it was too long"):
        await complete(agent, ChatRequest(messages=(_user("go"),)))


def test_a_grammar_is_given_the_arguments_of_each_tool_or_references_in_their_places() -> None:
    tools = [from_function(tool).spec for tool in (doing.fare, doing.weather)]
    iban = {"type": "string", "pattern": "^DE[0-9]+$"}
    tools.append(ToolSpec(name="pay", parameters={"properties": {"iban": iban}}))
    around = {"properties": {"plan": planned.schema(tools)}}

    def fits(call: str, **arguments: Any) -> bool:
        made = {"steps": [step("a", call, **arguments)]}
        return not mistakes({"plan": made}, around)

    assert fits("weather", city="Oslo")
    assert fits("fare", start="${b}", end="Rome", seats=2)
    assert fits("fare", start="Oslo", end="Rome", seats="${b.seats}")
    assert not fits("fare", start="Oslo", end="Rome", seats="two")
    assert fits("pay", iban="${b}")
    assert not fits("pay", iban="b")
    assert not fits("fare", city="Oslo")
    assert not fits("book", city="Oslo")


async def test_a_part_that_a_result_lacks_is_a_failure_of_the_step(tmp_path: Path) -> None:
    first = plan(step("a", "weather", city="Oslo"), step("b", "weather", city="${a.total}"))
    async with desk(tmp_path, in_turn(first, plan(), "Sunny."), APP) as (app, server):
        assert await answer(app, "desk", "?") == "Sunny."
    assert "${a.total}: the result of a has no such part" in last(server.asked[1][1])


async def test_a_result_stays_a_text_where_the_tool_takes_one(tmp_path: Path) -> None:
    written = plan(step("a", "fare", start="Oslo", end="Rome"), step("b", "book", city="${a}"))
    async with desk(tmp_path, in_turn(written, "Done."), APP) as (app, _):
        found = await events(app, "desk", "?")
    made = [event.text for event in found if isinstance(event, Returned)]
    assert made == ["8", "room in 8"]


async def test_an_empty_plan_is_answered_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path, in_turn(plan(), "Hello!"), APP) as (app, server):
        told = await complete(app.model("desk"), ChatRequest(messages=(_user("Hi"),)))
    assert told.message.content == "Hello!"
    assert [m["content"] for m in server.asked[1][1]["messages"]] == ["You help travellers.", "Hi"]


async def test_agents_do_steps_and_the_last_result_may_be_the_answer(tmp_path: Path) -> None:
    def says(body: dict[str, Any]) -> str:
        first = str(body["messages"][0]["content"])
        if first.startswith("boss"):
            return plan(step("a", "helper", task="x"), step("b", "helper", task="after ${a}"))
        return f"<{last(body)}>"

    async with desk(tmp_path, says, APP) as (app, _):
        assert await answer(app, "boss", "?") == "<after <x>>"


async def test_its_budget_holds_for_plans_too(tmp_path: Path) -> None:
    text = APP.replace("instructions: You", "max_steps: 1, instructions: You")
    async with desk(tmp_path, in_turn(plan(), "x"), text) as (app, _):
        found = await events(app, "desk", "?")
    assert isinstance(found[-1], Finished)
    assert found[-1].why == "steps"


def test_the_prompt_must_list_the_tools(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(
        "models: {m: {kind: openai, model: m}}\n"
        "agents: {a: {kind: plan, model: m, prompt: no list}}\n"
    )
    with pytest.raises(ConfigError, match="the prompt must say where the tools are"):
        check_app(tmp_path)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("ab${}.", max_size=12),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3)
        ),
    )
)
def test_results_that_hold_references_are_not_filled_again(value: Any) -> None:
    results = dict.fromkeys(("a", "b", "aa", "ab", "ba", "bb"), "${a} ${b}")
    try:
        filled = planned.filled({"v": "${a}", "w": value}, results, ToolSpec(name="t"))
    except LookupError:
        return
    assert filled["v"] == "${a} ${b}"


def _user(text: str) -> Message:
    return Message(role="user", content=text)
