"""Resources, prompts and OAuth of MCP servers."""

import base64
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl, SecretStr, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.agents.tools.test_mcp_http import echo, lowlevel, opened, said, served

from kickwheel.agents.tools import calling
from kickwheel.agents.tools.mcp import Mcp
from kickwheel.agents.tools.mcp_oauth import OauthAuth
from kickwheel.core.errors import UsageError
from kickwheel.records import ToolCall

__all__ = ["opened"]


def library() -> MCPServer:
    """A server with resources and prompts."""
    server = MCPServer("library")

    @server.resource("doc://terms", mime_type="text/markdown", description="What  holds\nfor all.")
    def terms() -> str:
        return "30 days."

    @server.resource("doc://seal", mime_type="image/png")
    def seal() -> bytes:
        return b"\x89PNG"

    @server.resource("doc://pages/{number}")
    def page(number: str) -> str:
        return f"page {number}: " + "a" * 30_000

    @server.prompt()
    def letter(to: str, tone: str = "kind") -> str:
        """A letter."""
        return f"Write a {tone} letter to {to}."

    return server


async def prompt(tools: Any, arguments: dict[str, Any]) -> calling.Result:
    written = json.dumps({"name": "letter", "arguments": arguments})
    return await calling.call(tools, ToolCall(id="1", name="clinic_read_prompt", arguments=written))


@pytest.mark.parametrize("protocol", ["auto", "legacy"])
async def test_resources_and_prompts_are_listed_and_read_by_tools(
    opened: Any, protocol: Any
) -> None:
    async with served(library().streamable_http_app()) as port:
        part = Mcp(
            url=f"http://127.0.0.1:{port}/mcp", protocol=protocol, resources=True, prompts=True
        )
        async with opened(part) as tools:
            listed = (await said(tools, "clinic_list_resources")).text.splitlines()
            assert "doc://terms terms (text/markdown) What holds for all." in listed
            assert any(line.startswith("doc://pages/{number}") for line in listed)
            terms = await said(tools, "clinic_read_resource", uri="doc://terms")
            assert terms == type(terms)("30 days.", untrusted=True)
            seal = (await said(tools, "clinic_read_resource", uri="doc://seal")).text
            assert seal == "[resource doc://seal, image/png, 4 bytes: not shown]"
            page = (await said(tools, "clinic_read_resource", uri="doc://pages/7")).text
            assert page.startswith("page 7: aaa")
            assert len(page) < 20_500, "one result has its limit"
            gone = await said(tools, "clinic_read_resource", uri="doc://gone")
            assert gone.state in ("failed", "invalid")
            assert (await said(tools, "clinic_list_prompts")).text == (
                "letter(to, [tone]) A letter."
            )
            letter = await prompt(tools, {"to": "Ann"})
            assert letter.text == "user: Write a kind letter to Ann."
            wrong = await prompt(tools, {"to": 3})
            assert wrong.state == "invalid"


async def test_a_server_without_resources_says_so(opened: Any) -> None:
    async with served(lowlevel(echo).streamable_http_app()) as port:
        part = Mcp(url=f"http://127.0.0.1:{port}/mcp", resources=True)
        async with opened(part) as tools:
            nothing = await said(tools, "clinic_list_resources")
    assert nothing.state == "failed"
    assert "Method not found" in nothing.text


class Issuer:
    """An authorization server that gives a new token each time, and the server that takes them."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.signed: list[str] = []
        self.good: set[str] = set()
        self.lasts_s = 3600
        self.issuer = self.url = ""

    async def metadata(self, request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "issuer": f"{self.issuer}/",
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "response_types_supported": ["code"],
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            }
        )

    async def token(self, request: Request) -> JSONResponse:
        self.asked.append(parse_qs((await request.body()).decode()))
        self.signed.append(request.headers.get("authorization", ""))
        known = base64.b64encode(b"desk:s3cret").decode()
        if self.signed[-1] != f"Basic {known}":
            return JSONResponse({"error": "invalid_client"}, status_code=401)
        token = f"token-{len(self.asked)}"
        self.good.add(token)
        body = {"access_token": token, "token_type": "Bearer", "expires_in": self.lasts_s}
        return JSONResponse(body)

    async def verify_token(self, token: str) -> AccessToken | None:
        if token not in self.good:
            return None
        return AccessToken(token=token, client_id="desk", scopes=["clinic"])

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        routes = [
            Route("/.well-known/oauth-authorization-server", self.metadata),
            Route("/token", self.token, methods=["POST"]),
        ]
        async with served(Starlette(routes=routes)) as port:
            self.issuer = f"http://127.0.0.1:{port}"
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                other = free.getsockname()[1]
            self.url = f"http://127.0.0.1:{other}/mcp"
            settings = AuthSettings(
                issuer_url=AnyHttpUrl(self.issuer),
                resource_server_url=AnyHttpUrl(self.url),
                required_scopes=["clinic"],
                validate_token_resource=False,
            )
            app = lowlevel(echo).streamable_http_app(auth=settings, token_verifier=self)
            async with served(app, other):
                yield

    def part(self, **options: Any) -> Mcp:
        given: dict[str, Any] = {
            "kind": "oauth",
            "issuer": f"{self.issuer}/",
            "client_id": "desk",
            "client_secret": SecretStr("${CLINIC_SECRET}"),
        }
        return Mcp(url=self.url, auth=OauthAuth(**given | options))


async def test_a_token_is_fetched_where_the_server_says_and_kept(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIC_SECRET", "s3cret")
    issuer = Issuer()
    async with issuer.running(), opened(issuer.part(scopes=("clinic",))) as tools:
        for word in ("one", "two"):
            assert (await said(tools, "say", text=word)).text == word
        assert len(issuer.asked) == 1, "the token was kept"
        assert issuer.asked[0]["grant_type"] == ["client_credentials"]
        assert issuer.asked[0]["scope"] == ["clinic"]
        issuer.good.clear()
        assert (await said(tools, "say", text="three")).text == "three"
        assert len(issuer.asked) == 2, "it was taken back, and fetched anew"


async def test_credentials_go_to_no_other_issuer_than_the_files(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIC_SECRET", "s3cret")
    issuer = Issuer()
    async with issuer.running():
        with pytest.raises(UsageError, match=r"tools\.clinic: the server cannot be reached"):
            async with opened(issuer.part(issuer="https://login.example.com")):
                pass
        assert issuer.asked == []


async def test_wrong_credentials_are_told_without_the_secret(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIC_SECRET", "wr0ng-secret")
    issuer = Issuer()
    async with issuer.running():
        with pytest.raises(UsageError) as told:
            async with opened(issuer.part()):
                pass
    assert "invalid_client" in str(told.value)
    assert "wr0ng" not in str(told.value)


def test_auth_belongs_to_a_url(tmp_path: Path) -> None:
    auth = OauthAuth(kind="oauth", issuer="https://a", client_id="b", client_secret=SecretStr("c"))
    with pytest.raises(ValidationError, match="belong to a url"):
        Mcp(command=("clinic",), auth=auth)
