"""A proxy that nobody notices, in front of any server that speaks OpenAI's protocol.

Bytes pass as they are, in both directions, and so do status and headers, but for those that belong
to one connection. What can be read as a trace is copied aside meanwhile, and read by the recorder's
thread once all of it has passed.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kickwheel.core import redact
from kickwheel.core.errors import UsageError, unreached
from kickwheel.models.caller import caller, whose
from kickwheel.models.prices import Prices
from kickwheel.serve.errors import Refused
from kickwheel.serve.outgoing import Receive, Send
from kickwheel.serve.recorded.exchange import COPY_BYTES, Exchange
from kickwheel.serve.recorded.heard import READ, Hearing
from kickwheel.trace.record import Recorder

CONNECT_S = 10.0

_ONE_CONNECTION = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers that mean one connection only (RFC 9110, 7.6.1)."""
_NOT_ASKED = _ONE_CONNECTION | {b"host", b"expect"}
_NOT_ANSWERED = _ONE_CONNECTION | {b"date"}
"""Each server writes its own date."""
_OURS = frozenset({b"authorization", b"cookie"})
"""By what clients show who they are: to us, where the upstream has a key of its own."""
_FOR_ALL = frozenset(
    {*(("POST", path) for path in (*READ, "embeddings", "moderations")), ("GET", "models")}
)
"""What leaves nothing upstream that another one's request could list: the key there is one for all,
so the rest, as files and stored answers, is the house's."""
_READABLE = ("gzip", "deflate", "identity")
"""Compressions that a trace can be read from."""

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where recorded traffic goes."""

    url: str
    """With the version, `https://api.openai.com/v1`."""
    key: str | None = field(default=None, repr=False)
    """What is shown there as the key, in place of what the client shows."""
    prices: Prices | None = None
    """What tokens cost there; without, no cost is told."""


@asynccontextmanager
async def passing(
    upstream: Upstream, recorder: Recorder, *, keyed: bool
) -> AsyncGenerator["Passing"]:
    """The proxy, with connections of its own.

    Args:
        keyed: whether clients show a key of ours, which nobody else may see.
    Raises:
        UsageError: the upstream's URL is none.
    """
    check_url(upstream.url)
    async with aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        # How long a model may think is the client's to say: when it leaves, the request ends.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
    ) as session:
        yield Passing(session, upstream, recorder, keyed=keyed)


def check_url(url: str) -> None:
    """Returns if models can be asked there.

    Raises:
        UsageError: it is no http URL.
    """
    try:
        good = URL(url).scheme in ("http", "https") and bool(URL(url).host)
    except ValueError:
        good = False
    if not good:
        shown = redact.text(url)
        raise UsageError(f'"{shown}" is no URL to record: give one like https://api.openai.com/v1')


class Passing:
    """The hot route of recorded projects."""

    def __init__(
        self, session: aiohttp.ClientSession, upstream: Upstream, recorder: Recorder, *, keyed: bool
    ) -> None:
        self._session = session
        self._base = upstream.url.rstrip("/")
        self._recorder = recorder
        self._hearing = Hearing(upstream.prices)
        self._key = f"Bearer {upstream.key}" if upstream.key else None
        ours = keyed or upstream.key is not None
        self._hidden = _NOT_ASKED | _OURS if ours else _NOT_ASKED
        self._url = lru_cache(maxsize=1024)(self._made_url)

    async def __call__(
        self, scope: Any, receive: Receive, send: Send, project: str, path: str, trace: str
    ) -> None:
        """Passes one request on.

        Args:
            path: without the project, `/v1/chat/completions`.
            trace: the id, 32 hex digits, that the trace gets.
        Raises:
            Refused: the upstream cannot be reached (502), or this is the house's to ask there
                (403); whoever called answers.
        """
        _check_whose(scope["method"], path[4:])
        kept = scope["method"] == "POST" and path[4:] in READ
        passed = Exchange(project, path[4:], trace, COPY_BYTES if kept else 0, whose())
        client = _Client(receive, send, passed)
        try:
            await self._pass(scope, client, trace if kept else None)
        except asyncio.CancelledError:
            # Nobody is there to be answered; anybody else's wish to cancel goes on.
            me = asyncio.current_task()
            passed.cut = "cancelled"
            if not client.left or me is None or me.uncancel():
                raise
        except Refused as refused:
            passed.cut = refused.message
            raise
        finally:
            client.close()
            if kept:
                passed.end_ns = time.time_ns()
                size = passed.asked.held + passed.answer.held
                self._recorder.later(partial(self._hearing.heard, passed), size)

    async def _pass(self, scope: Any, client: "_Client", trace: str | None) -> None:
        passed = client.passed
        headers = self._asked(scope["headers"], passed)
        data = await client.body()
        url = self._url(scope["raw_path"], scope["query_string"])
        try:
            response = await self._session.request(
                scope["method"], url, data=data, headers=headers, allow_redirects=False
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreached(error) from error
        try:
            await client.answer(response, trace)
        except (aiohttp.ClientError, ConnectionError):
            # The client sees what it would have seen: a connection that ends too early.
            passed.cut = "the upstream broke off in the middle of its answer"
        finally:
            response.close()

    def _asked(self, given: Headers, passed: Exchange) -> "CIMultiDict[str]":
        headers = CIMultiDict[str]()
        for name, value in _passed_on(given, self._hidden):
            text = _text(value)
            if name == b"accept-encoding":
                text = _readable(text)
            elif name == b"user-agent":
                passed.agent = text
            headers.add(name.decode("latin-1"), text)
        if self._key is not None:
            headers["authorization"] = self._key
        return headers

    def _made_url(self, raw_path: bytes, query: bytes) -> URL:
        # Bytes that were escaped stay escaped: «%2F» in a name is no slash.
        rest = raw_path.partition(b"/v1/")[2].decode("latin-1")
        asked = f"?{query.decode('latin-1')}" if query else ""
        return URL(f"{self._base}/{rest}{asked}", encoded=True)

    def _unreached(self, error: Exception) -> Refused:
        if isinstance(error, TimeoutError):
            reason = f"no connection within {CONNECT_S:g} s"
        else:
            reason = unreached(error)
        what = f"The upstream of this recorder, {self._base}, cannot be reached: {reason}"
        return Refused(502, redact.text(what), code="upstream_unreachable")


def _check_whose(method: str, path: str) -> None:
    if caller().house or (method, path) in _FOR_ALL:
        return
    what = f"{method} {path} leads to what all who ask here have upstream, under one key"
    raise Refused(403, f"{what}: it wants a key without user and tenant.", code="house_only")


def _text(value: bytes) -> str:
    """A header's value as aiohttp, which writes UTF-8, sends the same bytes again."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class _Client:
    """Whoever asked: gives the request's body, gets the answer, and may leave at any moment."""

    def __init__(self, receive: Receive, send: Send, passed: Exchange) -> None:
        self.passed = passed
        self.left = False
        """Whether it went away before the answer's end."""
        self._receive = receive
        self._send = send
        self._over = False
        self._worker = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None

    async def body(self) -> bytes | AsyncIterator[bytes] | None:
        """What is to be sent: as bytes where it came at once, otherwise as it comes."""
        message = await self._receive()
        first = message.get("body", b"")
        if message.get("more_body"):
            return self._rest(first)
        if message["type"] == "http.disconnect":
            self._leave()
        self.passed.asked.add(first)
        self._watch = asyncio.create_task(self._watching())
        return first or None

    async def answer(self, response: aiohttp.ClientResponse, trace: str | None) -> None:
        """Passes the answer on, piece by piece."""
        passed, content = self.passed, response.content
        headers = list(_passed_on(response.raw_headers, _NOT_ANSWERED))
        passed.status = response.status
        passed.encoding = response.headers.get("Content-Encoding", "").strip().lower()
        if trace is not None:
            # An upstream that is a kickwheel has a trace of its own, which nobody finds here.
            headers = [(name, value) for name, value in headers if name != b"x-trace-id"]
            headers.append((b"x-trace-id", trace.encode()))
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        await self._send(start)
        more = True
        while more:
            piece = await content.readany()
            if not passed.first_ns:
                passed.first_ns = time.time_ns()
            passed.answer.add(piece)
            more = not content.at_eof()
            self._over = not more
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    def close(self) -> None:
        """No one looks any more whether the client is there."""
        if self._watch is not None:
            self._watch.cancel()

    async def _rest(self, piece: bytes) -> AsyncIterator[bytes]:
        self.passed.asked.add(piece)
        yield piece
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._leave()
                # Half a body must not pass for a whole one.
                raise ConnectionResetError
            piece, more = message.get("body", b""), message.get("more_body", False)
            self.passed.asked.add(piece)
            yield piece
        self._watch = asyncio.create_task(self._watching())

    async def _watching(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._over:
            self._leave()

    def _leave(self) -> None:
        self.left = True
        if self._worker is not None:
            self._worker.cancel()


def _passed_on(headers: Headers, without: frozenset[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """The headers, in lower case, but for those that are named, and that Connection names."""
    passed = []
    for name, value in headers:
        name = name.lower()
        if name not in without:
            passed.append((name, value))
        elif name == b"connection":
            named = {word.strip() for word in value.lower().split(b",")} - without
            if not named <= {b"close"}:
                return _passed_on(headers, without | named)
    return passed


@lru_cache(maxsize=64)
def _readable(accepted: str) -> str:
    """The compressions that the client takes, but for those that no trace could be read from."""
    words = [word.strip() for word in accepted.split(",")]
    known = [word for word in words if word.partition(";")[0].strip().lower() in _READABLE]
    return ", ".join(known) or "identity"
