"""Curation as a step of an app: which dataset it goes on from."""

import dataclasses
import json
from pathlib import Path

from kickwheel import curate, import_, init
from kickwheel.core.store import open_store
from kickwheel.flywheel.curate import load, save
from kickwheel.records import Dataset
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
