"""OAuth towards MCP servers: client credentials, for programs that act in their own name.

Where tokens are given out is found as the protocol says (RFC 9728, RFC 8414): the server names its
authorization server. The credentials go there only if it is the one that the file names.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, SecretStr

if TYPE_CHECKING:
    import httpx2
    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken


class OauthAuth(BaseModel):
    """OAuth 2 client credentials; the token is fetched, kept while it is good, and fetched anew."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Literal["oauth"]
    issuer: str
    """The authorization server, by its issuer URL: the credentials go to no other."""
    client_id: str
    """Who we are there."""
    client_secret: SecretStr
    """The secret, as `${NAME}` of a variable."""
    scopes: tuple[str, ...] = ()
    """What the token shall allow; by default what the server asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What stands in the file, with the secret's value."""

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    scopes: tuple[str, ...] = ()


def signing(url: str, known: Credentials) -> "httpx2.Auth":
    """What signs the requests to the server at `url`."""
    from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

    return ClientCredentialsOAuthProvider(
        server_url=url,
        storage=_Kept(),
        client_id=known.client_id,
        client_secret=known.client_secret,
        scope=" ".join(known.scopes) or None,
        issuer=known.issuer,
    )


class _Kept:
    """The token, as long as the connection lasts."""

    def __init__(self) -> None:
        self._token: OAuthToken | None = None
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> "OAuthToken | None":
        return self._token

    async def set_tokens(self, tokens: "OAuthToken") -> None:
        self._token = tokens

    async def get_client_info(self) -> "OAuthClientInformationFull | None":
        return self._client

    async def set_client_info(self, client_info: "OAuthClientInformationFull") -> None:
        self._client = client_info
