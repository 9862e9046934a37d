"""OAuth towards MCP servers: client credentials, for programs that act in their own name.

Where tokens are given out is found as the protocol says (RFC 9728, RFC 8414): the server names its
authorization server. The credentials go there only if it is the one that the file names.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from kickwheel.core.errors import KickwheelError

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


class Fetching:
    """Signs with a token that is fetched when it is needed.

    Args:
        url: of the MCP server.
        secret: the value of `auth.client_secret`.
    """

    refused: KickwheelError | None = None

    def __init__(self, url: str, auth: OauthAuth, secret: str) -> None:
        self._url, self._auth, self._secret = url, auth, secret
        self._kept = _Kept()

    def signing(self) -> "httpx2.Auth":
        """What signs the requests of one connection."""
        from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

        self._kept = _Kept()
        return ClientCredentialsOAuthProvider(
            server_url=self._url,
            storage=self._kept,
            client_id=self._auth.client_id,
            client_secret=self._secret,
            scope=" ".join(self._auth.scopes) or None,
            issuer=self._auth.issuer,
        )

    def clean(self, said: str) -> str:
        """The text without secret and token."""
        token = self._kept.token.access_token if self._kept.token else ""
        for secret in (token, self._secret):
            said = said.replace(secret, "[secret]") if secret else said
        return said


class _Kept:
    """The token, as long as the connection lasts."""

    def __init__(self) -> None:
        self.token: OAuthToken | None = None
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> "OAuthToken | None":
        return self.token

    async def set_tokens(self, tokens: "OAuthToken") -> None:
        self.token = tokens

    async def get_client_info(self) -> "OAuthClientInformationFull | None":
        return self._client

    async def set_client_info(self, client_info: "OAuthClientInformationFull") -> None:
        self._client = client_info
