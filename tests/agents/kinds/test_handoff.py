import json
from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import desk, events
from tests.agents.kinds import doing

from kickwheel.agents.events import Asked, Chosen, Finished
from kickwheel.core.errors import ModelError
from kickwheel.models.chat import ChatRequest
from kickwheel.records import Message, ToolSpec

TEAM = """
models:
  m: {kind: openai, model: m, base_url: URL, api_key: k}
agents:
  triage: {kind: tool_loop, model: m, instructions: triage}
  billing: {kind: tool_loop, model: m, instructions: billing, description: "bills and refunds"}
  desk: {kind: handoff, agents: [triage, billing], max_handoffs: 2}
"""


def offered(body: dict[str, Any]) -> list[str]:
    return [tool["function"]["name"] for tool in body.get("tools", [])]


async def test_the_conversation_goes_to_whom_an_agent_names_and_they_see_all_of_it(
    tmp_path: Path,
) -> None:
    seen: list[dict[str, Any]] = []

    def say(body: dict[str, Any]) -> Any:
        seen.append(body)
        if body["messages"][0]["content"] == "triage":
            return ("hand_to_billing", {"reason": "a refund"})
        return "Refunded."

    async with desk(tmp_path, say, TEAM) as (app, _):
        found = await events(app, "desk", "My money, please")
    end = found[-1]
    assert isinstance(end, Finished)
    assert (end.why, end.answer.content, end.steps) == ("answered", "Refunded.", 2)
    assert Chosen("billing", "desk") in found
    assert offered(seen[0]) == ["hand_to_billing"]
    assert "bills and refunds" in seen[0]["tools"][0]["function"]["description"]
    assert [m["role"] for m in seen[1]["messages"]] == ["system", "user", "assistant", "tool"]


async def test_a_person_is_handed_the_conversation_and_no_tools(tmp_path: Path) -> None:
    app_file = TEAM.replace(
        '{kind: tool_loop, model: m, instructions: billing, description: "bills and refunds"}',
        "{kind: human, choices: [pay, refuse]}",
    )
    mine = (ToolSpec(name="mine"),)
    request = ChatRequest(messages=(Message(role="user", content="My money"),), tools=mine)
    async with desk(tmp_path, lambda body: ("hand_to_billing", {}), app_file) as (app, _):
        agent: Any = app.model("desk")
        person: Any = app.model("billing")
        found = [event async for event in agent.run(request.messages, request)]
        assert Asked("My money", ("pay", "refuse")) in found
        assert found[-1].why == "waiting"
        # Asked straight, it says that it would not know what to do with them.
        with pytest.raises(ModelError, match="billing takes no tools") as refused:
            [event async for event in person.run(request.messages, request)]
    assert refused.value.status == 400


TEAM_WITH_TOOLS = """
models:
  m: {kind: openai, model: m, base_url: URL, api_key: k}
tools:
  look: {kind: python, TRUST, effects: none, functions: ['tests.agents.kinds.doing:weather']}
  act: {kind: python, trusted: true, functions: ['tests.agents.kinds.doing:book']}
agents:
  triage: {kind: KIND, model: m, instructions: triage, tools: [look]}
  billing: {kind: tool_loop, model: m, instructions: billing, tools: [act], untrusted: forbid}
  desk: {kind: handoff, agents: [triage, billing]}
"""


@pytest.mark.parametrize("kind", ["tool_loop", "react"])
@pytest.mark.parametrize("trusted", [True, False])
async def test_what_one_has_found_out_goes_along_and_binds_the_next_where_nobody_vouches_for_it(
    tmp_path: Path, kind: str, trusted: bool
) -> None:
    doing.booked.clear()
    seen: list[dict[str, Any]] = []

    def say(body: dict[str, Any]) -> Any:
        seen.append(body)
        asked = len(body["messages"])
        if "triage" in body["messages"][0]["content"]:
            name, given = (
                ("weather", {"city": "Oslo"})
                if asked == 2
                else ("hand_to_billing", {"reason": "it is to be booked"})
            )
            return (
                f"Action: {name}\nInput: {json.dumps(given)}" if kind == "react" else (name, given)
            )
        return ("book", {"city": "Oslo"}) if asked == 6 else "Done."

    text = TEAM_WITH_TOOLS.replace("KIND", kind).replace("TRUST", f"trusted: {trusted}")
    async with desk(tmp_path, say, text) as (app, _):
        end = (await events(app, "desk", "A room, if it is sunny"))[-1]
    assert isinstance(end, Finished)
    assert end.answer.content == "Done."
    assert doing.booked == (["Oslo"] if trusted else [])
    told = seen[2]["messages"]
    assert [m["role"] for m in told] == [*("system", "user"), *("assistant", "tool") * 2]
    assert "sunny" in told[3]["content"]
    assert ("untrusted" in told[3]["content"]) is not trusted


@pytest.mark.parametrize(
    "triage",
    [
        "plan, model: m, tools: [look]",
        "vote, agents: [inner], samples: 2",
        "router, agents: [inner, billing], rules: [{match: zzz, agent: billing}], otherwise: inner",
        "handoff, agents: [inner, billing], max_handoffs: 1",
    ],
)
async def test_what_was_found_out_further_in_goes_along_too(tmp_path: Path, triage: str) -> None:
    seen: list[dict[str, Any]] = []

    def say(body: dict[str, Any]) -> Any:
        seen.append(body)
        if "response_format" in body:
            step = {"id": "a", "what": "", "call": "weather", "arguments": {"city": "Oslo"}}
            return json.dumps({"steps": [{**step, "needs": []}]})
        if body["messages"][0]["content"] == "billing":
            return "Done."
        names = offered(body)
        looked = "sunny" in str(body["messages"])
        return ("weather", {"city": "Oslo"}) if not looked else (names[0], {"reason": "yours"})

    text = TEAM_WITH_TOOLS.replace("kind: KIND, model: m, instructions: triage, tools: [look]", "T")
    text = text.replace("{T}", f"{{kind: {triage}}}").replace("TRUST", "trusted: true")
    text += "  inner: {kind: tool_loop, model: m, tools: [look]}\n"
    async with desk(tmp_path, say, text) as (app, _):
        end = (await events(app, "desk", "A room"))[-1]
    assert isinstance(end, Finished)
    assert end.answer.content == "Done."
    assert "sunny" in str(seen[-1]["messages"][2:])


async def test_agents_that_only_pass_it_on_are_stopped(tmp_path: Path) -> None:
    def say(body: dict[str, Any]) -> Any:
        names = offered(body)
        return (names[0], {"reason": "not me"}) if names else "Then I answer."

    async with desk(tmp_path, say, TEAM) as (app, server):
        end = (await events(app, "desk", "Hello"))[-1]
    assert isinstance(end, Finished)
    assert end.answer.content == "Then I answer."
    assert len(server.asked) == 3
