"""The whole flywheel, for real, on traffic that is no function calling: support tickets."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kickwheel.core.store import open_store
from kickwheel.core.store.files import verify
from kickwheel.flywheel.start import init
from kickwheel.records import Report, wire
from tests.support_tickets import write

pytestmark = pytest.mark.slow(minutes=4)

SMALL = """
  curate: {test: 30}
  tune: {epochs: 3, minutes: 30, prompt: none, keep_system: false}
  gate: {metric: right, kind: non-inferiority, margin: 0.2, minimum: 20}
"""

RUN = """
import os, signal, sys, threading
from pathlib import Path
from kickwheel import turn
from kickwheel.records import wire

wanted, after = sys.argv[2], float(sys.argv[3])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Killer:
    def step(self, name, note):
        if wanted == f"after {name}":
            die()
    def update(self, name, done, total, note):
        if wanted == f"in {name}":
            threading.Timer(after, die).start() if after else die()

print(wire.to_bytes(turn(Path(sys.argv[1]), watch=Killer())).decode())
"""

KILLS = [
    ("after import", 0.0),
    ("in curate", 0.0),
    ("in tune", 0.0),
    ("in tune", 8.0),
    ("after tune", 0.0),
    ("in evaluate", 0.0),
    ("in evaluate", 4.0),
    ("in gate", 0.0),
    ("in snapshot", 0.0),
    ("in promote", 0.0),
    ("after promote", 0.0),
]
"""Where the turn is killed, one after another; a number is seconds into the step."""


def project(folder: Path) -> Path:
    traffic = folder / "tickets.jsonl"
    write(traffic, 120)
    app = init(traffic=traffic, into=folder / "app")
    file = app / "app.yml"
    text = re.sub(r"\n  gate: .*\n", SMALL, file.read_text())
    file.write_text(text)
    return app


def turned(app: Path, kill: str = "never", after: float = 0.0) -> dict[str, object] | None:
    ended = subprocess.run(
        [sys.executable, "-c", RUN, str(app), kill, str(after)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    if ended.returncode == -signal.SIGKILL:
        return None
    assert ended.returncode == 0, ended.stderr
    result: dict[str, object] = json.loads(ended.stdout.splitlines()[-1])
    return result


def answers(app: Path, report: object) -> list[tuple[str, str, str]]:
    with open_store(app / ".kickwheel") as store:
        path = store.artifacts.path("report", str(report)) / "report.json"
    found = wire.from_bytes(path.read_bytes(), Report)
    return [(o.example, o.contestant, o.answer) for o in found.outcomes]


def weights(app: Path, adapter: object) -> bytes:
    with open_store(app / ".kickwheel") as store:
        path = store.artifacts.path("adapter", str(adapter))
    return (path / "adapter_model.safetensors").read_bytes()


def stricter_gate_compares_with_the_same_incumbent(app: Path, before: dict[str, object]) -> None:
    file = app / "app.yml"
    file.write_text(file.read_text().replace("minimum: 20", "minimum: 21"))
    again = turned(app)
    assert again is not None
    assert again["adapter"] == before["adapter"]
    assert not any(contestant == "incumbent" for _, contestant, _ in answers(app, again["report"]))


def test_a_turn_killed_in_every_step_ends_with_the_same_result(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, killed = project(tmp_path / "whole"), project(tmp_path / "killed")
    expected = turned(whole)
    assert expected is not None
    assert expected["promoted"], "else the promotion is not tested"
    for kill, after in KILLS:
        assert turned(killed, kill, after) is None, (kill, after)
    result = turned(killed)
    assert result is not None
    assert result["dataset"] == expected["dataset"]
    assert result["adapter"] == expected["adapter"]
    assert result["promoted"] == expected["promoted"]
    assert weights(killed, result["adapter"]) == weights(whole, expected["adapter"])
    assert answers(killed, result["report"]) == answers(whole, expected["report"])
    assert turned(killed) == result
    stricter_gate_compares_with_the_same_incumbent(killed, result)
    with open_store(killed / ".kickwheel") as store:
        moves = store.refs.history("app/specialist")
        assert len(moves) == 1
        for kind in ("dataset", "adapter", "report", "snapshot"):
            verify(store.artifacts.path(kind, str(result[kind])))
