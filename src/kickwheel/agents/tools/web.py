"""HTTP as tools need it: one request, and what came back as text.

Only the origins that the app named are ever asked: a redirect elsewhere is refused, since it would
carry the request, and what authorises it, to whomever the answer names. An answer is read up to a
limit however long it is, packed or not.
"""

import re
import ssl
import zlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import quote, urlencode, urljoin, urlsplit

import aiohttp
import msgspec
from yarl import URL

from kickwheel.agents.tools import text
from kickwheel.agents.tools.tool import Effects, InvalidArguments
from kickwheel.core.errors import ToolError, unreached
from kickwheel.models.retry import retry_after_s

MOST_BYTES = 2_000_000
"""Of an answer that are read; the rest is never fetched."""
REDIRECTS = 5
CONNECT_S = 10.0
SAID_CHARS = 600
"""Of an error's body that the agent is told."""

EFFECTS: Mapping[str, Effects] = {
    "GET": "none",
    "HEAD": "none",
    "PUT": "repeatable",
    "DELETE": "repeatable",
    "POST": "once",
    "PATCH": "once",
}
"""What a request of each method does to the world, as HTTP promises it (RFC 9110, section 9.2)."""

# Of an answer without a body: where a new thing is to be found, and what HEAD asks for.
_TOLD = ("location", "last-modified", "etag", "content-length")
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
_MODELS_FAULT = frozenset((400, 422))
_URL_SIGNS = ":/?#[]@!$&'()*+,;=%~"
_TEXT = re.compile(
    r"text/.*|application/(.*\+)?(json|xml|yaml|x-yaml|javascript|x-ndjson|x-www-form-urlencoded)"
    r"|image/svg\+xml"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, ready to be sent but for what authorises it."""

    method: str
    url: str
    """Absolute and percent-encoded."""
    query: str = ""
    """What the arguments add to the query, percent-encoded."""
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    tls: ssl.SSLContext | None = None
    """What its connection shows of us; by default nothing."""
    through: aiohttp.ClientMiddlewareType | None = None
    """Sends it, and answers what the service asks before it lets it in."""


class Access(Protocol):
    """What authorises a request."""

    async def sign(self, call: Call) -> Call:
        """The request with its credentials.

        Raises:
            ToolError: there are none now.
        """

    async def renew(self, refused: Call) -> bool:
        """Whether a request that was refused with 401 may be signed anew and sent again."""

    def clean(self, said: str) -> str:
        """The text without our secrets, should the service have repeated them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    """Unpacked, as far as it was read."""
    whole: bool
    """Whether that is all of it."""


@asynccontextmanager
async def session() -> AsyncGenerator[aiohttp.ClientSession]:
    """A session that keeps connections, but no cookies: they would be one caller's for all."""
    async with aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        headers={"Accept-Encoding": "gzip, deflate", "User-Agent": "kickwheel"},
    ) as opened:
        yield opened


async def ask(opened: aiohttp.ClientSession, call: Call, access: Access) -> str:
    """What the service has to say, as text.

    Raises:
        InvalidArguments: it finds fault with the request (400, 422).
        ToolError: any other refusal, an answer from elsewhere, or none at all.
    """
    signed = await access.sign(call)
    try:
        reply = await fetch(opened, signed)
        if reply.status == 401 and await access.renew(signed):
            reply = await fetch(opened, await access.sign(call))
    except ToolError as error:
        error.args = (access.clean(str(error)),)
        raise
    if reply.status >= 400:
        raise _refusal(call, reply, access)
    return access.clean(_shown(reply))


async def fetch(opened: aiohttp.ClientSession, call: Call, most: int = MOST_BYTES) -> Reply:
    """The answer, after redirects inside the origin.

    Args:
        most: bytes of it that are read.
    Raises:
        ToolError: there is none, or it leads elsewhere.
    """
    for _ in range(REDIRECTS + 1):
        reply = await _once(opened, call, most)
        place = reply.headers.get("location")
        if reply.status not in (301, 302, 303, 307, 308) or place is None:
            return reply
        call = _redirected(call, reply.status, place)
    raise ToolError(f"{origin(call.url)} redirects in a circle", lasting=True)


def origin(url: str) -> str:
    """Scheme, host and port of a URL: `https://shop.example`."""
    parts = urlsplit(url)
    port = {"http": 80, "https": 443}.get(parts.scheme)
    shown = "" if parts.port in (None, port) else f":{parts.port}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{shown}"


def template(url: str) -> str:
    """A URL with places in braces, percent-encoded between them where it must be."""
    parts = re.split(r"(\{[^{}]*\})", url)
    # What may stand in a URL stays as the app or the document wrote it.
    return "".join(part if part.startswith("{") else quote(part, safe=_URL_SIGNS) for part in parts)


def segment(value: str) -> str:
    """A value as part of a URL's path, from which it cannot lead elsewhere.

    Raises:
        InvalidArguments: it is empty, `.` or `..`: those are other paths.
    """
    if value in ("", ".", ".."):
        raise InvalidArguments(f'"{value}" cannot stand in the path of a URL')
    return quote(value, safe="")


