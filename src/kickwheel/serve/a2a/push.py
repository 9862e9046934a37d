"""Notifications: whoever gave a URL is told when a task ends, or waits for an answer.

A URL comes from a caller, who must not reach through us what they cannot reach themselves: it leads
to no address of this machine or a private network, unless the app file names the host. The address
is looked at when the connection is made, so a name that suddenly leads elsewhere is seen, too; and
no redirect is followed.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from a2a.types import StreamResponse, Task, TaskPushNotificationConfig, TaskState
from a2a.utils.errors import InvalidParamsError
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from google.protobuf.json_format import MessageToDict
from yarl import URL

from kickwheel.serve.a2a.tasks import Kept, Tasks

if TYPE_CHECKING:
    from collections.abc import Iterable

TRIES_S = (0.0, 1.0, 5.0)
"""Seconds before each attempt to deliver."""
TIMEOUT_S = 10.0
_HOLDING_IPV4 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))
"""Networks of IPv6 whose addresses lead to one of IPv4, a hidden one perhaps."""

_log = logging.getLogger(__name__)


@asynccontextmanager
async def notifier(tasks: Tasks, private: "Iterable[str]") -> AsyncGenerator["Notifier"]:
    """What delivers notifications, while the block runs.

    Args:
        private: hosts that may be of this machine or a private network.
    """
    allowed = frozenset(host.lower() for host in private)
    connector = aiohttp.TCPConnector(resolver=_Resolver(allowed), limit=32)
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        push = Notifier(tasks, session, allowed)
        try:
            yield push
        finally:
            await push.close()


class Notifier:
    """Tells those who want to be told."""

    def __init__(
        self, tasks: Tasks, session: aiohttp.ClientSession, allowed: frozenset[str]
    ) -> None:
        self._tasks = tasks
        self._session = session
        self._allowed = allowed
        self._jobs: set[asyncio.Task[None]] = set()

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

    async def tell(self, kept: Kept) -> None:
        """Tells how the task stands now, once for each time it stands so."""
        state = TaskState.Name(kept.task.status.state)
        what = f"{state} {kept.task.status.timestamp.ToJsonString()}"
        if not await asyncio.to_thread(self._tasks.pushes, kept.task.id):
            return
        if await asyncio.to_thread(self._tasks.tell, kept.task.id, what):
            for config in await asyncio.to_thread(self._tasks.pushes, kept.task.id):
                task = Task()
                task.CopyFrom(kept.task)
                job = asyncio.create_task(self._deliver(config, task))
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)

    async def close(self) -> None:
        """Ends what is on its way."""
        for job in self._jobs:
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)

    async def _deliver(self, config: TaskPushNotificationConfig, task: Task) -> None:
        body = msgspec.json.encode(MessageToDict(StreamResponse(task=task)))
        headers = {"content-type": "application/a2a+json", "a2a-version": "1.0"}
        if config.token:
            headers["x-a2a-notification-token"] = config.token
        given = config.authentication
        if given.scheme and given.credentials:
            headers["authorization"] = f"{given.scheme} {given.credentials}"
        why = ""
        for pause_s in TRIES_S:
            await asyncio.sleep(pause_s)
            try:
                self.check(config)
                async with self._session.post(
                    config.url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    if response.status < 300:
                        return
                    why = f"it answered {response.status}"
                    if response.status < 500 and response.status not in (408, 429):
                        break
            except InvalidParamsError as error:
                why = str(error)
                break
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                why = str(error) or type(error).__name__
        host = URL(config.url).raw_host
        _log.warning("task %s: %s was not told how it stands: %s", task.id, host, why)


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
