"""What authorises the requests of a tool, as the app file says it.

Secrets are written `${NAME}` in the file and read when the app opens.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from kickwheel.agents.tools import access
from kickwheel.agents.tools.tokens import Fetched
from kickwheel.agents.tools.web import Access
from kickwheel.core.config import key_from
from kickwheel.core.errors import UsageError


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

    def access(self, opened: aiohttp.ClientSession, folder: Path) -> Access:
        """What signs with it."""
        return access.keyed(secret(self.key), self.name, self.place)


class Login(_Way):
    """A name and a password."""

    user: str
    """Who logs in."""
    password: SecretStr
    """The password, as `${NAME}` of a variable."""


class BasicAuth(Login):
    """A name and a password, as HTTP has always had them."""

    kind: Literal["basic"]

    def access(self, opened: aiohttp.ClientSession, folder: Path) -> Access:
        """What signs with it."""
        return access.basic(self.user, secret(self.password))


class DigestAuth(Login):
    """A name and a password of which only digests are sent."""

    kind: Literal["digest"]

    def access(self, opened: aiohttp.ClientSession, folder: Path) -> Access:
        """What signs with it."""
        return access.Digest(self.user, secret(self.password))


class CertificateFiles(_Way):
    """A client's certificate, shown when the connection is made."""

    certificate: Path
    """PEM file with it and with those that lead to its authority; relative to the app's folder."""
    key: Path | None = None
    """PEM file with the private key, not locked by a password; by default in the same file."""
    authority: Path | None = None
    """PEM file with the authorities that the service's own certificate may come from; by default
    those that the system trusts."""

    def absent(self, folder: Path) -> Iterable[str]:
        """What is wrong with the files."""
        for file in (self.certificate, self.key, self.authority):
            if file is not None and not (folder / file).is_file():
                yield f"there is no file {folder / file}"

    def access(self, opened: aiohttp.ClientSession, folder: Path) -> Access:
        """What shows it."""
        return access.certificate(
            folder / self.certificate,
            self.key and folder / self.key,
            self.authority and folder / self.authority,
        )


class CertificateAuth(CertificateFiles):
    """A client's certificate, shown when the connection is made."""

    kind: Literal["certificate"]


class BearerAuth(_Way):
    """A token that does not change."""

    kind: Literal["bearer"]
    token: SecretStr
    """The token, as `${NAME}` of a variable."""

    def access(self, opened: aiohttp.ClientSession, folder: Path) -> Access:
        """What signs with it."""
        return access.bearer(secret(self.token))


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

    def access(self, opened: aiohttp.ClientSession, folder: Path) -> Access:
        """What signs with it."""
        known = secret(self.client_secret)
        return Fetched(opened, self.token_url, self.client_id, known, self.scopes)


class CallerAuth(_Way):
    """The token of whoever asked the agent, passed on: the service decides what this user may."""

    kind: Literal["caller"]

    def access(self, opened: aiohttp.ClientSession, folder: Path) -> Access:
        """What signs with it."""
        return access.Passed()


Auth = Annotated[
    KeyAuth | BasicAuth | DigestAuth | CertificateAuth | BearerAuth | ClientAuth | CallerAuth,
    Field(discriminator="kind"),
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
