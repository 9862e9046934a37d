import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client

from kickwheel.app import check_app, open_app
from kickwheel.core.errors import ConfigError, UsageError
from kickwheel.serve.mcp.door import mcp_routes
from kickwheel.serve.mcp.offer import offer
from kickwheel.serve.mcp.server import server

PARTS = """
agents:
  echo: {kind: "players:Echo"}
tools:
  shop: {kind: python, functions: ["players:price"]}
  again: {kind: python, functions: ["players:price"]}
"""


@asynccontextmanager
async def client(folder: Path, serve: str = "") -> AsyncGenerator[Client]:
    """A client of what the app offers, in this process."""
    async with open_app(written(folder, serve)) as app:
        with offer(app) as offered:
            async with Client(server(offered)) as one:
                yield one


def written(folder: Path, serve: str) -> Path:
    shutil.copy(Path(__file__).with_name("players.py"), folder)
    (folder / "app.yml").write_text(PARTS + serve)
    return folder


async def test_agents_are_offered_and_tools_only_by_name(tmp_path: Path) -> None:
    async with client(tmp_path) as one:
        assert [tool.name for tool in (await one.list_tools()).tools] == ["echo"]
    async with client(tmp_path, "serve: {mcp: {offer: [shop]}}") as one:
        assert [tool.name for tool in (await one.list_tools()).tools] == ["price"]


async def test_where_nothing_is_offered_there_is_no_door(tmp_path: Path) -> None:
    nothing = written(tmp_path, "serve: {mcp: {offer: []}}")
    async with open_app(nothing) as app, mcp_routes(app) as routes:
        assert routes == []


async def test_two_of_one_name_are_told_when_the_server_starts(tmp_path: Path) -> None:
    async with open_app(written(tmp_path, "serve: {mcp: {offer: [shop, again]}}")) as app:
        with pytest.raises(UsageError, match='two of what is offered are called "price"'):
            async with mcp_routes(app):
                pass


def test_a_name_that_names_nothing_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    written(tmp_path, "serve: {mcp: {offer: [echo, shpo]}}")
    wrong = r'app\.yml:7:\d+: serve\.mcp\.offer\[1\]: no agent or tools named "shpo"'
    with pytest.raises(ConfigError, match=wrong):
        check_app(tmp_path)
