"""The MCP SDK's authorization server on the loopback; its tokens are signed statements (JWT)."""

import asyncio
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    TokenError,
    construct_redirect_uri,
)
from mcp.server.auth.routes import build_metadata, create_auth_routes
from mcp.server.auth.settings import ClientRegistrationOptions, RevocationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Issuer(OAuthAuthorizationServerProvider[AuthorizationCode, RefreshToken, AccessToken]):
    """Registers clients, lets everybody in as Ann, and gives out tokens that end soon or late."""

    def __init__(self) -> None:
        self.url = ""
        self.lasts_s = 3600
        """How long access tokens are good for."""
        self.registers = True
        """Whether clients may register by themselves."""
        self.says_no = False
        """Whether Ann does not allow it."""
        self.keys_up = True
        """Whether the key set can be fetched."""
        self.goes_on = threading.Event()
        """Set, unless the key set shall be long in coming."""
        self.goes_on.set()
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = "first"
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.given: list[str] = []
        """The grants by which tokens were given out."""
        self.fetched = 0
        """How often the key set was fetched."""
        self.good: set[str] = set()
        """Access tokens that were not taken back."""
        self._codes: dict[str, AuthorizationCode] = {}
        self._refreshing: dict[str, RefreshToken] = {}

    def token(
        self, *, key: Any = None, headers: Any = None, alg: str = "RS256", **more: Any
    ) -> str:
        """A token as it is, or with other claims; one that is `None` is left out."""
        claims = {
            "iss": self.url,
            "sub": "ann",
            "aud": "http://nobody",
            "exp": int(time.time()) + self.lasts_s,
            "jti": secrets.token_hex(4),
            **more,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"kid": self.kid, "typ": "at+jwt", **(headers or {})}
        return jwt.encode(claims, self.key if key is None else key, alg, headers=header)

    def key_set(self) -> dict[str, Any]:
        """Its public keys, among others that are of no use here."""
        algorithm: Any = RSAAlgorithm if isinstance(self.key, rsa.RSAPrivateKey) else ECAlgorithm
        key = json.loads(algorithm.to_jwk(self.key.public_key()))
        secret = {
            "kty": "oct",
            "kid": "shared",
            "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0",
            "alg": "HS256",
        }
        strange = {"kty": "strange", "kid": "strange"}
        return {"keys": [secret, strange, "no key", {**key, "kid": self.kid, "use": "sig"}]}

    def turn(self, kid: str, *, curve: bool = False) -> None:
        """Signs with a new key from now on."""
        self.kid = kid
        self.key = (
            ec.generate_private_key(ec.SECP256R1())  # type: ignore[assignment]
            if curve
            else rsa.generate_private_key(public_exponent=65537, key_size=2048)
        )

    # What the SDK asks of whoever gives out tokens.

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.clients[client_info.client_id] = client_info

    async def authorize(
        self, client: OAuthClientInformationFull, params: AuthorizationParams
    ) -> str:
        back = str(params.redirect_uri)
        if self.says_no:
            return construct_redirect_uri(back, error="access_denied", state=params.state)
        code = secrets.token_urlsafe(16)
        self._codes[code] = AuthorizationCode(
            code=code,
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id,
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
            subject="ann",
        )
        return construct_redirect_uri(back, code=code, state=params.state)

    async def load_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: str
    ) -> AuthorizationCode | None:
        return self._codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self._codes[authorization_code.code]
        self.given.append("code")
        return self._tokens(client, authorization_code.scopes, authorization_code.resource)

    async def load_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: str
    ) -> RefreshToken | None:
        return self._refreshing.get(refresh_token)

    async def exchange_refresh_token(
        self, client: OAuthClientInformationFull, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        # Each is good once: who uses one a second time is told so.
        if self._refreshing.pop(refresh_token.token, None) is None:
            raise TokenError("invalid_grant")
        self.given.append("refresh")
        return self._tokens(client, scopes, refresh_token.resource)

    async def load_access_token(self, token: str) -> AccessToken | None:
        return None

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self.forget()

    def forget(self) -> None:
        """Takes back all that it gave."""
        self.good.clear()
        self._refreshing.clear()

    def _tokens(
        self, client: OAuthClientInformationFull, scopes: list[str], resource: str | None
    ) -> OAuthToken:
        scope = " ".join(scopes) or None
        access = self.token(aud=resource, client_id=client.client_id, scope=scope)
        self.good.add(access)
        again = secrets.token_urlsafe(24)
        self._refreshing[again] = RefreshToken(
            token=again, client_id=client.client_id, scopes=scopes, resource=resource
        )
        return OAuthToken(
            access_token=access, expires_in=self.lasts_s, scope=scope, refresh_token=again
        )


@contextmanager
def issuing() -> Iterator[Issuer]:
    """The server, in a thread of its own."""
    issuer = Issuer()

    async def metadata(request: Request) -> JSONResponse:
        told = build_metadata(
            AnyHttpUrl(issuer.url),
            None,
            ClientRegistrationOptions(enabled=issuer.registers),
            RevocationOptions(),
        ).model_dump(mode="json", exclude_none=True)
        methods = [*told["token_endpoint_auth_methods_supported"], "none"]
        return JSONResponse(
            {
                **told,
                "issuer": issuer.url,
                "token_endpoint_auth_methods_supported": methods,
                "jwks_uri": f"{issuer.url}/keys",
            }
        )

    async def keys(request: Request) -> JSONResponse:
        issuer.fetched += 1
        await asyncio.to_thread(issuer.goes_on.wait)
        if not issuer.keys_up:
            return JSONResponse({}, status_code=500)
        return JSONResponse(issuer.key_set())

    app = Starlette(
        routes=[
            Route("/.well-known/oauth-authorization-server", metadata),
            Route("/keys", keys),
        ]
    )
    with threaded(app) as issuer.url:
        app.router.routes += create_auth_routes(
            issuer,
            AnyHttpUrl(issuer.url),
            client_registration_options=ClientRegistrationOptions(enabled=True),
        )
        yield issuer


@contextmanager
def threaded(app: Any, port: int = 0) -> Iterator[str]:
    """The ASGI app on the loopback, in a thread of its own; gives its URL."""
    started = threading.Event()

    class Started(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Started(uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        assert started.wait(20)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def free_port() -> int:
    """A port that nobody listens on, for what must know its address before it starts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
