"""What authorises the requests of a tool: keys, passwords, tokens fetched or the caller's own.

Secrets are written `${NAME}` in the file and read when the app opens. They go into requests and
nowhere else: what a service says is cleaned of them before an agent reads it.
"""

import asyncio
import base64
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal
from urllib.parse import quote

import aiohttp
import msgspec
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from kickwheel.agents.caller import caller
from kickwheel.agents.tools.web import Access, Call, fetch, form, header, origin
from kickwheel.core.config import key_from
from kickwheel.core.errors import ToolError, UsageError

EARLY_S = 30.0
"""A token is fetched anew so long before it ends, as a request with it takes time as well."""

SHORTEST = 4
"""Characters of a secret that is cut out of answers: shorter ones stand in any text by chance."""


class _Way(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class KeyAuth(_Way):
    """A key in a header, the query or a cookie."""

    kind: Literal["key"]
    key: SecretStr
    """The key, as `${NAME}` of a variable."""
    name: str = "X-API-Key"
    """Of the header, parameter or cookie."""
    place: Literal["header", "query", "cookie"] = "header"
    """Where the service looks for it."""

    def access(self, opened: aiohttp.ClientSession) -> Access:
        """What signs with it."""
        return keyed(secret(self.key), self.name, self.place)


class BasicAuth(_Way):
    """A name and a password, as HTTP has always had them."""

    kind: Literal["basic"]
    user: str
    """Who logs in."""
    password: SecretStr
    """The password, as `${NAME}` of a variable."""

    def access(self, opened: aiohttp.ClientSession) -> Access:
        """What signs with it."""
        return basic(self.user, secret(self.password))


class BearerAuth(_Way):
    """A token that does not change."""

    kind: Literal["bearer"]
    token: SecretStr
    """The token, as `${NAME}` of a variable."""

    def access(self, opened: aiohttp.ClientSession) -> Access:
        """What signs with it."""
        return bearer(secret(self.token))


class ClientAuth(_Way):
    """OAuth 2 client credentials: a token is fetched, kept while it is good, and fetched anew."""

    kind: Literal["oauth2"]
    token_url: str
    """Where tokens are given out."""
    client_id: str
    """Who we are there."""
    client_secret: SecretStr
    """The secret, as `${NAME}` of a variable."""
    scopes: tuple[str, ...] = ()
    """What the token shall allow; by default what the service thinks right."""

    def access(self, opened: aiohttp.ClientSession) -> Access:
        """What signs with it."""
        known = secret(self.client_secret)
        return Fetched(opened, self.token_url, self.client_id, known, self.scopes)


class CallerAuth(_Way):
    """The token of whoever asked the agent, passed on: the service decides what this user may."""

    kind: Literal["caller"]

    def access(self, opened: aiohttp.ClientSession) -> Access:
        """What signs with it."""
        return Passed()


Auth = Annotated[
    KeyAuth | BasicAuth | BearerAuth | ClientAuth | CallerAuth, Field(discriminator="kind")
]


def secret(written: SecretStr) -> str:
    """What a secret of the file stands for.

    Raises:
        UsageError: its variable is not set.
    """
    found = key_from(written.get_secret_value())
    if found is None:
        raise UsageError(f"{written.get_secret_value() or 'a secret'} is not set or empty")
    return found


class Fixed:
    """Credentials that stay the same: headers, query, cookies."""

    def __init__(
        self,
        *secrets: str,
        headers: Sequence[tuple[str, str]] = (),
        query: Sequence[tuple[str, str]] = (),
        cookies: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._secrets = secrets
        self._headers, self._cookies = dict(headers), tuple(cookies)
        self._query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in query)

    async def sign(self, call: Call) -> Call:
        """The request with them."""
        return replace(
            call,
            headers={**call.headers, **self._headers},
            query="&".join(filter(None, (call.query, self._query))),
            cookies=(*call.cookies, *self._cookies),
        )

    async def renew(self, refused: Call) -> bool:
        """Never: the same would be refused again."""
        return False

    def clean(self, said: str) -> str:
        """The text without them."""
        return _without(said, *self._secrets)


def keyed(key: str, name: str, place: Literal["header", "query", "cookie"]) -> Fixed:
    """A key at a place."""
    pairs = [(name, header(key) if place == "header" else key)]
    if place == "header":
        return Fixed(key, headers=pairs)
    return Fixed(key, query=pairs) if place == "query" else Fixed(key, cookies=pairs)


def basic(user: str, password: str) -> Fixed:
    """A name and a password (RFC 7617)."""
    both = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Fixed(password, both, headers=[("Authorization", f"Basic {both}")])


def bearer(token: str) -> Fixed:
    """A token (RFC 6750)."""
    return Fixed(token, headers=[("Authorization", f"Bearer {header(token)}")])


class Passed:
    """The caller's own token."""

    async def sign(self, call: Call) -> Call:
        """The request in the caller's name.

        Raises:
            ToolError: the caller has no token.
        """
        token = caller().token
        if token is None:
            raise ToolError(
                "the service is asked with the caller's own token, and this caller has none",
                lasting=True,
            )
        return await bearer(token.get_secret_value()).sign(call)

    async def renew(self, refused: Call) -> bool:
        """Never: only the caller can."""
        return False

    def clean(self, said: str) -> str:
        """The text without the token."""
        token = caller().token
        return said if token is None else _without(said, token.get_secret_value())


class Fetched:
    """A token that is fetched with client credentials (RFC 6749, section 4.4) and kept."""

    def __init__(
        self,
        opened: aiohttp.ClientSession,
        url: str,
        client: str,
        known: str,
        scopes: Sequence[str] = (),
    ) -> None:
        self._opened = opened
        self._url, self._client, self._known, self._scopes = url, client, known, tuple(scopes)
        self._token, self._until = "", 0.0
        self._lock = asyncio.Lock()

    async def sign(self, call: Call) -> Call:
        """The request with a token that is good.

        Raises:
            ToolError: there is none to be had.
        """
        async with self._lock:  # Calls that start together fetch one token.
            if time.monotonic() >= self._until:
                await self._fetch()
            token = self._token
        return await bearer(token).sign(call)

    async def renew(self, refused: Call) -> bool:
        """Yes, once: the token may have been taken back."""
        async with self._lock:
            if refused.headers.get("Authorization") == f"Bearer {self._token}":
                self._until = 0.0
        return True

    def clean(self, said: str) -> str:
        """The text without secret and token."""
        return _without(said, self._known, self._token)

    async def _fetch(self) -> None:
        fields = {"grant_type": "client_credentials"}
        if self._scopes:
            fields["scope"] = " ".join(self._scopes)
        signing = basic(quote(self._client, safe=""), quote(self._known, safe=""))
        call = Call(
            method="POST",
            url=self._url,
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
            body=form(fields),
        )
        where = origin(self._url)
        reply = await fetch(self._opened, await signing.sign(call))
        try:
            said = msgspec.json.decode(reply.body)
            self._token = header(said["access_token"])
            lasts_s = float(said.get("expires_in") or 300.0)
        except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ToolError(
                f"{where} gave no token to {self._client}: it answers {reply.status}",
                lasting=400 <= reply.status < 500 and reply.status != 429,
            ) from error
        # A token that hardly lasts is used once rather than fetched for ever.
        self._until = time.monotonic() + max(lasts_s - EARLY_S, min(lasts_s, 1.0))


class All:
    """Several credentials at once."""

    def __init__(self, parts: Sequence[Access]) -> None:
        self._parts = tuple(parts)

    async def sign(self, call: Call) -> Call:
        """The request with all of them."""
        for part in self._parts:
            call = await part.sign(call)
        return call

    async def renew(self, refused: Call) -> bool:
        """Where one of them can."""
        return any([await part.renew(refused) for part in self._parts])

    def clean(self, said: str) -> str:
        """The text without any of them."""
        for part in self._parts:
            said = part.clean(said)
        return said


def _without(said: str, *secrets: str) -> str:
    for known in secrets:
        if len(known) >= SHORTEST:
            said = said.replace(known, "[secret]").replace(quote(known, safe=""), "[secret]")
    return said