def header(value: str) -> str:
    """A value as it may stand in a header.

    Raises:
        InvalidArguments: it has line breaks or other control characters.
    """
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise InvalidArguments("a header's value cannot hold line breaks or control characters")
    return value


async def _once(opened: aiohttp.ClientSession, call: Call, most: int) -> Reply:
    joined = f"{call.url}{'&' if '?' in call.url else '?'}{call.query}" if call.query else call.url
    url = URL(joined, encoded=True)
    headers = dict(call.headers)
    if call.cookies:
        headers["Cookie"] = "; ".join(f"{name}={quote(value)}" for name, value in call.cookies)
    try:
        async with opened.request(
            call.method,
            url,
            headers=headers,
            data=call.body or None,
            allow_redirects=False,
            ssl=True if call.tls is None else call.tls,
            middlewares=() if call.through is None else (call.through,),
        ) as response:
            body, whole = await _read(response, most)
            if not whole:
                response.close()
            return Reply(response.status, response.headers, body, whole)
    except (aiohttp.ClientError, OSError) as error:
        what = f"{origin(call.url)} cannot be reached: {unreached(error)}"
        raise ToolError(what) from error


async def _read(response: aiohttp.ClientResponse, most: int) -> tuple[bytes, bool]:
    """The body, unpacked, and whether it is whole."""
    coding = response.headers.get("content-encoding", "identity").lower()
    unpacked = bytearray()
    unpacking = zlib.decompressobj(wbits=47) if coding in ("gzip", "x-gzip", "deflate") else None
    async for chunk in response.content.iter_any():
        room = most + 1 - len(unpacked)
        try:
            unpacked += unpacking.decompress(chunk, room) if unpacking else chunk[:room]
        except zlib.error as error:
            raise ToolError(f"the answer is no {coding}: {error}") from error
        if len(unpacked) > most:
            return bytes(unpacked[:most]), False
    return bytes(unpacked), True


def _redirected(call: Call, status: int, place: str) -> Call:
    target = urljoin(call.url, place)
    here, there = origin(call.url), origin(target)
    if there != here and there != here.replace("http://", "https://", 1):
        raise ToolError(
            f"{here} redirects to {there}, which is another service: it was not asked", lasting=True
        )
    parts = urlsplit(target)
    moved = replace(call, url=parts._replace(query="", fragment="").geturl(), query=parts.query)
    if status == 303 or (status in (301, 302) and call.method == "POST"):
        kept = {k: v for k, v in call.headers.items() if k.lower() != "content-type"}
        method = "HEAD" if call.method == "HEAD" else "GET"
        return replace(moved, method=method, body=b"", headers=kept)
    return moved


def _refusal(call: Call, reply: Reply, access: Access) -> ToolError:
    said = access.clean(_said(reply))
    told = f"{origin(call.url)} answers {reply.status}: {said}"
    if reply.status in _MODELS_FAULT:
        return InvalidArguments(told)
    if reply.status in (401, 403):
        told += " (what authorises the tool is its `auth`)"
    return ToolError(
        told,
        lasting=reply.status not in _PASSING,
        retry_after_s=retry_after_s(reply.headers),
    )


def _said(reply: Reply) -> str:
    shown = _shown(reply)
    title = re.search(r"<title>(.*?)</title>", shown, re.DOTALL | re.IGNORECASE)
    return " ".join((title[1] if title else shown)[:SAID_CHARS].split())


def _shown(reply: Reply) -> str:
    """The answer as text."""
    if not reply.body:
        said = "; ".join(
            f"{n}: {reply.headers[n]}" for n in _TOLD if reply.headers.get(n, "0") != "0"
        )
        return f"done ({reply.status}{f'; {said}' if said else ', and nothing else was said'})"
    kind, _, more = reply.headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    coding = reply.headers.get("content-encoding", "identity").lower()
    packed = coding not in ("identity", "gzip", "x-gzip", "deflate")
    vague = kind in ("", "application/octet-stream")
    if packed or not (text.is_text(reply.body) if vague else _TEXT.fullmatch(kind)):
        size = f"{len(reply.body):,} bytes" if reply.whole else f"over {MOST_BYTES:,} bytes"
        what = f"{kind or 'of no type'}, {size}"
        return f"done ({reply.status}); the answer is {what}: no text to be shown"
    charset = re.search(r'charset\s*=\s*"?([\w.:-]+)', more, re.IGNORECASE)
    said = text.decoded(reply.body, charset[1] if charset else None)
    if not reply.whole:
        return f"{said}\n[cut: the answer is longer than {MOST_BYTES:,} bytes; ask for less]"
    if kind.endswith("json"):
        try:
            return msgspec.json.format(said, indent=-1)
        except msgspec.DecodeError:
            return said
    return said


def form(fields: Mapping[str, str] | list[tuple[str, str]]) -> bytes:
    """The fields as a web form sends them."""
    return urlencode(fields).encode()
