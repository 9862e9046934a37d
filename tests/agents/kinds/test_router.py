from pathlib import Path
from typing import Any

import pytest
from tests.agents.desk import answer, desk, events, last

from kickwheel.agents.ask import ask
from kickwheel.agents.events import Chosen
from kickwheel.app import check_app
from kickwheel.core.errors import ConfigError, ModelError
from kickwheel.records import Message

HEAD = """
models:
  m: {kind: openai, model: m, base_url: URL, api_key: k}
agents:
  orders: {kind: tool_loop, model: m, description: "orders and refunds", instructions: orders}
  flights: {kind: tool_loop, model: m, description: "flights and seats", instructions: flights}
  desk:
    kind: router
    agents: [orders, flights]
"""
BY_MODEL = HEAD + "    model: m\n"


def chooses(agent: str, otherwise: str = "") -> Any:
    def say(body: dict[str, Any]) -> str:
        first = str(body["messages"][0]["content"])
        if first.startswith("Who should answer"):
            return agent if "response_format" not in body else f'{{"label": "{agent}"}}'
        return f"{first} says {last(body)}"

    return say


async def test_a_model_chooses_by_the_descriptions_and_the_chosen_agent_answers(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path, chooses("flights"), BY_MODEL) as (app, server):
        found = await events(app, "desk", "My seat?")
        assert found[-1].answer.content == "flights says My seat?"  # type: ignore[union-attr]
    assert Chosen("flights", "desk") in found
    asked = server.asked[0][1]["messages"]
    assert "- orders: orders and refunds" in asked[0]["content"]
    assert asked[1] == {"role": "user", "content": "My seat?"}


async def test_each_choice_is_a_span_with_the_name_as_its_answer(tmp_path: Path) -> None:
    text = HEAD + "    rules: [{match: refund, agent: orders}]\n    model: m\n"
    question = [Message(role="user", content="My refund?")]
    async with desk(tmp_path, chooses("flights"), text) as (app, _):
        answered = await ask(app.model("desk"), question, app.recorder)
        app.recorder.flush()
        trace = app.traces.get(answered.trace)
    choice = next(span for span in trace.spans if span.kind == "model")
    assert (choice.name, choice.output[-1].content) == ("rules", "orders")
    router = next(span for span in trace.spans if span.id == choice.parent)
    assert (router.kind, router.name) == ("agent", "desk")


async def test_examples_choose_by_likeness(tmp_path: Path) -> None:
    text = HEAD + (
        "    examples:\n"
        "      orders: [I want my money back for the shoes, where is my parcel]\n"
        "      flights: [change my seat on the plane, cancel my flight to Rome]\n"
        "    otherwise: orders\n"
    )
    async with desk(tmp_path, chooses(""), text) as (app, _):
        assert (await answer(app, "desk", "a window seat on my flight")).startswith("flights")
        assert (await answer(app, "desk", "where is the parcel with my shoes")).startswith("orders")
        assert (await answer(app, "desk", "qzx")).startswith("orders")


async def test_a_choice_of_nobody_is_an_error_or_goes_to_otherwise(tmp_path: Path) -> None:
    async with desk(tmp_path, chooses("nobody"), BY_MODEL) as (app, _):
        with pytest.raises(ModelError, match="otherwise"):
            await answer(app, "desk", "Hm?")
    async with desk(tmp_path, chooses("nobody"), BY_MODEL + "    otherwise: orders\n") as (app, _):
        assert (await answer(app, "desk", "Hm?")).startswith("orders")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", "nothing chooses"),
        ("    rules: [{match: '(', agent: orders}]\n    otherwise: orders\n", "no regular"),
        ("    model: m\n    otherwise: sales\n", '"sales" is not among its agents'),
        ("    rules: [{match: x, agent: sales}]\n    model: m\n", "sales"),
    ],
)
def test_a_router_that_cannot_choose_is_refused_when_it_is_read(
    tmp_path: Path, more: str, told: str
) -> None:
    (tmp_path / "app.yml").write_text(HEAD + more, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        check_app(tmp_path)
    assert told in str(caught.value)
