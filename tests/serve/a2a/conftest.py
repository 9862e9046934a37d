import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.a2a.served import Server, serving

APP = """
agents:
  echo: {kind: "talkers:Echo", description: Says it again.}
  form: {kind: "talkers:Echo", output: {type: object, properties: {turns: {type: integer}}}}
  slow: {kind: "talkers:Slow"}
  boss: {kind: human, choices: [approve, reject]}
serve:
  a2a: {push_to: [127.0.0.1]}
  auth: {key: "${KICKWHEEL_API_KEY}", keys: [{key: the-key-of-bob, user: bob}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the app and its agents."""
    return _filled(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of a module share."""
    with serving(_filled(tmp_path_factory.mktemp("app"))) as found:
        yield found


def _filled(folder: Path) -> Path:
    (folder / "app.yml").write_text(APP, encoding="utf-8")
    shutil.copy(Path(__file__).with_name("talkers.py"), folder)
    return folder
