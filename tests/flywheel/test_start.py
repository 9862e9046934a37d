"""A project to start from."""

import json
from pathlib import Path

import pytest

from kickwheel import check_app, import_, init
from kickwheel.core.errors import DataError, UsageError
from kickwheel.flywheel.start import blueprints
from tests.support_tickets import tickets, write


def test_a_project_around_traffic_is_a_valid_app(tmp_path: Path) -> None:
    app = init(traffic=write(tmp_path / "tickets.jsonl", 20), into=tmp_path / "My Shop")
    plan = check_app(app)
    assert plan.loop.traffic == ("traffic.jsonl",)
    assert plan.parts["models", "specialist"].model_dump()["adapter"] == "my-shop/specialist"


def test_a_name_in_other_letters_becomes_a_ref_that_can_be_read(tmp_path: Path) -> None:
    app = init(traffic=write(tmp_path / "tickets.jsonl", 20), into=tmp_path / "Büro & Läden")
    adapter = check_app(app).parts["models", "specialist"].model_dump()["adapter"]
    assert adapter == "buro-laden/specialist"


def test_each_blueprint_can_be_copied_and_says_what_it_is(tmp_path: Path) -> None:
    assert "concierge" in blueprints()
    for name, about in blueprints().items():
        assert about.endswith(".")
        assert check_app(init(blueprint=name, into=tmp_path / name)).loop


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        init(blueprint="concierge", into=tmp_path / "mine")
    with pytest.raises(
        UsageError, match=r"cannot be made: File exists\. Choose another with --into"
    ):
        init(blueprint="concierge", into=tmp_path / "mine" / "work.txt")


def test_broken_lines_of_the_traffic_are_told_when_the_project_is_made(tmp_path: Path) -> None:
    traffic = write(tmp_path / "tickets.jsonl", 20)
    lines = traffic.read_text().splitlines()
    traffic.write_text("\n".join([*lines[:10], '{"messages": [}', *lines[10:]]) + "\n")
    told: list[str] = []
    app = init(traffic=traffic, into=tmp_path / "app", tell=told.append)
    assert told[0].startswith("tickets.jsonl:11: not JSON, column 15: ")
    assert told[1] == "1 of 21 lines are broken"
    assert (app / "traffic.jsonl").read_bytes() == traffic.read_bytes()


def test_a_file_that_is_no_traffic_makes_no_project(tmp_path: Path) -> None:
    traffic = tmp_path / "notes.jsonl"
    traffic.write_text("one\ntwo\n" * 30)
    with pytest.raises(DataError, match=r"60 of 60 lines(.|\n)*notes.jsonl:1: (.|\n)*and 40 more"):
        init(traffic=traffic, into=tmp_path / "app")
    assert not (tmp_path / "app").exists()


@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_array_is_traffic_as_it_is(tmp_path: Path, indent: int | None) -> None:
    array = tmp_path / "chats.json"
    array.write_text(json.dumps(tickets(30), indent=indent))
    app = init(traffic=array, into=tmp_path / "app")
    assert import_(array, app).new == 30


def test_an_unknown_blueprint_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r'Did you mean "concierge"\?'):
        init(blueprint="conciege")
