"""A connection to an MCP server that is kept open, shared by all calls, and made again.

The connection lives in a task of its own, since the protocol's client must be closed by whoever
opened it. A server that dies fails the calls that are on their way; the next call starts it again.
"""

import asyncio
import contextvars
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kickwheel.agents.tools.mcp_person import Questions
from kickwheel.agents.tools.tool import InvalidArguments
from kickwheel.core import redact
from kickwheel.core.errors import KickwheelError, ToolError, unreached

if TYPE_CHECKING:
    import httpx2
    from mcp import Client
    from mcp_types import CallToolResult, Tool

T = TypeVar("T")

LARGEST = 16 * 2**20
"""Bytes of one message of a server at most."""
READ_AGAIN_S = 0.5
"""Seconds between two readings of a list that changes again and again."""
LISTEN_AGAIN_S = 5.0
"""Seconds until a stream of changes that broke off is opened again."""
CLOSING_S = 5.0
"""Seconds that a connection may take to close."""

_log = logging.getLogger(__name__)


class Signs(Protocol):
    """What signs the requests to a server."""

    refused: KickwheelError | None
    """Why the last one could not be signed."""

    def signing(self) -> "httpx2.Auth":
        """What signs the requests of one connection."""

    def clean(self, said: str) -> str:
        """A text of the server's without the tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a server is reached."""

    name: str
    command: tuple[str, ...] = ()
    folder: Path = field(default_factory=Path)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    signs: "Signs | None" = None
    """What signs requests, where more than headers is needed."""
    legacy: bool = False
    start_s: float = 30.0

    def acting_for(self, token: str) -> "Server":
        """The same server, called with a caller's own token."""
        others = {k: v for k, v in self.headers.items() if k.lower() != "authorization"}
        return replace(self, headers={**others, "Authorization": f"Bearer {token}"}, signs=None)


