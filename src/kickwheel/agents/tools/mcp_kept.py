"""A person's login at an MCP server, in a file: used while agents work, and renewed before it ends.

    kickwheel login ─▶ the file, which only its owner reads ─▶ signs each request ─▶ renewed in it

Refresh tokens may be good for one use only, so that one process renews at a time, and the others
take what it got; whoever waits for it may leave, and it goes on.
"""

import asyncio
import base64
import contextlib
import fcntl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import msgspec

from kickwheel.core.errors import KickwheelError, ToolError, unreached
from kickwheel.core.files import storage_error, write_whole

if TYPE_CHECKING:
    import httpx2

EARLY_S = 30.0
"""A token is renewed so long before it ends, as a request with it takes time as well."""
RENEWING_S = 30.0
"""Seconds that renewing may take, here or in another process."""
BYTES = 1 << 20
"""Of an authorization server's answer at most."""
_LOOK_S = 0.02


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a login."""

    server: str
    """URL of the MCP server: the tokens go to no other."""
    client_id: str
    client_secret: str | None = None
    method: str | None = None
    """How the client shows who it is where tokens are given out, as OAuth calls it."""
    token_url: str
    """Where that is."""
    resource: str | None = None
    """What the tokens are asked for (RFC 8707)."""
    access: str
    refresh: str | None = None
    until: float | None = None
    """Unix time at which `access` ends, where that is known."""

    def __repr__(self) -> str:
        """Without what nobody may read."""
        return f"Login(server={self.server!r})"

    @property
    def ends(self) -> bool:
        """Whether the token has ended, or will before an answer comes."""
        return self.until is not None and time.time() > self.until - EARLY_S


class Kept:
    """The login of one entry of `tools`.

    Args:
        folder: of the app's store.
        name: of the entry.
        url: of the MCP server.
    """

    def __init__(self, folder: Path, name: str, url: str) -> None:
        self.url = url
        self.refused: KickwheelError | None = None
        """Why the last request could not be signed."""
        self._file = folder / "logins" / f"{quote(name, safe='')}.json"
        self._again = f"run: kickwheel login APP {name}"
        self._seen: tuple[int, int] | None = None
        self._login: Login | None = None
        self._renewing: asyncio.Task[Login] | None = None

    def read(self) -> Login:
        """The login as it is now.

        Raises:
            ToolError: there is none for this server; the text says how to get one.
        """
        try:
            found = self._file.stat()
            seen = found.st_ino, found.st_mtime_ns
            if self._login is None or seen != self._seen:
                self._login = msgspec.json.decode(self._file.read_bytes(), type=Login)
                self._seen = seen
        except FileNotFoundError:
            self._login = None
        except OSError as error:
            raise storage_error(error, self._file) from error
        except msgspec.MsgspecError as error:
            raise ToolError(f"{self._file} is damaged; {self._again}", lasting=True) from error
        if self._login is None or self._login.server != self.url:
            raise ToolError(f"nobody is logged in at {self.url}; {self._again}", lasting=True)
        return self._login

    def write(self, login: Login) -> None:
        """Keeps the login, for its owner's eyes.

        Raises:
            StoreError: the file cannot be written.
        """
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._file, msgspec.json.encode(login), mode=0o600)

    def signing(self) -> "httpx2.Auth":
        """What signs the requests to the server."""
        from kickwheel.agents.tools.mcp_wire import LoggedIn

        return LoggedIn(self)

    async def renewed(self, used: str) -> Login:
        """The login with another access token than the one that was used.

        Raises:
            ToolError: it cannot be renewed; the text says how to get another.
        """
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(used))
        # What the authorization server gave must be kept, whoever is not interested any more.
        return await asyncio.shield(self._renewing)

    def ended(self) -> ToolError:
        """The login is good no more."""
        return ToolError(f"the login at {self.url} has ended; {self._again}", lasting=True)

    def clean(self, said: str) -> str:
        """The text without the tokens."""
        if self._login is not None:
            for secret in (self._login.access, self._login.refresh, self._login.client_secret):
                said = said.replace(secret, "[secret]") if secret else said
        return said

    async def close(self) -> None:
        """Waits for what is under way."""
        if self._renewing is not None:
            await asyncio.wait({self._renewing})

    async def _renew(self, used: str) -> Login:
        try:
            async with asyncio.timeout(RENEWING_S), self._alone():
                login = self.read()
                if login.access != used:  # Another process has renewed it.
                    return login
                if login.refresh is None:
                    raise self.ended()
                given = await self._given(login, login.refresh)
        except (aiohttp.ClientError, TimeoutError) as error:
            what = f"the login at {self.url} cannot be renewed now: {unreached(error)[:300]}"
            raise ToolError(what) from error
        ends = None if given.expires_in is None else time.time() + given.expires_in
        refresh = given.refresh_token or login.refresh
        renewed = msgspec.structs.replace(
            login, access=given.access_token, refresh=refresh, until=ends
        )
        self.write(renewed)
        return renewed

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None]:
        """No other process renews during the block."""
        with self._file.with_suffix(".lock").open("a") as lock:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(_LOOK_S)
            yield

    async def _given(self, login: Login, refresh: str) -> "_Given":
        """What the authorization server gives for a refresh token (RFC 6749, section 6)."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh}
        form["client_id"] = login.client_id
        if login.resource is not None:
            form["resource"] = login.resource
        headers = {"Accept": "application/json"}
        secret = login.client_secret
        if secret is not None and login.method == "client_secret_post":
            form["client_secret"] = secret
        elif secret is not None and login.method == "client_secret_basic":
            both = f"{quote(login.client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(both.encode()).decode()}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                login.token_url, data=form, headers=headers, allow_redirects=False
            ) as answer,
        ):
            said = b""
            while len(said) <= BYTES and (more := await answer.content.read(BYTES)):
                said += more
        if answer.status in (400, 401):
            raise self.ended()
        try:
            return msgspec.json.decode(said, type=_Given)
        except msgspec.MsgspecError as error:
            raise ToolError(
                f"the login at {self.url} cannot be renewed now: {login.token_url} answers "
                f"{answer.status}, and no token"
            ) from error


class _Given(msgspec.Struct):
    access_token: str
    refresh_token: str | None = None
    expires_in: float | None = None
