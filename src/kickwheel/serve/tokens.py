"""Tokens that an authorization server gave to people and programs (OAuth 2, OpenID Connect).

A client that comes without one is told where to get it: the challenge names the metadata of this
server (RFC 9728), which names the authorization server. A token is a signed statement (RFC 9068):
who it is, for whom it is meant, until when. It is checked here, and neither passed on nor kept.
"""

import hashlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from kickwheel.core.errors import MissingExtra
from kickwheel.models.caller import Caller
from kickwheel.serve.errors import Refused
from kickwheel.serve.issuer import Issuer

if TYPE_CHECKING:
    from kickwheel.appfile import Oauth, Serve

METADATA = "/.well-known/oauth-protected-resource"
PLACES = ("", "/mcp")
"""What a client may take for the thing that it asks: all of the server, or its MCP alone."""
OPEN = frozenset(METADATA + place for place in PLACES)

LEEWAY_S = 30
"""Seconds that the clocks of two servers may differ."""
KNOWN_S = 60.0
"""Seconds that a token which was checked is known: its key may be taken back meanwhile."""
KNOWN = 10_000
"""Tokens that are known at once."""
SUBJECT_CHARS = 255
"""Of a user's name at most, as OpenID Connect has it."""
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""What a token may call itself; others (a logout, a proof) are signed by the same keys."""


def tokens(serve: "Serve") -> "Tokens | None":
    """The tokens that the file takes; `None` where it takes none.

    Raises:
        MissingExtra: what checks signatures is not installed.
    """
    return None if serve.auth.oauth is None else Tokens(serve.auth.oauth)


class Tokens:
    """The tokens of one authorization server, meant for this server.

    Raises:
        MissingExtra: what checks signatures is not installed.
    """

    def __init__(self, oauth: "Oauth") -> None:
        try:
            import cryptography  # noqa: F401
            import jwt  # noqa: F401
        except ImportError as error:
            raise MissingExtra("checking tokens (serve.auth.oauth)", "oauth") from error
        self._oauth = oauth
        self._url = oauth.url.rstrip("/")
        places = [self._url + place for place in (*PLACES, "/")]
        self._meant_for = [oauth.audience] if oauth.audience else places
        self._issuer = Issuer(oauth.issuer)
        self._known: dict[bytes, tuple[float, Caller]] = {}

    def challenge(self, path: str, error: str = "") -> str:
        """What stands in `WWW-Authenticate` of a refusal at `path` (RFC 6750, RFC 9728).

        Args:
            error: the code of what is wrong with the token; empty where none came.
        """
        place = path if path in PLACES else ""
        told = {
            "error": error,
            "scope": " ".join(self._oauth.scopes),
            "resource_metadata": f"{self._url}{METADATA}{place}",
        }
        pairs = (f'{name}="{value}"' for name, value in told.items() if value)
        return ", ".join(['Bearer realm="kickwheel"', *pairs])

    async def caller(self, token: str, path: str) -> Caller:
        """Who shows the token.

        Raises:
            Refused: it is not good here (401), does not allow enough (403), or cannot be checked
                now (503).
        """
        digest = hashlib.sha256(token.encode()).digest()
        until, who = self._known.get(digest, (0.0, None))
        if who is not None and time.time() < until:
            return who
        claims = await self._checked(token, path)
        self._check_scopes(claims, path)
        who = Caller(user=claims["sub"], tenant=self._tenant(claims, path))
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[digest] = min(float(claims["exp"]), time.time() + KNOWN_S), who
        return who

    def routes(self) -> list[Route]:
        """The metadata, which anybody may read."""

        async def told(request: Request) -> JSONResponse:
            place = request.scope["path"].removeprefix(METADATA)
            about: dict[str, Any] = {
                "resource": self._url + place,
                "authorization_servers": [self._oauth.issuer],
                "bearer_methods_supported": ["header"],
                "resource_name": "kickwheel",
            }
            if self._oauth.scopes:
                about["scopes_supported"] = list(self._oauth.scopes)
            return JSONResponse(about, headers={"access-control-allow-origin": "*"})

        return [Route(METADATA + place, told, methods=["GET"]) for place in PLACES]

    async def _checked(self, token: str, path: str) -> Mapping[str, Any]:
        """What the token says, once its signature holds and it is meant for us now."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            if str(header.get("typ", "JWT")).lower() not in _TYPES:
                raise jwt.InvalidTokenError("it is of another kind")
            key = await self._issuer.key(header.get("kid"))
            if key is None:
                raise jwt.InvalidTokenError("it is signed by a key that its issuer does not have")
            claims = jwt.decode(
                token,
                key.public,
                algorithms=key.algorithms,
                audience=self._meant_for,
                issuer=self._oauth.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise self._refused(_said(error), path) from error
        if not claims["sub"] or len(claims["sub"]) > SUBJECT_CHARS:
            raise self._refused("it names nobody", path)
        return claims

    def _check_scopes(self, claims: Mapping[str, Any], path: str) -> None:
        given = claims.get("scope", claims.get("scp", ""))
        allowed = given.split() if isinstance(given, str) else given
        if not isinstance(allowed, list):
            allowed = []
        missing = [scope for scope in self._oauth.scopes if scope not in allowed]
        if missing:
            raise Refused(
                403,
                f"This token does not allow {', '.join(missing)}.",
                code="insufficient_scope",
                challenge=self.challenge(path, "insufficient_scope"),
            )

    def _tenant(self, claims: Mapping[str, Any], path: str) -> str:
        if not self._oauth.tenant:
            return ""
        found = claims.get(self._oauth.tenant)
        if not isinstance(found, str) or not found:
            raise self._refused(f'it has no claim "{self._oauth.tenant}", the tenant', path)
        return found

    def _refused(self, why: str, path: str) -> Refused:
        return Refused(
            401,
            f"This token is not good here: {why}.",
            code="invalid_token",
            challenge=self.challenge(path, "invalid_token"),
        )


def _said(error: Exception) -> str:
    """What is wrong with a token, without a word of its own."""
    import jwt

    known: list[tuple[type[Exception], str]] = [
        (jwt.ExpiredSignatureError, "it has expired"),
        (jwt.ImmatureSignatureError, "it is not valid yet"),
        (jwt.InvalidAudienceError, "it is meant for another server"),
        (jwt.InvalidIssuerError, "it comes from another issuer"),
        (jwt.MissingRequiredClaimError, "it leaves out what it must say"),
        (jwt.InvalidAlgorithmError, "it is signed in a way that its key is not for"),
        (jwt.InvalidSignatureError, "its signature is wrong"),
        (jwt.DecodeError, "it is no signed token (JWT)"),
    ]
    return next((text for kind, text in known if isinstance(error, kind)), str(error))
