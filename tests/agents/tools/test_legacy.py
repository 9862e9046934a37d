"""The pages about tools, and about old systems: their YAML is a valid app, and it answers."""

import json
import re
import sqlite3
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.agents.tools.desk import service
from tests.agents.tools.opening import open_folder

from kickwheel.agents.tools import Tool, calling
from kickwheel.app import check_app, open_app
from kickwheel.records import ToolCall

DOCS = Path(__file__).parents[3] / "docs"
ORDERS = [(10, "Jürgen", "tea"), (11, "Ann", "cups"), (12, "Jürgen", "cake & co")]

OPENAPI = """
swagger: "2.0"
host: old.example
basePath: /v1
schemes: [http]
paths:
  /orders:
    get:
      operationId: ordersOf
      parameters: [{name: customer, in: query, required: true, type: string}]
      responses: {}
"""


FORM = '<title>Orders</title><form method="post" action="/find"><input name="customer"></form>'
PROGRAM = """
for line in open("/mnt/export/orders.fix", encoding="latin-1"):
    if line[6:16].strip() == "Jürgen":
        print(int(line[:6]), line[16:].strip())
"""


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def old() -> Iterator[Path]:
    """A folder with the old system in it."""
    with open_folder() as folder:
        _make(folder)
        yield folder


def _make(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "orders.db")) as made, made:
        made.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, customer TEXT, item TEXT)")
        made.executemany("INSERT INTO orders VALUES (?, ?, ?)", ORDERS)
    export = folder / "export"
    export.mkdir()
    rows = "".join(f"{number};{customer};{item}\r\n" for number, customer, item in ORDERS)
    (export / "orders.csv").write_bytes(f"number;customer;item\r\n{rows}".encode("cp1252"))
    fixed = "".join(f"{number:06}{customer:<10}{item:<12}\n" for number, customer, item in ORDERS)
    (export / "orders.fix").write_bytes(fixed.encode("latin-1"))
    (folder / "bin").mkdir()
    lines = "".join(f"echo {customer} {number} '{item}'\n" for number, customer, item in ORDERS)
    program = folder / "bin" / "orders"
    program.write_text(f'#!/bin/sh\n{{\n{lines}}} | grep "^$1 " | cut -d" " -f2-\n', "utf-8")
    program.chmod(0o755)
    for code in blocks("legacy.md", "python"):
        (folder / code.split()[1]).write_text(code, "utf-8")


async def answer(request: web.Request) -> web.Response:
    """The old system's web server."""
    if request.path == "/v1/orders":
        name = request.query["customer"]
        return web.json_response([f"{n} {item}" for n, c, item in ORDERS if c == name])
    if request.path == "/soap":
        name = (await request.read()).decode("latin-1").split("customer>")[1].removesuffix("</")
        found = [f"{n} {item}".replace("&", "&amp;") for n, c, item in ORDERS if c == name]
        body = "".join(f"<o>{order}</o>" for order in found).encode("latin-1")
        return web.Response(body=body, content_type="text/xml", charset="iso-8859-1")
    if request.method == "GET":
        return web.Response(text=FORM, content_type="text/html")
    name = str((await request.post())["customer"])
    body = "".join(f"{n} {item}\n" for n, c, item in ORDERS if c == name).encode("cp1252")
    return web.Response(body=body, content_type="text/plain")


@asynccontextmanager
async def legacy(old: Path, kind: str) -> AsyncGenerator[tuple[dict[str, Tool], str]]:
    """The tools of the page's app of that kind, and the URL of the old system's web server."""
    (yaml,) = [y for y in blocks("legacy.md", "yaml") if f"kind: {kind}\n" in y]
    yaml = yaml.replace("[python, ", f"[{sys.executable}, ")
    async with service(answer) as served:
        host = served.url.removeprefix("http://")
        yaml = yaml.replace("[orders.example.com]", f"['{host}']\n    private: true")
        (old / "orders.yml").write_text(OPENAPI.replace("old.example", host))
        (old / "app.yml").write_text(yaml.replace("old.example", host), "utf-8")
        async with open_app(old) as app:
            (box,) = (box for (shelf, _), box in app.live.items() if shelf == "tools")
            yield {tool.spec.name: tool for tool in box}, served.url


