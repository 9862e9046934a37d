import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.mcp.served import ANN, BOB, Server, serving

APP = f"""
agents:
  echo: {{kind: "players:Echo", description: Says it again.}}
  careful: {{kind: "players:Careful"}}
  slow: {{kind: "players:Slow"}}
tools:
  shop: {{kind: python, functions: ["players:price", "players:broken", "players:whoami"]}}
  till: {{kind: python, functions: ["players:refund"], confirm: true}}
  papers: {{kind: files, root: papers}}
  secret: {{kind: python, functions: ["os:getcwd"]}}
serve:
  auth: {{keys: [{{key: {ANN}, user: ann}}, {{key: {BOB}, user: bob}}]}}
  mcp: {{offer: [echo, careful, slow, shop, till, papers]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the app, its agents and tools."""
    return _filled(tmp_path)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests of a module share."""
    with serving(_filled(tmp_path_factory.mktemp("app"))) as found:
        yield found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the tests of a module share."""
    return _filled(tmp_path_factory.mktemp("app"))


def _filled(folder: Path) -> Path:
    (folder / "app.yml").write_text(APP, encoding="utf-8")
    shutil.copy(Path(__file__).with_name("players.py"), folder)
    papers = folder / "papers"
    (papers / "old").mkdir(parents=True)
    (papers / "terms.md").write_text("# Terms\n30 days.\n", encoding="utf-8")
    (papers / "old" / "größe 1.txt").write_bytes("für alle".encode("cp1252"))
    (papers / "seal.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (papers / "away.txt").symlink_to(folder / "app.yml")
    return folder
