"""Tokens that are fetched with client credentials, kept while they are good, and fetched anew."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import msgspec

from kickwheel.agents.tools.access import basic, bearer, without
from kickwheel.agents.tools.web import Call, Reply, fetch, form, header, origin
from kickwheel.core.errors import ToolError

EARLY_S = 30.0
"""A token is fetched anew so long before it ends, as a request with it takes time as well."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where tokens are given out."""

    url: str
    posts: bool = False
    """Whether the secret stands in the form, instead of a header."""


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
        return without(said, self._known, self._token)

    async def _endpoint(self) -> Endpoint:
        return Endpoint(self._url)

    async def _fetch(self) -> None:
        endpoint = await self._endpoint()
        fields = {"grant_type": "client_credentials"}
        if self._scopes:
            fields["scope"] = " ".join(self._scopes)
        if endpoint.posts:
            fields |= {"client_id": self._client, "client_secret": self._known}
        call = Call(
            method="POST",
            url=endpoint.url,
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
            body=form(fields),
        )
        if not endpoint.posts:
            signing = basic(quote(self._client, safe=""), quote(self._known, safe=""))
            call = await signing.sign(call)
        reply = await fetch(self._opened, call)
        try:
            said = msgspec.json.decode(reply.body)
            self._token = header(said["access_token"])
            lasts_s = float(said.get("expires_in") or 300.0)
        except (msgspec.DecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise _refused(endpoint.url, f"no token to {self._client}", reply) from error
        # A token that hardly lasts is used once rather than fetched for ever.
        self._until = time.monotonic() + max(lasts_s - EARLY_S, min(lasts_s, 1.0))


class Discovered(Fetched):
    """A token of an OpenID provider, whose own document says where it gives tokens out.

    Source: OpenID Connect Discovery 1.0, sections 3 and 4.
    """

    async def _endpoint(self) -> Endpoint:
        """What the document says now: it is read as often as a token is fetched."""
        reply = await fetch(
            self._opened,
            Call(method="GET", url=self._url, headers={"Accept": "application/json"}),
        )
        try:
            said = msgspec.json.decode(reply.body, type=_Provider)
        except msgspec.DecodeError as error:
            raise _refused(self._url, "no OpenID configuration", reply) from error
        url, ways = said.token_endpoint, said.token_endpoint_auth_methods_supported
        if not url.startswith("https://") and self._url.startswith("https://"):
            raise ToolError(
                f"{origin(self._url)} names {url} for tokens: no secret goes there, as that is no "
                "https",
                lasting=True,
            )
        if not {"client_secret_basic", "client_secret_post"} & {*ways}:
            raise ToolError(
                f"{origin(self._url)} takes clients by {', '.join(ways)} only, not by a secret",
                lasting=True,
            )
        return Endpoint(url, posts="client_secret_basic" not in ways)


class _Provider(msgspec.Struct):
    token_endpoint: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


def _refused(url: str, what: str, reply: Reply) -> ToolError:
    lasting = 400 <= reply.status < 500 and reply.status != 429
    return ToolError(f"{origin(url)} gave {what}: it answers {reply.status}", lasting=lasting)
