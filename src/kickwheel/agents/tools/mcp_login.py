"""Logging in at an MCP server, by a person with a browser: OAuth 2.1 with PKCE, by the SDK.

    the server says whom it trusts ─▶ we register there ─▶ the person says yes in the browser
      ─▶ it comes back to a port of this machine, with a code ─▶ the code becomes tokens

What came of it is used and renewed by `mcp_kept`.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from kickwheel.agents.tools.mcp_kept import Kept, Login
from kickwheel.agents.tools.mcp_link import Server, connection
from kickwheel.core.errors import KickwheelError, ToolError, UsageError

if TYPE_CHECKING:
    from aiohttp import web
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthToken

WAIT_S = 600.0
"""Seconds that a person has to say yes."""
BACK = "/callback"


class LoginAuth(BaseModel):
    """A person logs in once: `kickwheel login APP NAME`. What comes of it is kept in a file of the
    app's store that only its owner reads, and renewed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Literal["login"]
    client_id: str = ""
    """Who we are at the authorization server; by default we register there."""
    client_secret: SecretStr | None = None
    """The secret that belongs to `client_id`, as `${NAME}` of a variable."""
    issuer: str = ""
    """The authorization server that knows `client_id`, by its issuer URL."""

    @model_validator(mode="after")
    def _known(self) -> "LoginAuth":
        if bool(self.client_id) != bool(self.issuer):
            raise ValueError("client_id and issuer belong together: who knows the client?")
        if self.client_secret is not None and not self.client_id:
            raise ValueError("client_secret belongs to a client_id")
        return self


async def log_in(
    server: Server,
    kept: Kept,
    auth: LoginAuth,
    show: Callable[[str], None],
    *,
    secret: str | None = None,
    port: int = 0,
) -> None:
    """Returns once a person has logged in at the server, and what came of it is kept.

    Args:
        show: brings the person to the URL.
        secret: the value of `auth.client_secret`.
        port: of this machine, to which the browser comes back; 0 takes a free one.
    Raises:
        ToolError: the server cannot be reached, its authorization server says no, or nobody came.
        UsageError: the server asks for no login, or for one at another authorization server than
            the file says; or the port is busy.
    """
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import OAuthClientMetadata
    from pydantic import AnyUrl

    # It would print its own account of what is told here.
    logging.getLogger("mcp.client.auth").setLevel(logging.CRITICAL)
    async with _waiting(port) as back:
        registered = _Registered(auth, secret, back.url)

        async def open_browser(url: str) -> None:
            asked = parse_qs(urlsplit(url).query)
            if auth.client_id and asked["client_id"] != [auth.client_id]:
                back.fail(UsageError(f"{server.url} trusts another server than {auth.issuer}"))
            back.state = asked["state"][0]
            show(url)

        metadata = OAuthClientMetadata(redirect_uris=[AnyUrl(back.url)], client_name="kickwheel")
        provider = OAuthClientProvider(server.url, metadata, registered, open_browser, back.came)
        try:
            async with (
                asyncio.timeout(WAIT_S),
                connection(replace(server, signs=_Asking(provider))) as opened,
            ):
                await opened.client.list_tools()
        except TimeoutError:
            raise ToolError(f"nobody has logged in within {WAIT_S / 60:g} minutes") from None
        except ToolError as error:
            trusted = provider.context.auth_server_url
            where = f"{server.url}, which trusts {trusted}" if trusted else server.url
            raise back.failed or ToolError(f"no login at {where}: {error}") from error
        kept.write(_login(server.url, provider, registered))


class _Asking:
    """Signs with what a person brings while it waits."""

    refused: KickwheelError | None = None

    def __init__(self, provider: "OAuthClientProvider") -> None:
        self._provider = provider

    def signing(self) -> "OAuthClientProvider":
        return self._provider

    def clean(self, said: str) -> str:
        return said


