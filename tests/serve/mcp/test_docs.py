"""The page about what is offered over MCP: its app opens, its clients work."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from kickwheel.app import open_app
from tests.agents.tools.test_mcp_http import said
from tests.agents.tools.test_mcp_login import logged_in
from tests.issuing import free_port, issuing
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


async def test_the_two_apps_of_the_page_work_together_once_a_person_has_logged_in(
    app: Path, tmp_path: Path
) -> None:
    door, login = blocks("yaml")[1:]
    other = tmp_path / "other"
    other.mkdir()
    port = free_port()
    with issuing() as issuer:

        def here(text: str) -> str:
            return (
                text.replace("https://login.example.com", issuer.url)
                .replace("https://agents.example.com", f"http://127.0.0.1:{port}")
                .replace("0.0.0.0", "127.0.0.1")
            )

        offer = "  mcp: {offer: [desk, papers]}\n"
        front = (app / "app.yml").read_text().partition("serve:\n")[0]
        (app / "app.yml").write_text(front + here(door) + offer)
        (other / "app.yml").write_text(here(login))
        with serving(app, "--port", str(port)):
            done = logged_in(other, "orders")
            assert done.returncode == 0, done.stderr
            assert here(blocks("console")[0].splitlines()[-1]) in done.stdout
            async with open_app(other) as opened:
                tools = {tool.spec.name: tool for tool in opened.live["tools", "orders"]}
                result = await said(tools, "papers_read", path="terms.md")
                assert "30 days." in result.text
