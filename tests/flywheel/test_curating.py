"""Curation as a step of an app: which dataset it goes on from."""

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Any

from kickwheel import curate, import_, init
from kickwheel.agents.ask import ask
from kickwheel.core.store import open_store
from kickwheel.flywheel.curate import load, save
from kickwheel.records import Dataset, Message
from tests.agents.desk import desk, last
from tests.support_tickets import tickets, write


def dataset(app: Path, identity: str) -> Dataset:
    with open_store(app / ".kickwheel") as store:
        return load(store.artifacts.path("dataset", identity))


def test_a_fine_tuning_jobs_dataset_is_not_what_a_turn_goes_on_from(tmp_path: Path) -> None:
    app = init(traffic=write(tmp_path / "tickets.jsonl", 80), into=tmp_path / "app")
    first = dataset(app, curate(app))
    with open_store(app / ".kickwheel") as store:
        examples = tuple(dataclasses.replace(e, split="train") for e in first.examples)
        job = dataclasses.replace(first, name="ft:smollm2-135m:x:1", examples=examples)
        store.artifacts.add("dataset", save(job))
    more = tmp_path / "more.jsonl"
    more.write_text("".join(json.dumps(line) + "\n" for line in tickets(120)[80:]))
    import_(more, app)
    second = dataset(app, curate(app))
    tested = {example.id for example in second.part("test")}
    assert {example.id for example in first.part("test")} <= tested


def test_the_same_traces_and_options_are_not_curated_twice(tmp_path: Path) -> None:
    app = init(traffic=write(tmp_path / "tickets.jsonl", 40), into=tmp_path / "app")
    assert curate(app) == curate(app)


def test_a_test_question_in_the_agents_instructions_is_found_out(tmp_path: Path) -> None:
    app = init(traffic=write(tmp_path / "tickets.jsonl", 60), into=tmp_path / "app")
    file = app / "app.yml"
    file.write_text(
        file.read_text().replace("flywheel:\n", "flywheel:\n  agent: helper\n")
        + "agents:\n  helper:\n    kind: tool_loop\n    model: specialist\n"
        + "    instructions: Sort the ticket.\n"
    )
    first = dataset(app, curate(app))
    shown = first.part("test")[0].messages[-1].content
    told = json.dumps(f"Sort the ticket. For example: {shown}")
    file.write_text(file.read_text().replace("Sort the ticket.", told))
    second = dataset(app, curate(app))
    assert (first.cleanliness.clean, second.cleanliness.clean) == (True, False)
    assert second.cleanliness.exact == 1


NODES = """
models:
  general: {kind: openai, model: m, base_url: URL, api_key: k}
tools:
  queues: {kind: python, functions: ["queues:send"]}
agents:
  sorter: {kind: tool_loop, model: general, tools: [queues], answer: result}
  desk:
    kind: graph
    nodes:
      short: {model: general, task: "Shorten: {question}"}
      sort: {agent: sorter, task: "{short}"}
    edges: [{to: short}, {from: short, to: sort}]
"""
GIVEN = """
  specialist: {kind: local, base: smollm2-135m, adapter: desk/sorter}
flywheel: {agent: sorter, model: specialist}
"""


async def test_a_graphs_node_can_be_given_to_the_flywheel(tmp_path: Path) -> None:
    (tmp_path / "queues.py").write_text("def send(queue: str) -> str:\n    return 'sent'\n")

    def model(body: dict[str, Any]) -> Any:
        if "tools" not in body:
            return last(body).removeprefix("Shorten: ")
        return "send", {"queue": "billing" if "invoice" in last(body) else "shipping"}

    async with desk(tmp_path, model, NODES) as (app, _):
        for ticket in tickets(40):
            said = await ask(
                app.model("desk"),
                [Message(role="user", content=ticket["messages"][1]["content"])],
                app.recorder,
            )
            assert said.answer == "sent"
    file = tmp_path / "app.yml"
    models, _, rest = file.read_text().partition("tools:")
    file.write_text(models.rstrip() + GIVEN + "tools:" + rest)
    made = dataset(tmp_path, await asyncio.to_thread(curate, tmp_path))
    assert len(made.examples) > 20
    for example in made.examples:
        assert [call.name for call in example.answer.tool_calls] == ["send"]
        assert "Shorten" not in (example.messages[-1].content or "")
