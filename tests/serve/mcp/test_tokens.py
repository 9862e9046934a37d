"""The SDK's own client logs in and calls, at an authorization server that is the SDK's too."""

from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from tests.issuing import Issuer, free_port, issuing
from tests.serve.mcp.served import ERAS, Server, serving

BACK = "http://127.0.0.1:9/callback"


class Kept:
    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


class Browser:
    """A person who opens what they are shown, and comes back with what they are given."""

    def __init__(self) -> None:
        self.asked: list[httpx2.URL] = []

    async def open(self, url: str) -> None:
        async with httpx2.AsyncClient() as session:
            answer = await session.get(url)
        self.asked.append(httpx2.URL(url))
        self._back = httpx2.URL(answer.headers["location"])

    async def back(self) -> AuthorizationCodeResult:
        said = self._back.params
        return AuthorizationCodeResult(code=said["code"], state=said["state"])


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as found:
        yield found


@pytest.fixture
def server(folder: Path, issuer: Issuer) -> Iterator[Server]:
    port = free_port()
    file = folder / "app.yml"
    oauth = f"oauth: {{issuer: '{issuer.url}', url: 'http://127.0.0.1:{port}'}}"
    file.write_text(file.read_text().replace("  auth: {", f"  auth: {{{oauth}, "))
    with serving(folder, "--port", str(port)) as found:
        yield found


@asynccontextmanager
async def logged_in(server: Server, browser: Browser, kept: Kept, era: Any) -> Any:
    provider = OAuthClientProvider(
        f"{server.url}/mcp",
        OAuthClientMetadata(redirect_uris=[AnyUrl(BACK)], client_name="test"),
        kept,
        browser.open,
        browser.back,
    )
    async with httpx2.AsyncClient(auth=provider, timeout=30) as session:
        wire = streamable_http_client(f"{server.url}/mcp", http_client=session)
        async with Client(wire, mode=era) as client:
            yield client


@pytest.mark.parametrize("era", ERAS)
async def test_a_person_logs_in_and_calls_under_their_own_name(
    server: Server, issuer: Issuer, era: str
) -> None:
    browser, kept = Browser(), Kept()
    async with logged_in(server, browser, kept, era) as client:
        result = await client.call_tool("whoami", {})
        assert "ann" in result.content[0].text
    (asked,) = browser.asked
    assert asked.params["resource"] == f"{server.url}/mcp"
    assert asked.params["code_challenge_method"] == "S256"
    # Kept, it is good without another login.
    async with logged_in(server, browser, kept, era) as client:
        assert (await client.call_tool("whoami", {})).content
    assert len(browser.asked) == 1
    # A key of the file's is good beside it.
    async with server.client(era) as client:
        assert "ann" in (await client.call_tool("whoami", {})).content[0].text


async def test_a_session_belongs_to_the_subject_of_its_token(
    server: Server, issuer: Issuer
) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    async with httpx2.AsyncClient(base_url=server.url, timeout=30) as session:

        async def post(sub: str, body: Any, **headers: str) -> httpx2.Response:
            token = issuer.token(aud=f"{server.url}/mcp", sub=sub)
            headers = {
                "authorization": f"Bearer {token}",
                "accept": "application/json, text/event-stream",
                "mcp-protocol-version": "2025-06-18",
                **headers,
            }
            return await session.post("/mcp", json=body, headers=headers)

        begun = await post("eve", hello)
        assert begun.status_code == 200
        named = {"mcp-session-id": begun.headers["mcp-session-id"]}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        # Another token of the same person goes on; another person does not.
        assert (await post("eve", listing, **named)).status_code == 200
        assert (await post("mallory", listing, **named)).status_code == 404
