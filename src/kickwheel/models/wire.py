"""Requests to one server: tried again where that helps, errors in our words."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from kickwheel.core import redact
from kickwheel.core.errors import ModelError, unreached
from kickwheel.models.retry import Refused, persist, refused
from kickwheel.models.taken import Taken

CONNECT_S = 10.0
LONGEST_BODY = 16 << 20
"""Bytes of an answer in one piece at most."""
LONGEST_ERROR = 64 << 10
"""Bytes of an error's text that are read."""
DRAIN_S = 0.1
"""How long the end of a response is waited for, so that its connection can be used again."""

_encode = msgspec.json.Encoder().encode


def new_session() -> aiohttp.ClientSession:
    """A session for streams: no total time, no limit of connections, bytes as they come."""
    return aiohttp.ClientSession(
        auto_decompress=False,
        connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        headers={"Accept-Encoding": "identity"},
    )


class Wire:
    """A server, and the key for it."""

    def __init__(
        self, session: aiohttp.ClientSession, name: str, url: str, key: str | None = None
    ) -> None:
        self._session, self._name, self._key = session, name, key
        self.url = url.rstrip("/")
        self.taken = Taken(name)
        """What its model does not take."""
        self._urls: dict[str, URL] = {}
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    async def post(
        self, path: str, body: Mapping[str, Any] | bytes, timeout_s: float
    ) -> AsyncGenerator[bytes]:
        """The bytes of the answer, as they come.

        A request that was not answered is tried again, as `retry.persist` has it; one deadline
        holds for everything. Whoever closes this early closes the connection with it.

        Raises:
            ModelError: it was not answered, or broke off.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        data = body if isinstance(body, bytes) else encoded(body)
        response, first = await persist(lambda: self._begun(path, data, deadline), deadline)
        content = response.content
        # One timer for all pieces: closing the connection ends the wait for the next.
        timer = loop.call_at(deadline, response.close)
        try:
            yield first
            while not content.at_eof():
                chunk = await content.readany()
                if chunk:
                    yield chunk
        except (aiohttp.ClientError, ConnectionError) as error:
            if loop.time() >= deadline:
                raise self._late(timeout_s) from None
            raise self._cut() from error
        finally:
            timer.cancel()
            response.close()

    async def whole(self, path: str, body: Mapping[str, Any] | bytes, timeout_s: float) -> bytes:
        """The answer, where it comes in one piece.

        Raises:
            ModelError: as `post`; it has more than `LONGEST_BODY` bytes.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        data = body if isinstance(body, bytes) else encoded(body)

        async def attempt() -> bytes:
            response, first = await self._begun(path, data, deadline)
            try:
                if response.content.at_eof():
                    return first
                async with asyncio.timeout_at(deadline):
                    return await _rest(response, first, LONGEST_BODY)
            except ValueError as error:
                raise ModelError(f"{self._name}: {self.url} answers with {error}") from None
            except TimeoutError:
                raise self._late(timeout_s) from None
            except (aiohttp.ClientError, ConnectionError) as error:
                # Nobody saw a piece of it, so that it may be asked again.
                raise Refused(self._cut(), again=True) from error
            finally:
                response.close()

        return await persist(attempt, deadline)

    def clean(self, text: str) -> str:
        """The text without our key, should a server have repeated it."""
        return redact.without(text, self._key)

    async def _begun(
        self, path: str, data: bytes, deadline: float
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        """The answer with its first bytes: until those came, it may be asked again."""
        loop = asyncio.get_running_loop()
        url = self._urls.get(path)
        try:
            if url is None:
                url = self._urls[path] = URL(self.url + path)
            async with asyncio.timeout_at(deadline):
                response = await self._session.post(url, data=data, headers=self._headers)
                try:
                    said = await response.content.readany()
                    if response.status != 200:
                        said = (await _rest(response, said, None))[:LONGEST_ERROR]
                except BaseException:
                    response.close()
                    raise
        except TimeoutError as error:
            if loop.time() < deadline:  # Only the connection took too long.
                told = ModelError(f"{self._name}: {self.url} does not answer", status=504)
                raise Refused(told, again=True) from error
            late = ModelError(f"{self._name}: no answer within the request's time", status=504)
            raise late from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = self.clean(unreached(error))
            told = ModelError(f"{self._name}: {self.url} cannot be reached: {reason}")
            raise Refused(told, again=not isinstance(error, ValueError)) from error
        if response.status == 200 and said:
            return response, said
        response.close()
        if response.status == 200:
            raise Refused(self._cut(), again=True)
        if response.status == 400:
            asked = msgspec.json.decode(data)
            if self.taken.learned(_said(said), asked):
                return await self._begun(path, encoded(self.taken.fitted(asked)), deadline)
        text = f"{self._name}: {self.url} answers {response.status}: {self.clean(_said(said))}"
        if response.status == 404 and "/v1" not in self.url:
            text = f"{text.rstrip(' .')}. With most servers base_url ends in /v1."
        hint = "the key (OPENAI_API_KEY, or `api_key`)"
        raise refused(text, response.status, response.headers, key_hint=hint)

    def _late(self, timeout_s: float) -> ModelError:
        return ModelError(f"{self._name}: no whole answer within {timeout_s:g} s", status=504)

    def _cut(self) -> ModelError:
        return ModelError(f"{self._name}: {self.url} broke off in the middle of its answer")


async def drained(chunks: AsyncGenerator[bytes]) -> None:
    """Reads what may still come of an answer that is over, for a moment.

    A connection that was read to its end can be used again; one that is closed early cannot.
    """
    with suppress(TimeoutError, ModelError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in chunks:
                pass


def encoded(body: Any) -> bytes:
    """The body as JSON."""
    try:
        return _encode(body)
    except UnicodeEncodeError:
        # Half a surrogate pair, as some texts have it: UTF-8 knows none.
        return json.dumps(body, ensure_ascii=False, default=_plain).encode(errors="replace")


def _plain(value: object) -> Any:
    return json.loads(value) if isinstance(value, msgspec.Raw) else dict(value)  # type: ignore[call-overload]


async def _rest(response: aiohttp.ClientResponse, first: bytes, most: int | None) -> bytes:
    """The body whose first bytes were read.

    Args:
        most: more bytes than these are a ValueError; `None`: they are cut off at `LONGEST_ERROR`.
    """
    content = response.content
    pieces, length = [first], len(first)
    while not content.at_eof():
        pieces.append(await content.readany())
        length += len(pieces[-1])
        if most is None and length > LONGEST_ERROR:
            break
        if most is not None and length > most:
            raise ValueError(f"more than {most >> 20} MiB")
    return b"".join(pieces)


def _said(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    try:
        said = json.loads(text)
    except ValueError:
        if text[:1] == "<":  # A page for people, mostly of a server that is none of models.
            text = f"a page of HTML or XML ({len(body)} bytes). Is this the URL of a model server?"
        return text[:300] or "nothing"
    error = said.get("error", said) if isinstance(said, dict) else said
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or error)[:300]
