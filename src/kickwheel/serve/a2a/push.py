"""Notifications: whoever gave a URL is told when a task ends, or waits for an answer.

A URL comes from a caller, who must not reach through us what they cannot reach themselves: it leads
to no address of this machine or a private network, unless the app file names the host. The address
is looked at when the connection is made, so a name that suddenly leads elsewhere is seen, too; and
no redirect is followed.

What is owed stands in the store (`owed`), so that neither a stop nor kill -9 loses it.
"""

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from a2a.types import StreamResponse, Task, TaskPushNotificationConfig
from a2a.utils.errors import InvalidParamsError
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from google.protobuf.json_format import MessageToDict
from yarl import URL

from kickwheel.core.errors import StoreError, unreached
from kickwheel.serve.a2a.owed import Notice, Owed

if TYPE_CHECKING:
    from collections.abc import Iterable

PAUSES_S = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds before each further attempt to deliver; after the last one it is given up."""
TIMEOUT_S = 10.0
LEASE_S = TIMEOUT_S + 5.0
"""After which a notice is taken again whose program was killed while it delivered it."""
LOOK_S = 2.0
"""How often notices are looked for that another program left."""
AT_ONCE = 32
STOP_S = 1.0
"""How long deliveries that are on their way when the server stops may take to end."""
_HOLDING_IPV4 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))
"""Networks of IPv6 whose addresses lead to one of IPv4, a hidden one perhaps."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def notifier(owed: Owed, private: "Iterable[str]") -> AsyncGenerator["Notifier"]:
    """What delivers notifications, while the block runs.

    Args:
        private: hosts that may be of this machine or a private network.
    """
    allowed = frozenset(host.lower() for host in private)
    connector = aiohttp.TCPConnector(resolver=_Resolver(allowed), limit=AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        push = Notifier(owed, session, allowed)
        looking = asyncio.create_task(push.deliver())
        try:
            yield push
        finally:
            looking.cancel()
            await asyncio.wait({looking})
            await push.close()


class Notifier:
    """Tells those who want to be told."""

    def __init__(self, owed: Owed, session: aiohttp.ClientSession, allowed: frozenset[str]) -> None:
        self._owed = owed
        self._session = session
        self._allowed = allowed
        self._jobs: dict[asyncio.Task[None], Notice] = {}
        self._woken = asyncio.Event()

    def check(self, config: TaskPushNotificationConfig) -> None:
        """Returns if notifications may go there.

        Raises:
            InvalidParamsError: they may not; the text says why.
        """
        try:
            # As the connection will read it: «127。0。0。1» is an address, too.
            parts = URL(config.url)
            host = parts.raw_host
        except ValueError:
            raise InvalidParamsError(f"{config.url} is no URL") from None
        if parts.scheme not in ("http", "https") or not host:
            raise InvalidParamsError("notifications go to a URL that begins with http or https")
        if parts.user or parts.password:
            raise InvalidParamsError("put no password into the URL; `authentication` is for that")
        if host not in self._allowed and _is_hidden(host):
            raise InvalidParamsError(_hidden(host))

    def look(self) -> None:
        """Something may be owed: it is looked for at once."""
        self._woken.set()

    async def deliver(self) -> None:
        """Delivers what is owed, now and from now on."""
        while True:
            self._woken.clear()
            try:
                await self._take()
            except StoreError as error:
                _log.warning("%s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()

    async def close(self) -> None:
        """Ends what is on its way; what did not arrive is still owed, and due at once."""
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=STOP_S)
        left = dict(self._jobs)
        for job in left:
            job.cancel()
        if left:
            await asyncio.wait(left)
        for notice in left.values():
            await self._put_off(notice, 0.0)

    async def _take(self) -> None:
        free = AT_ONCE - len(self._jobs)
        if free <= 0:
            return
        now = time.time()
        for notice in await asyncio.to_thread(self._owed.take, now, now + LEASE_S, free):
            job = asyncio.create_task(self._deliver(notice))
            self._jobs[job] = notice
            job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None]) -> None:
        del self._jobs[job]
        self.look()  # The next one for the same URL may go now.

    async def _deliver(self, notice: Notice) -> None:
        why, again = await self._sent(notice)
        if why and again and notice.tries <= len(PAUSES_S):
            pause_s = PAUSES_S[notice.tries - 1]
            await self._put_off(notice, pause_s)
            asyncio.get_running_loop().call_later(pause_s, self.look)
            return
        if why:
            host = URL(notice.config.url).raw_host
            _log.warning("task %s: %s was not told how it stands: %s", notice.task, host, why)
        try:
            await asyncio.to_thread(self._owed.settle, notice)
        except StoreError as error:
            _log.warning("task %s may be told of twice: %s", notice.task, error)

    async def _put_off(self, notice: Notice, pause_s: float) -> None:
        try:
            await asyncio.to_thread(self._owed.later, notice, time.time() + pause_s)
        except StoreError as error:
            _log.warning("%s", error)

    async def _sent(self, notice: Notice) -> tuple[str, bool]:
        """Why it did not arrive, empty where it did; and whether it may be tried again."""
        config = notice.config
        headers = {"content-type": "application/a2a+json", "a2a-version": "1.0"}
        if config.token:
            headers["x-a2a-notification-token"] = config.token
        given = config.authentication
        if given.scheme and given.credentials:
            headers["authorization"] = f"{given.scheme} {given.credentials}"
        try:
            self.check(config)
            async with self._session.post(
                config.url, data=notice.body, headers=headers, allow_redirects=False
            ) as response:
                if response.status < 300:
                    return "", False
                again = response.status >= 500 or response.status in (408, 429)
                return f"it answered {response.status}", again
        except InvalidParamsError as error:
            return str(error), False
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            return unreached(error), True


def told(task: Task) -> bytes:
    """What those who gave a URL are told: the task as it stands."""
    return msgspec.json.encode(MessageToDict(StreamResponse(task=task)))


class _Resolver(AbstractResolver):
    """Finds addresses, but not hidden ones."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if host.lower() not in self._allowed and any(_is_hidden(one["host"]) for one in found):
            raise OSError(None, _hidden(host))
        return found

    async def close(self) -> None:
        await self._inner.close()


def _is_hidden(host: str) -> bool:
    """Whether it is an address that not everybody can reach; names are looked up later."""
    try:
        address: Any = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    inside = address.version == 6 and any(address in network for network in _HOLDING_IPV4)
    return inside or not address.is_global or address.is_multicast


def _hidden(host: str) -> str:
    return (
        f"{host} is of this machine or a private network, where notifications do not go. "
        f"Allow it in the app file: serve: {{a2a: {{push_to: [{host}]}}}}"
    )


def named(config: TaskPushNotificationConfig, others: Sequence[str]) -> str:
    """An id for a configuration that came without one."""
    number = len(others) + 1
    while (name := f"push-{number}") in others:
        number += 1
    return config.id or name
