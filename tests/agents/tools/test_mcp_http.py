"""Servers that are built with the protocol's own kit, over HTTP and pipes, in both eras."""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import mcp_types as t
import pytest
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from mcp.server.subscriptions import InMemorySubscriptionBus, ToolsListChanged
from pydantic import BaseModel, SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from kickwheel.agents import durable
from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.tools import Tool, calling, mcp
from kickwheel.agents.tools.mcp import Mcp
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import Context
from kickwheel.core.store import open_store
from kickwheel.records import ToolCall

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


@asynccontextmanager
async def served(app: ASGIApp, port: int = 0) -> AsyncIterator[int]:
    """The app on loopback; gives its port."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve())
    for _ in range(1000):
        if server.started:
            break
        await asyncio.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    with open_store(tmp_path / "store") as store:

        @asynccontextmanager
        async def opened(part: Mcp) -> AsyncIterator[dict[str, Tool]]:
            async def share(key: Any, make: Any) -> Any:
                raise AssertionError("a server shares nothing")

            async with part.open(Context("clinic", tmp_path, store, {}, share=share)) as box:
                yield {tool.spec.name: tool for tool in box}

        yield opened


async def said(tools: dict[str, Tool], name: str, **arguments: Any) -> calling.Result:
    call = ToolCall(id="1", name=name, arguments=json.dumps(arguments))
    return await calling.call(tools, call)


def lowlevel(answer: Callable[[str, str], list[Any]]) -> Server[Any]:
    """A server with one tool, `say`, whose content is `answer(name, text)`."""

    async def list_tools(context: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name="say", input_schema=TEXT)])

    async def call_tool(context: Any, params: Any) -> t.CallToolResult:
        return t.CallToolResult(content=answer(params.name, params.arguments["text"]))

    return Server("clinic", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


def echo(name: str, text: str) -> list[Any]:
    return [t.TextContent(type="text", text=text)]


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_both_eras_are_spoken_over_http(opened: Any, protocol: Any) -> None:
    async with served(lowlevel(echo).streamable_http_app()) as port:
        part = Mcp(url=f"http://127.0.0.1:{port}/mcp", protocol=protocol)
        async with opened(part) as tools:
            texts = await asyncio.gather(*(said(tools, "say", text=f"{n}") for n in range(20)))
            assert [result.text for result in texts] == [str(n) for n in range(20)]


PIPED = """
from mcp.server.mcpserver import MCPServer

server = MCPServer("clinic")


@server.tool()
def add(a: int, b: int = 2) -> int:
    return a + b


