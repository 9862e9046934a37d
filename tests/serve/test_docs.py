import re
from pathlib import Path
from typing import Any

import pytest

from kickwheel.serve.house import ModelCard
from kickwheel.serve.worker import Runner
from tests.serve.conftest import Agent, Echo, Rooms, an_example, lines, running

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "serve.md"


def test_what_the_page_shows_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    echo = Echo()
    cards = {"smollm2-135m": ModelCard(id="smollm2-135m", tunable=True)}
    rooms = Rooms(live={"concierge": Agent(echo), "smollm2-135m": echo}, cards=cards)
    rooms.made = tmp_path / "made"
    rooms.made.mkdir()
    (tmp_path / "chats.jsonl").write_bytes(lines(*(an_example(n) for n in range(12))))
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)
    runner = Runner("tests.serve.runners:quick", {"made": str(rooms.made)})
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    with running(tmp_path / "store", rooms, runner=runner) as served:
        for block in blocks:
            exec(block.replace("http://127.0.0.1:8000", served.url), names)
        served.recorder.flush()
        trace = served.traces.get(names["answer"].id.removeprefix("chatcmpl-"))
    assert len(blocks) == 5
    assert names["job"].status == "succeeded"
    assert names["answer"].choices[0].message.content == "My parcel is late."
    assert trace.feedback[0].note == "one word, please"
