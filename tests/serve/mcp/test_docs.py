"""The page about what is offered over MCP: its app opens, its clients work."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from tests.serve.mcp.served import KICKWHEEL, serving

PAGE = (Path(__file__).parents[3] / "docs" / "mcp.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's app."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody-is-asked")
    monkeypatch.setenv("KICKWHEEL_API_KEY", "a-key-of-the-tests")
    (tmp_path / "app.yml").write_text(blocks("yaml")[0])
    (tmp_path / "orders.py").write_text(blocks("python")[0])
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "terms.md").write_text("30 days.")
    return tmp_path


def test_the_program_on_the_page_runs(app: Path) -> None:
    with serving(app) as server:
        program = blocks("python")[1].replace("http://127.0.0.1:8000", server.url)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed, asked, said, terms = done.stdout.strip().splitlines()
    assert {"desk", "status", "cancel", "papers_read"} <= set(eval(listed))
    assert asked.startswith("May status be called with")
    assert said == "A-17 is on its way."
    assert terms == "30 days."


async def test_the_command_on_the_page_starts_the_server(app: Path) -> None:
    entry = json.loads(blocks("json")[0])["mcpServers"]["orders"]
    assert entry["command"] == "kickwheel"
    arguments = [word.replace("/home/me/orders", str(app)) for word in entry["args"]]
    command = StdioServerParameters(
        command=KICKWHEEL, args=arguments, env={"OPENAI_API_KEY": "sk-nobody-is-asked"}
    )
    async with Client(command) as client:
        assert "desk" in {tool.name for tool in (await client.list_tools()).tools}
