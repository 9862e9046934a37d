"""What signs the requests of a tool: keys, passwords, certificates, the caller's own token.

Secrets go into requests and nowhere else: what a service says is cleaned of them before an agent
reads it. Tokens that are fetched are in `tokens`.
"""

import base64
import ssl
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from aiohttp import DigestAuthMiddleware

from kickwheel.agents.caller import caller
from kickwheel.agents.tools.web import Access, Call, header, origin
from kickwheel.core.errors import ToolError, UsageError

SHORTEST = 4
"""Characters of a secret that is cut out of answers: shorter ones stand in any text by chance."""


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
        return without(said, *self._secrets)


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
        return said if token is None else without(said, token.get_secret_value())


class Digest(Fixed):
    """A name and a password of which only digests are sent (RFC 7616).

    Raises:
        UsageError: the name has a colon, which digests part by.
    """

    def __init__(self, user: str, password: str) -> None:
        super().__init__(password)
        try:
            self._answers = DigestAuthMiddleware(user, password)
        except ValueError as error:
            raise UsageError(f'the user "{user}" cannot log in by digest: {error}') from error

    async def sign(self, call: Call) -> Call:
        """The request, which answers when the service asks who sends it."""
        return replace(call, through=self._answers)


class Certificate(Fixed):
    """A client's certificate, shown when the connection is made (mutual TLS)."""

    def __init__(self, shown: ssl.SSLContext) -> None:
        super().__init__()
        self._shown = shown

    async def sign(self, call: Call) -> Call:
        """The request, over connections that show it.

        Raises:
            ToolError: it would go over one that shows nothing.
        """
        if not call.url.startswith("https:"):
            raise ToolError(
                f"{origin(call.url)} is no https, and without it no certificate is shown",
                lasting=True,
            )
        return replace(call, tls=self._shown)


def certificate(file: Path, key: Path | None, authority: Path | None) -> Certificate:
    """The certificate in a file, with those that lead to its authority.

    Args:
        file: PEM; with the private key, unless `key` has it.
        authority: PEM of whom the service's own certificate must come from; by default of whom the
            system trusts.
    Raises:
        UsageError: a file cannot be read, the key belongs to another certificate, or it is locked.
    """

    def locked() -> str:
        raise UsageError(
            f"{key or file}: the key is locked by a password, and nobody is there to type it. "
            "Write it without one: openssl pkey -in LOCKED -out OPEN"
        )

    try:
        shown = ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise UsageError(f"{authority}: no certificates in PEM: {error.strerror}") from error
    try:
        shown.load_cert_chain(file, key, password=locked)
    except OSError as error:
        files = file if key is None else f"{file} and {key}"
        why = error.strerror or error
        raise UsageError(f"{files}: no certificate with its key in PEM: {why}") from error
    return Certificate(shown)


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


def without(said: str, *secrets: str) -> str:
    """The text with each of the secrets cut out, as they are and as they stand in a URL."""
    for known in secrets:
        if len(known) >= SHORTEST:
            said = said.replace(known, "[secret]").replace(quote(known, safe=""), "[secret]")
    return said
