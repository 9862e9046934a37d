"""The tutorial's blocks run in their order, as a newcomer would run them."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from kickwheel.app import check_app

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"


@pytest.mark.slow(minutes=4)
def test_the_tutorial_works_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks] == [
        "python", "bash", "yaml", "bash", "bash", "server", "python", "python",
    ]  # fmt: skip
    names: dict[str, object] = {}
    server: subprocess.Popen[bytes] | None = None
    try:
        for kind, text in blocks:
            if kind == "python":
                exec(compile(text, str(PAGE), "exec"), names)
            elif kind == "yaml":
                assert text in (tmp_path / "shop" / "app.yml").read_text()
            elif kind == "bash":
                subprocess.run(text, shell=True, check=True)
            else:
                server = subprocess.Popen(text.split())
                _wait_for("http://127.0.0.1:8123/v1/health/ready")
    finally:
        if server is not None:
            server.terminate()
            server.wait()
    assert check_app(tmp_path / "shop").loop.model == "specialist"


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{url} does not answer")