server.run("stdio")
"""


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_both_eras_are_spoken_over_pipes(opened: Any, tmp_path: Path, protocol: Any) -> None:
    (tmp_path / "adding.py").write_text(PIPED)
    part = Mcp(command=(sys.executable, "adding.py"), protocol=protocol)
    async with opened(part) as tools:
        assert (await said(tools, "add", a=40)).text == "42"
        wrong = await said(tools, "add", a="many")
        assert wrong.state == "invalid"


async def test_all_that_a_result_may_hold_becomes_text(opened: Any) -> None:
    picture = base64.b64encode(b"12345").decode()
    text = t.TextResourceContents(uri="file:///a.txt", text="inside")
    blob = t.BlobResourceContents(uri="file:///b.pdf", blob=picture, mime_type="application/pdf")

    def everything(name: str, _: str) -> list[Any]:
        return [
            t.TextContent(type="text", text="first"),
            t.ImageContent(type="image", data=picture, mime_type="image/png"),
            t.AudioContent(type="audio", data=picture, mime_type="audio/wav"),
            t.ResourceLink(type="resource_link", name="plan", uri="doc://plan", description="The"),
            t.EmbeddedResource(type="resource", resource=text),
            t.EmbeddedResource(type="resource", resource=blob),
        ]

    async with (
        served(lowlevel(everything).streamable_http_app()) as port,
        opened(Mcp(url=f"http://127.0.0.1:{port}/mcp")) as tools,
    ):
        assert (await said(tools, "say", text="")).text.splitlines() == [
            "first",
            "[image, image/png, 5 bytes: not shown]",
            "[audio, audio/wav, 5 bytes: not shown]",
            "[resource plan at doc://plan: The]",
            "[resource file:///a.txt]",
            "inside",
            "[resource file:///b.pdf, application/pdf, 5 bytes: not shown]",
        ]


async def test_a_picture_that_is_one_is_kept_for_models_with_eyes(opened: Any) -> None:
    data = b"\x89PNG\r\n\x1a\n and so on"

    def painted(name: str, _: str) -> list[Any]:
        return [
            t.ImageContent(type="image", data=base64.b64encode(it).decode(), mime_type="image/png")
            for it in (data, b"<svg/>")
        ]

    async with (
        served(lowlevel(painted).streamable_http_app()) as port,
        opened(Mcp(url=f"http://127.0.0.1:{port}/mcp")) as tools,
    ):
        result = await said(tools, "say", text="")
    (image,) = result.images
    assert image.media_type == "image/png"
    assert f"[kept as {image.kept}, and shown to models that take pictures]" in result.text


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
@pytest.mark.parametrize("as_json", [True, False])
async def test_a_server_that_shouts_over_http_is_cut_short(
    opened: Any, protocol: Any, as_json: bool
) -> None:
    def shout(name: str, text: str) -> list[Any]:
        return echo(name, "x" * 30_000_000 if text == "loud" else text)

    async with served(lowlevel(shout).streamable_http_app(json_response=as_json)) as port:
        part = Mcp(url=f"http://127.0.0.1:{port}/mcp", protocol=protocol)
        async with opened(part) as tools:
            loud = await said(tools, "say", text="loud")
            assert loud.state == "failed"
            assert len(loud.text) < 3000
            assert (await said(tools, "say", text="quiet")).text == "quiet"


async def test_a_server_that_was_away_is_found_again(opened: Any) -> None:
    async with served(lowlevel(echo).streamable_http_app()) as port:
        part = Mcp(url=f"http://127.0.0.1:{port}/mcp", protocol="legacy", tries=1)
        context = opened(part)
        tools = await context.__aenter__()
        assert (await said(tools, "say", text="1")).text == "1"
    try:
        away = await said(tools, "say", text="2")
        assert away.state == "failed"
        async with served(lowlevel(echo).streamable_http_app(), port):
            results = [await said(tools, "say", text="3") for _ in range(2)]
            # What is left of the old session may cost one call, which says so.
            assert results[-1].text == "3"
    finally:
        await context.__aexit__(None, None, None)


async def test_a_url_behind_which_nobody_listens_is_told(opened: Any) -> None:
    with pytest.raises(UsageError, match=r"cannot be reached: .* \(http://127\.0\.0\.1:9/mcp\)"):
        async with opened(Mcp(url="http://127.0.0.1:9/mcp")):
            pass


class Guarded:
    """Lets pass who shows a token, and remembers whose it was."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            self.seen.append(headers.get(b"authorization", b"").decode())
        await self.app(scope, receive, send)


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_calls_are_made_in_the_callers_name(
    opened: Any, protocol: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIC_TOKEN", "Bearer app")
    guarded = Guarded(lowlevel(echo).streamable_http_app())
    async with served(guarded) as port:
        part = Mcp(
            url=f"http://127.0.0.1:{port}/mcp",
            headers={"Authorization": SecretStr("${CLINIC_TOKEN}")},
            as_caller=True,
            protocol=protocol,
        )
        async with opened(part) as tools:
            assert set(guarded.seen) == {"Bearer app"}
            for name in ("ann", "ben"):
                guarded.seen.clear()
                with acting_for(Caller(user=name, token=SecretStr(name))):
                    assert (await said(tools, "say", text=name)).text == name
                assert set(guarded.seen) == {f"Bearer {name}"}
            nobody = await said(tools, "say", text="x")
            assert "works in the caller's name, and this caller has no token for it" in nobody.text


async def test_connections_of_callers_are_kept_up_to_a_number(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "CALLERS", 2)
    async with (
        served(lowlevel(echo).streamable_http_app()) as port,
        opened(Mcp(url=f"http://127.0.0.1:{port}/mcp", as_caller=True)) as tools,
    ):
        for name in ("ann", "ben", "cleo", "ann"):
            with acting_for(Caller(user=name, token=SecretStr(name))):
                assert (await said(tools, "say", text=name)).text == name


async def test_a_connection_that_is_being_opened_is_not_closed_for_another_callers(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp, "CALLERS", 1)
    came, let = asyncio.Event(), asyncio.Event()
    app = lowlevel(echo).streamable_http_app()

    async def slow_for_ann(scope: Scope, receive: Receive, send: Send) -> None:
        if dict(scope.get("headers", ())).get(b"authorization") == b"Bearer ann":
            came.set()
            await let.wait()
        await app(scope, receive, send)

    async def called_by(tools: dict[str, Tool], name: str) -> str:
        with acting_for(Caller(user=name, token=SecretStr(name))):
            return (await said(tools, "say", text=name)).text

    async with (
        served(slow_for_ann) as port,
        opened(Mcp(url=f"http://127.0.0.1:{port}/mcp", as_caller=True)) as tools,
    ):
        ann = asyncio.create_task(called_by(tools, "ann"))
        await came.wait()
        assert await called_by(tools, "ben") == "ben"
        let.set()
        assert await ann == "ann"


class Sure(BaseModel):
    sure: bool


class Person(durable.Unkept):
    """Steps that nobody keeps, with somebody to ask."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def person(self, question: str, choices: tuple[str, ...] = ()) -> str:
        self.asked.append(question)
        return self.answers.pop(0)


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_a_server_asks_a_person_within_a_call(opened: Any, protocol: Any) -> None:
    server = MCPServer("clinic")

    async def ask(path: str) -> Elicit[Sure]:
        return Elicit("Sure about it?", Sure)

    @server.tool()
    async def delete(path: str, ok: Annotated[Sure, Resolve(ask)]) -> str:
        return f"{path} {ok.sure}"

    person = Person("yes", "no")
    durable.STEPS.set(person)
    async with (
        served(server.streamable_http_app()) as port,
        opened(Mcp(url=f"http://127.0.0.1:{port}/mcp", protocol=protocol)) as tools,
    ):
        first = await said(tools, "delete", path="/x")
        second = await said(tools, "delete", path="/y")
    assert first.text.startswith("/x True")
    assert second.text.startswith("/y False")
    assert person.asked == ["Sure about it?"] * 2


async def test_the_list_follows_a_server_that_tells_of_changes_on_a_stream(
    tmp_path: Path,
) -> None:
    async def share(key: Any, make: Any) -> Any:
        raise AssertionError("a server shares nothing")

    bus = InMemorySubscriptionBus()
    server = MCPServer("clinic", subscriptions=bus)

    @server.tool()
    async def old() -> str:
        return "old"

    async def new() -> str:
        return "new"

    with open_store(tmp_path / "store") as store:
        context = Context("clinic", tmp_path, store, {}, share=share)
        async with (
            served(server.streamable_http_app()) as port,
            Mcp(url=f"http://127.0.0.1:{port}/mcp").open(context) as box,
        ):
            (held,) = box
            server.remove_tool("old")
            server.add_tool(new)
            for _ in range(500):
                # Published until the stream is open: what comes before is not sent.
                await bus.publish(ToolsListChanged())
                if [tool.spec.name for tool in box] == ["new"]:
                    break
                await asyncio.sleep(0.01)
            assert [tool.spec.name for tool in box] == ["new"]
            gone = await said({"old": held}, "old")
            assert gone.text == 'error: the server does not offer "old" any more'


async def test_the_end_of_a_run_ends_its_calls_at_once_and_the_connection_stays(
    opened: Any,
) -> None:
    ended = asyncio.Event()

    async def list_tools(context: Any, params: Any) -> t.ListToolsResult:
        return t.ListToolsResult(tools=[t.Tool(name="say", input_schema=TEXT)])

    async def call_tool(context: Any, params: Any) -> t.CallToolResult:
        if params.arguments["text"] == "slowly":
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
        return t.CallToolResult(content=echo("say", "fast"))

    server = Server("clinic", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    async with (
        served(server.streamable_http_app()) as port,
        opened(Mcp(url=f"http://127.0.0.1:{port}/mcp")) as tools,
    ):
        task = asyncio.create_task(said(tools, "say", text="slowly"))
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
        await asyncio.wait_for(ended.wait(), 5)
        assert (await said(tools, "say", text="x")).text == "fast"