@pytest.mark.parametrize(
    ("kind", "tool", "arguments"),
    [
        ("sql", "orders_query",
         '{"statement": "SELECT number, item FROM orders WHERE customer = :name", '
         '"parameters": {"name": "Jürgen"}}'),
        ("files", "orders_search", '{"text": "Jürgen", "files": "*.csv"}'),
        ("files", "orders_search", '{"text": "Jürgen", "files": "*.fix"}'),
        ("http", "orders_of", '{"customer": "Jürgen"}'),
        ("http", "soap_orders_of", '{"customer": "Jürgen"}'),
        ("openapi", "ordersOf", '{"customer": "Jürgen"}'),
        ("shell", "orders", '{"command": "/mnt/old/orders Jürgen"}'),
        ("program", "orders", json.dumps({"program": PROGRAM})),
        ("mcp", "orders_of", '{"customer": "Jürgen"}'),
        ("python", "orders_of", '{"customer": "Jürgen"}'),
    ],
)  # fmt: skip
async def test_every_way_into_the_old_system_tells_the_same(
    old: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tool: str, arguments: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "orders", raising=False)
    async with legacy(old, kind) as (tools, _):
        asked = ToolCall(id="1", name=tool, arguments=arguments)
        result = await calling.call(tools, asked)
    monkeypatch.delitem(sys.modules, "orders", raising=False)
    assert result.state == "done", result.text
    for number, customer, item in ORDERS:
        assert (str(number) in result.text) == (customer == "Jürgen")
        assert (item.replace(" & ", " ").split()[0] in result.text) == (customer == "Jürgen")


async def test_its_pages_are_asked_as_a_person_would(old: Path) -> None:
    async with legacy(old, "browser") as (tools, url):
        seen = await tools["pages_open"].call({"url": f"{url}/"})
        field = re.search(r"textbox.*?\[ref=(\w+)\]", seen)
        assert field is not None
        await tools["pages_type"].call({"ref": field[1], "text": "Jürgen", "enter": True})
        said = await tools["pages_read"].call({})
    assert said.splitlines() == ["10 tea", "12 cake & co"]


@pytest.mark.parametrize("page", ["openapi", "http", "sql", "files"])
def test_the_yaml_on_each_page_is_a_valid_app(tmp_path: Path, page: str) -> None:
    (yaml,) = blocks(f"tools/{page}.md", "yaml")
    (tmp_path / "app.yml").write_text(yaml, "utf-8")
    ((_, part),) = check_app(tmp_path).parts.items()
    assert part.kind == page


def code(page: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(blocks(page, "python")[0], page, "exec"), names)
    return names


async def test_the_code_on_the_page_about_databases_asks_one(old: Path) -> None:
    (old / "app.yml").write_text(blocks("tools/sql.md", "yaml")[0], "utf-8")
    ask = code("tools/sql.md")["ask"]
    rows = await ask(old, "SELECT item FROM orders WHERE number > :n", n=11)
    assert rows == '["item"]\n["cake & co"]'


async def test_the_code_on_the_page_about_files_reads_one(old: Path) -> None:
    (old / "export" / "old.txt").write_bytes("Grüße".encode("cp850"))
    (old / "app.yml").write_text(blocks("tools/files.md", "yaml")[0], "utf-8")
    assert await code("tools/files.md")["first_page"](old, "old.txt") == "Grüße"


async def test_the_code_on_the_page_about_documents_asks_a_service(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def order(request: web.Request) -> web.Response:
        return web.json_response({"path": request.path, "key": request.headers["X-Key"]})

    monkeypatch.setenv("SHOP_KEY", "s3cret")
    async with service(order) as served:
        (old / "shop.yml").write_text(
            f"""
openapi: 3.1.0
servers: [{{url: "{served.url}/v1"}}]
paths:
  /orders/{{number}}:
    get:
      operationId: getOrder
      tags: [reading]
      security: [{{shop_key: []}}]
      parameters: [{{name: number, in: path, required: true, schema: {{type: integer}}}}]
      responses: {{}}
  /orders:
    post: {{operationId: createOrder, security: [{{login: []}}], responses: {{}}}}
    delete: {{operationId: dropOrders, responses: {{}}}}
components:
  securitySchemes:
    shop_key: {{type: apiKey, name: X-Key, in: header}}
    login: {{type: http, scheme: bearer}}
"""
        )
        (old / "app.yml").write_text(blocks("tools/openapi.md", "yaml")[0], "utf-8")
        found = await code("tools/openapi.md")["order"](old, 7)
    # What a service repeats of our secrets does not reach the agent.
    assert found == '{"path":"/v1/orders/7","key":"[secret]"}'
