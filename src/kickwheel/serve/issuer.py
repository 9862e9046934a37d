"""An authorization server's public keys, fetched when a token needs them.

    issuer ─▶ its metadata (RFC 8414, or OpenID Connect's) ─▶ its keys (RFC 7517), for an hour

One that is away for a while stops nobody whose key is known already.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from kickwheel.core import redact
from kickwheel.core.errors import unreached
from kickwheel.serve.errors import Refused

GOOD_FOR_S = 3600.0
"""Seconds until the keys are fetched again: one that was taken back must go some time."""
AGAIN_S = 10.0
"""Seconds between two fetches, however many tokens name keys that nobody knows."""
TIMEOUT_S = 10.0
"""Of one fetch, metadata and keys."""
BYTES = 1 << 20
"""Of one answer at most."""

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_ALGORITHMS = frozenset({*_RSA, "ES256", "ES384", "ES512", "EdDSA"})
"""Never `none`, nor a secret that both sides would have to know."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, and the algorithms that it may have signed by."""

    public: Any
    algorithms: tuple[str, ...]


class Issuer:
    """An authorization server, by its issuer URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._keys: Mapping[str, Key] = {}
        self._fetched = self._tried = -GOOD_FOR_S
        self._why = ""
        self._fetching: asyncio.Task[None] | None = None

    async def key(self, identity: str | None) -> Key | None:
        """The key of that id; `None` where the issuer has no such.

        Args:
            identity: as a token names it; one that names none means the only key that there is.
        Raises:
            Refused: the keys cannot be had, 503.
        """
        found = self._find(identity)
        now = time.monotonic()
        wanted = found is None or now - self._fetched > GOOD_FOR_S
        if wanted and self._fetching is None and now - self._tried > AGAIN_S:
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch())
        if found is None and self._fetching is not None:
            # Whose key is known waits for nothing; the others all for one fetch.
            await asyncio.shield(self._fetching)
            found = self._find(identity)
        if found is None and self._why:
            raise Refused(
                503,
                f"The keys of {self.url} cannot be fetched: {self._why}. Without them no token of "
                "its can be checked.",
                code="issuer_unavailable",
                retry_after_s=AGAIN_S,
            )
        return found

    def _find(self, identity: str | None) -> Key | None:
        if identity is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(identity)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S), aiohttp.ClientSession() as session:
                where = await self._key_set(session)
                self._keys = dict(_usable(await _read(session, where)))
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            self._why = redact.text(unreached(error)[:300])
            _log.warning("the keys of %s cannot be fetched: %s", self.url, self._why)
        else:
            self._why = "" if self._keys else "it has none that sign tokens"
            self._fetched = time.monotonic()
        finally:
            self._fetching = None

    async def _key_set(self, session: aiohttp.ClientSession) -> str:
        """Where the keys are, as the issuer's metadata says."""
        parts = urlsplit(self.url)
        origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
        places = [
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}/.well-known/openid-configuration{path}",
            f"{origin}{path}/.well-known/openid-configuration",
        ]
        missing = "it has no metadata"
        for place in dict.fromkeys(places):
            try:
                told = await _read(session, place)
            except _NotThere as error:
                missing = str(error)
                continue
            # Otherwise another server's keys could be passed off as this one's (RFC 8414, 3.3).
            if told.get("issuer") != self.url:
                raise ValueError(
                    f'its metadata is that of "{told.get("issuer")}"; serve.auth.oauth.issuer must '
                    "say the same, to the last sign"
                )
            where = told.get("jwks_uri")
            if not isinstance(where, str) or urlsplit(where).scheme not in ("https", parts.scheme):
                raise ValueError("its metadata names no jwks_uri that can be trusted")
            return where
        raise ValueError(missing)


class _NotThere(ValueError):
    """An answer of another status than 200."""


async def _read(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise _NotThere(f"{url} answers {answer.status}")
        data = await answer.content.read(BYTES + 1)
        while len(data) <= BYTES and (more := await answer.content.read(BYTES)):
            data += more
    if len(data) > BYTES:
        raise ValueError(f"{url} answers with more than {BYTES:,} bytes")
    try:
        found = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(f"{url} answers with no JSON") from error
    if not isinstance(found, dict):
        raise ValueError(f"{url} answers with no JSON object")
    return found


def _usable(told: Mapping[str, Any]) -> Iterator[tuple[str, Key]]:
    """The keys that sign, by their ids."""
    from jwt import PyJWK, PyJWTError

    listed = told.get("keys")
    for number, key in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(key, dict) or key.get("use", "sig") != "sig":
            continue
        try:
            read = PyJWK(key)
        except PyJWTError:
            continue  # Of a kind that is not known here; others are.
        if read.algorithm_name not in _ALGORITHMS:
            continue
        # An RSA key that does not say how it signs may sign in any of its ways.
        several = key["kty"] == "RSA" and "alg" not in key
        algorithms = _RSA if several else (read.algorithm_name,)
        yield str(key.get("kid", f"#{number}")), Key(read.key, algorithms)
