"""Who may come in.

With keys or tokens, every route but health wants one as `Authorization: Bearer …`, which says who
asks; a route is told by `scope["path"]`, never by what the client says of its host. Without any the
server listens on loopback only, and takes no request that a web page elsewhere may have sent.
"""

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from kickwheel.core.errors import UsageError
from kickwheel.models.caller import NOBODY, Caller
from kickwheel.serve.errors import Refused
from kickwheel.serve.tokens import OPEN as METADATA
from kickwheel.serve.tokens import Tokens

OPEN = frozenset({"/v1/health/live", "/v1/health/ready"})
_CARD = re.compile(r"(/a2a/[^/]+)?/\.well-known/agent-card\.json")
"""Tells other agents how to ask ours, and which key they need for that."""

HOUSE = Caller(house=True)
"""Who asks where no key is wanted: somebody on this machine."""

_CHALLENGE = 'Bearer realm="kickwheel"'
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Keys:
    """API keys, of which only the digests are held, and tokens."""

    def __init__(
        self,
        keys: Iterable[str] | Mapping[str, Caller] = (),
        tokens: Tokens | None = None,
    ) -> None:
        """Takes keys as they are, or as `sha256:` and 64 hex digits, with who shows them.

        A key that names neither a user nor a tenant is the house's. Who has a key that names no
        user is known by the beginning of its digest.

        Args:
            tokens: what else may be shown.
        Raises:
            UsageError: a key is empty.
        """
        self._tokens = tokens
        named = keys if isinstance(keys, Mapping) else dict.fromkeys(keys, NOBODY)
        self._holders: dict[bytes, Caller] = {}
        for key, holder in named.items():
            digest = _digest(key)
            house = not (holder.user or holder.tenant)
            shown = digest.hex()[:12]
            user = holder.user or f"key-{shown}"
            self._holders[digest] = replace(holder, user=user, house=house, credential=shown)

    def __bool__(self) -> bool:
        return bool(self._holders) or self._tokens is not None

    async def admit(self, scope: Any) -> Caller:
        """Who asks, if the request may come in.

        Raises:
            Refused: it may not, 401 or 403; or that cannot be told now, 503.
        """
        path = scope["path"]
        if path in OPEN:
            return NOBODY
        if self and (path in METADATA or _CARD.fullmatch(path)):
            return NOBODY
        headers = dict(scope["headers"])
        if self:
            who = await self._check(headers.get(b"authorization", b""), path)
        else:
            _check_origin(headers)
            who = HOUSE
        key = headers.get(b"idempotency-key", b"").decode("latin-1").strip()
        return replace(who, key=key) if key else who

    async def _check(self, header: bytes, path: str) -> Caller:
        """Who shows this."""
        scheme, _, key = header.partition(b" ")
        if scheme.lower() != b"bearer" or not key.strip():
            what = "an API key" if self._tokens is None else "an API key or a token"
            raise Refused(
                401,
                f"This server wants {what}: send it as «Authorization: Bearer KEY».",
                code="missing_api_key",
                challenge=_CHALLENGE if self._tokens is None else self._tokens.challenge(path),
            )
        # Looked up by its digest, whose beginning nobody can choose: time tells nothing of others.
        found = self._holders.get(hashlib.sha256(key.strip()).digest())
        if found is not None:
            return found
        if self._tokens is not None:
            return await self._tokens.caller(key.strip().decode("latin-1"), path)
        raise Refused(
            401,
            "This API key is not known here.",
            code="invalid_api_key",
            challenge=f'{_CHALLENGE}, error="invalid_token"',
        )


def check_host(host: str, keys: Keys) -> None:
    """Returns if the server may listen on `host`.

    Raises:
        UsageError: others could reach it, and no key is set.
    """
    if not keys and not is_loopback(host):
        raise UsageError(
            f"Without an API key the server listens on this machine only, not on {host}. "
            'Set KICKWHEEL_API_KEY, or serve: {auth: {key: "${NAME}"}} in the app file.'
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_origin(headers: dict[bytes, bytes]) -> None:
    # A page elsewhere can reach loopback through the user's browser: by a name that it lets point
    # here (then Host is that name) or by a simple POST (then Origin is the page's).
    name = _stranger(headers.get(b"host", b""), headers.get(b"origin", b""))
    if name is not None:
        raise Refused(
            403,
            f"Without an API key this server answers this machine only, not {name}.",
            code="origin_not_allowed",
        )


@lru_cache(maxsize=64)  # Whoever asks again says the same again.
def _stranger(host_header: bytes, origin_header: bytes) -> str | None:
    """The first of both that is not this machine."""
    host = _hostname("//" + host_header.decode("latin-1"))
    origin = origin_header.decode("latin-1")
    names = [name for name in (host, _hostname(origin)) if name is not None]
    if origin and _hostname(origin) is None:
        names.append(origin)
    return next((name for name in names if not is_loopback(name)), None)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return url


def _digest(key: str) -> bytes:
    if found := _DIGEST.fullmatch(key):
        return bytes.fromhex(found[1])
    if not key.strip():
        raise UsageError("An API key is empty. Set KICKWHEEL_API_KEY to a long random text.")
    return hashlib.sha256(key.strip().encode()).digest()