class _Registered:
    """The client as the authorization server knows it, and what it got."""

    def __init__(self, auth: LoginAuth, secret: str | None, back: str) -> None:
        self.tokens: OAuthToken | None = None
        self.until: float | None = None
        self._auth, self._secret, self._back = auth, secret, back
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> "OAuthToken | None":
        return self.tokens

    async def set_tokens(self, tokens: "OAuthToken") -> None:
        self.tokens = tokens
        self.until = None if tokens.expires_in is None else time.time() + tokens.expires_in

    async def get_client_info(self) -> "OAuthClientInformationFull | None":
        from mcp.shared.auth import OAuthClientInformationFull
        from pydantic import AnyUrl

        if self._client is None and self._auth.client_id:
            self._client = OAuthClientInformationFull(
                redirect_uris=[AnyUrl(self._back)],
                client_id=self._auth.client_id,
                client_secret=self._secret,
                token_endpoint_auth_method="client_secret_basic" if self._secret else "none",
                issuer=self._auth.issuer,
            )
        return self._client

    async def set_client_info(self, client_info: "OAuthClientInformationFull") -> None:
        self._client = client_info


def _login(url: str, provider: "OAuthClientProvider", registered: _Registered) -> Login:
    found, tokens = provider.context, registered.tokens
    if tokens is None or found.client_info is None:
        raise UsageError(f"{url} asks for no login; leave auth out")
    if found.oauth_metadata is None:
        token_url = f"{found.get_authorization_base_url(url)}/token"
    else:
        token_url = str(found.oauth_metadata.token_endpoint)
    return Login(
        server=url,
        client_id=found.client_info.client_id,
        client_secret=found.client_info.client_secret,
        method=found.client_info.token_endpoint_auth_method,
        token_url=token_url,
        resource=found.get_resource_url() if found.protected_resource_metadata else None,
        access=tokens.access_token,
        refresh=tokens.refresh_token,
        until=registered.until,
    )


class _Back:
    """Where the browser comes back to."""

    def __init__(self) -> None:
        self.url = ""
        self.state = ""
        """What it must bring, so that no page elsewhere can send it here."""
        self.failed: KickwheelError | None = None
        self._result: asyncio.Future[AuthorizationCodeResult] = (
            asyncio.get_running_loop().create_future()
        )

    async def came(self) -> "AuthorizationCodeResult":
        """What the person brings back."""
        return await self._result

    def fail(self, why: KickwheelError) -> None:
        """No login comes of it."""
        self.failed = why
        raise why

    async def hear(self, request: "web.Request") -> "web.Response":
        """Answers the browser."""
        from mcp.shared.auth import AuthorizationCodeResult

        said = request.query
        state = said.get("state", "")
        if not self.state or not secrets.compare_digest(state.encode(), self.state.encode()):
            return _page("This is not the login that was begun.", 400)
        if self._result.done():
            return _page("This login is over.", 400)
        if "code" not in said:
            why = said.get("error_description") or said.get("error") or "it sent no code"
            self.failed = ToolError(f"the authorization server says no: {why[:300]}")
            self._result.set_exception(self.failed)
            return _page("You are not logged in. The terminal says more.", 200)
        self._result.set_result(
            AuthorizationCodeResult(code=said["code"], state=state, iss=said.get("iss"))
        )
        return _page("Thank you. The terminal says whether you are logged in; close this.", 200)


@asynccontextmanager
async def _waiting(port: int) -> AsyncGenerator[_Back]:
    from aiohttp import web

    back = _Back()
    app = web.Application()
    app.router.add_get(BACK, back.hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError as error:
            raise UsageError(f"port {port} is busy; take another: --port") from error
        back.url = f"http://127.0.0.1:{runner.addresses[0][1]}{BACK}"
        yield back
    finally:
        await runner.cleanup()


def _page(text: str, status: int) -> "web.Response":
    from aiohttp import web

    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(text=text, status=status, headers=headers)
