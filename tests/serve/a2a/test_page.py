"""The code on docs/a2a.md runs, and its YAML is a valid app."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kickwheel.app import check_app
from tests.serve.a2a.served import KEY, Server

PAGE = (Path(__file__).parents[3] / "docs" / "a2a.md").read_text("utf-8")


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_apps_are_valid(tmp_path: Path, text: str) -> None:
    (tmp_path / "app.yml").write_text(text, encoding="utf-8")
    assert check_app(tmp_path).parts


async def test_the_client_is_answered(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.setenv("KICKWHEEL_API_KEY", KEY)
    (tmp_path / "ask.py").write_text(
        code.replace("http://127.0.0.1:8000/a2a/desk", f"{server.url}/a2a/echo"), encoding="utf-8"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, str(tmp_path / "ask.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("user: Where is my order?\n", "")
