"""The code on the pages about shells, programs and the browser runs, and their YAML is an app."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.agents.tools.opening import open_folder

from kickwheel.app import check_app

DOCS = Path(__file__).parents[3] / "docs" / "tools"


def block(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def named(page: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block(page, "python"), page, "exec"), names)
    return names


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.mark.parametrize("page", ["shell.md", "program.md", "browser.md"])
def test_the_yaml_is_a_valid_app(page: str, folder: Path) -> None:
    (folder / "app.yml").write_text(block(page, "yaml"))
    assert len(check_app(folder).parts) == 1


async def test_the_command_on_the_page_reads_a_folder_of_the_app(folder: Path) -> None:
    (folder / "app.yml").write_text(block("shell.md", "yaml"))
    (folder / "manuals").mkdir()
    (folder / "manuals" / "room.txt").write_text("one\ntwo\n")
    assert await named("shell.md")["count_lines"](folder) == "[exit code 0]\n2"


async def test_the_program_on_the_page_adds_up_prices() -> None:
    outcome = await named("program.md")["total"]({"tea": 3, "bread": 4})
    assert (outcome.value, outcome.printed, outcome.why) == (7, "2 prices\n", "done")


async def test_the_browser_on_the_page_reads_a_page(folder: Path) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<h1>Welcome</h1>")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"127.0.0.1:{server.server_port}"
        yaml = block("browser.md", "yaml").replace("shop.example.com", at, 1)
        (folder / "app.yml").write_text(f"{yaml}    private: true\n")
        assert await named("browser.md")["read_page"](folder, f"http://{at}/") == "Welcome"
        server.shutdown()
