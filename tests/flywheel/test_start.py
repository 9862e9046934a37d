"""A project to start from."""

from pathlib import Path

import pytest

from kickwheel import check_app, init
from kickwheel.core.errors import UsageError
from kickwheel.flywheel.start import blueprints
from tests.support_tickets import write


def test_a_project_around_traffic_is_a_valid_app(tmp_path: Path) -> None:
    app = init(traffic=write(tmp_path / "tickets.jsonl", 20), into=tmp_path / "My Shop")
    plan = check_app(app)
    assert plan.loop.traffic == ("traffic.jsonl",)
    assert plan.parts["models", "specialist"].model_dump()["adapter"] == "my-shop/specialist"


def test_each_blueprint_can_be_copied_and_says_what_it_is(tmp_path: Path) -> None:
    assert "concierge" in blueprints()
    for name, about in blueprints().items():
        assert about
        assert check_app(init(blueprint=name, into=tmp_path / name)).loop


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("precious")
    with pytest.raises(UsageError, match="not empty"):
        init(blueprint="concierge", into=tmp_path / "mine")


def test_an_unknown_blueprint_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r'Did you mean "concierge"\?'):
        init(blueprint="conciege")