class Link:
    """The connection to one server; opened by its first use.

    Args:
        changed: called when the server says that its list of tools has changed.
    """

    def __init__(self, server: Server, changed: Callable[[], Awaitable[None]] | None) -> None:
        self.users = 0
        """Calls that hold it; one that nobody holds may be closed."""
        self._server = server
        self._changed = changed
        self._open: _Open | None = None
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stale = False
        self._reader: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ends the connection, and whatever still waits for it."""
        if self._open is not None:
            self._open.end.come()
        if self._reader is not None:
            self._reader.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSING_S)
            for task in late:
                task.cancel()

    async def listed(self, most: int) -> list["Tool"]:
        """The server's tools, `most` at most.

        Raises:
            ToolError: the server does not answer, or has more.
        """
        found: list[Tool] = []
        cursor: str | None = None
        while len(found) <= most:
            async with self._opened() as opened:
                try:
                    async with asyncio.timeout(self._server.start_s):
                        page = await opened.client.list_tools(cursor=cursor, cache_mode="refresh")
                except TimeoutError:
                    raise ToolError(
                        f"the server did not list its tools within {self._server.start_s:g} s"
                    ) from None
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                return found
        raise ToolError(f"the server offers more than {most} tools; no model can choose among them")

    async def call(self, name: str, arguments: dict[str, Any]) -> "CallToolResult":
        """What the server answers.

        Raises:
            InvalidArguments: it does not take the arguments, whatever its schema said.
            ToolError: it died, or answered against its own schema.
        """
        return await self.ask(lambda client: client.call_tool(name, arguments))

    def clean(self, said: str) -> str:
        """A text of the server's without what its requests are signed with."""
        return said if self._server.signs is None else self._server.signs.clean(said)

    async def ask(self, do: Callable[["Client"], Awaitable[T]]) -> T:
        """What the server answers to a request of any kind; errors as of `call`."""
        async with self._opened() as opened:
            with opened.questions.of_call():
                return await do(opened.client)

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator["_Open"]:
        """The open connection; what goes wrong with it is told in our words."""
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, METHOD_NOT_FOUND
        from pydantic import ValidationError

        async with self._opening:
            if self._open is None or self._open.end.here:
                self._open = await self._connect()
            opened = self._open
        try:
            yield opened
        except MCPError as error:
            if self._server.signs is not None and self._server.signs.refused is not None:
                opened.end.come()
                raise self._server.signs.refused from error
            said = self.clean(error.message[:2000])
            if error.code == CONNECTION_CLOSED or opened.end.here:
                opened.end.come(said)
                why = opened.end.why
                raise ToolError(
                    f"the connection to the server ended in the middle of the call ({why}); "
                    "whether the call was carried out is not known"
                ) from error
            if error.code == INVALID_PARAMS:
                raise InvalidArguments(said) from error
            raise ToolError(said, lasting=error.code == METHOD_NOT_FOUND) from error
        except (ValidationError, RuntimeError) as error:
            # The client's checks: a result that is none, or not the one that the schema promised.
            if isinstance(error, ValidationError):
                wrong = error.errors()[0]
                said = f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}"
            else:
                said = str(error).partition("\n")[0][:500]
            raise ToolError(f"the server breaks its own word: {said}", lasting=True) from error

    async def _connect(self) -> "_Open":
        ready: asyncio.Future[_Open] = asyncio.get_running_loop().create_future()
        # Not in the context of whoever calls first: the connection outlives that run.
        task = asyncio.create_task(self._keep(ready), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(self._server.start_s):
                return await asyncio.shield(ready)
        except TimeoutError:
            raise ToolError(
                f"the server has not greeted within {self._server.start_s:g} s"
            ) from None
        finally:
            if not ready.done() or ready.cancelled() or ready.exception() is not None:
                task.cancel()

    async def _keep(self, ready: "asyncio.Future[_Open]") -> None:
        """Opens the connection, holds it until it ends, and closes it."""
        opened: _Open | None = None
        try:
            async with connection(self._server, self._changed_later) as opened:
                if not ready.done():
                    ready.set_result(opened)
                await opened.end.wait()
        except asyncio.CancelledError:
            if not ready.done():
                ready.cancel()
            raise
        except ToolError as error:
            why = redact.text(self.clean(str(error)))
            if not ready.done():
                signs = self._server.signs
                signed = signs is None or signs.refused is None
                url = redact.text(self.clean(self._server.url))
                where = f" ({url})" if url else ""
                told = f"the server cannot be reached: {why}{where}" if signed else why
                ready.set_exception(ToolError(told))
            else:
                _log.info("mcp server %s: %s", self._server.name, why)
        finally:
            if opened is not None:
                opened.end.come()

    def _changed_later(self) -> None:
        # However often a server says so, its list is read once at a time.
        self._stale = True
        if self._changed is not None and self._reader is None:
            self._reader = asyncio.create_task(self._read_again(self._changed))
            self._tasks.add(self._reader)
            self._reader.add_done_callback(self._tasks.discard)

    async def _read_again(self, changed: Callable[[], Awaitable[None]]) -> None:
        try:
            while self._stale:
                self._stale = False
                await changed()
                await asyncio.sleep(READ_AGAIN_S)
        except ToolError as error:
            # What was offered before stays; calls of what is gone fail one by one.
            _log.warning("mcp server %s: its new list of tools: %s", self._server.name, error)
        finally:
            self._reader = None


@dataclass(slots=True)
class _Open:
    client: "Client"
    questions: Questions
    end: "_End"


class _End:
    """The end of a connection."""

    def __init__(self) -> None:
        self.why = ""
        """Why it came, where that is known."""
        self._event = asyncio.Event()

    @property
    def here(self) -> bool:
        return self._event.is_set()

    def come(self, why: str = "") -> None:
        self.why = self.why or why
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


@asynccontextmanager
async def connection(
    server: Server, changed: Callable[[], None] = lambda: None
) -> AsyncGenerator[_Open]:
    """The server, once it has greeted.

    Args:
        changed: called when the server says that its list of tools has changed.
    Raises:
        ToolError: it cannot be reached, or the connection ended.
    """
    from mcp import Client
    from mcp_types import ToolListChangedNotification

    from kickwheel.agents.tools.mcp_wire import over_http, over_pipes

    questions = Questions()
    end = _End()

    async def heard(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            changed()

    wire = over_pipes(server, end.come) if server.command else over_http(server)
    client = Client(
        wire,
        mode="legacy" if server.legacy else "auto",
        elicitation_callback=questions.ask,
        message_handler=heard,
    )
    try:
        async with client:
            opened = _Open(client, questions, end)
            listening = asyncio.create_task(_listen(client, changed))
            try:
                yield opened
            finally:
                listening.cancel()
    except Exception as error:  # Whatever the client raises: the connection has ended.
        end.come(_innermost(error))
        raise ToolError(end.why) from error


async def _listen(client: "Client", changed: Callable[[], None]) -> None:
    """Waits for news of the list, where the server has them on a stream."""
    from mcp import MCPError
    from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

    tools = client.server_capabilities.tools
    if tools is None or not tools.list_changed:
        return
    while True:
        try:
            async with client.listen(tools_list_changed=True) as subscription:
                async for _ in subscription:
                    changed()
            return
        except SubscriptionLost:
            # What changed meanwhile is not sent again.
            await asyncio.sleep(LISTEN_AGAIN_S)
            changed()
        except (ListenNotSupportedError, MCPError, TimeoutError):
            return  # The older protocol sends changes unasked.


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return unreached(error)[:500]
