import re
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import Agent, Echo, Rooms, running

PAGE = Path(__file__).parents[3] / "docs" / "responses.md"


def test_what_the_page_shows_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    with running(tmp_path / "store", Rooms(live={"concierge": Agent(Echo())})) as served:
        for block in blocks:
            exec(block.replace("http://127.0.0.1:8000", served.url), names)
    assert capsys.readouterr().out == ("And on the day after? 12\nFind a music event.completed\n")
    assert names["final"].output_text == "Find a music event."
