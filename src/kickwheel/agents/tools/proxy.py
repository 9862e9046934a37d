"""The only way from a browser to the network: a proxy on loopback that asks where to.

Looking at addresses inside the browser does not do: redirects, frames, sockets and workers pass it
by. Here each connection passes, with the address that is really connected to, so a name that
suddenly leads to this machine is seen, too.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from kickwheel.core.errors import ToolError

_HEAD_BYTES = 65536
_CONNECT_S = 15.0


class Places:
    """Where a browser may go.

    Args:
        hosts: `example.com`, `*.example.com` (not example.com itself), `*`, each with `:port` where
            only one port is meant.
        private: whether they may be of this machine or of a private network.
    """

    def __init__(self, hosts: Sequence[str], private: bool) -> None:
        self.hosts = tuple(hosts)
        self.private = private

    def why_not(self, host: str, port: int) -> str:
        """Why the browser may not go there; empty where it may."""
        host = host.rstrip(".").lower()
        for entry in self.hosts:
            name, _, only = entry.lower().rpartition(":") if _has_port(entry) else (entry, "", "")
            name = name.lower().strip("[]")
            if only and int(only) != port:
                continue
            if name in ("*", host) or (name.startswith("*.") and host.endswith(name[1:])):
                return ""
        return f"the app lets the browser go to {', '.join(self.hosts)} only, and not to {host}"

    async def addresses(self, host: str, port: int) -> list[str]:
        """The host's addresses.

        Raises:
            ToolError: there are none, or the browser may not go there.
        """
        why = self.why_not(host, port)
        if why:
            raise ToolError(why)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
        except OSError as error:
            raise ToolError(f"there is no host {host}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        hidden = [address for address in addresses if not _is_public(address)]
        if hidden and not self.private:
            raise ToolError(
                f"{host} is {hidden[0]}, an address of this machine or a private network, where "
                "the app does not let the browser go"
            )
        return addresses


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_global and not found.is_multicast


def _has_port(entry: str) -> bool:
    head, colon, port = entry.rpartition(":")
    return bool(colon) and port.isdigit() and (":" not in head or head.endswith("]"))


class Proxy:
    """A running proxy."""

    def __init__(self, places: Places) -> None:
        self.url = ""
        self.places = places
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the browser."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # The browser, or whom it talks to, hung up or talks nonsense.
        except asyncio.CancelledError:
            pass  # By `close`; nobody else knows of the task.
        finally:
            self._open.discard(task)
            writer.close()

    async def close(self) -> None:
        """Ends all connections."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line, _, rest = head.partition(b"\r\n")
        method, target, version = line.decode("latin-1").split(" ", 2)
        tunnel = method == "CONNECT"
        parts = urlsplit(f"//{target}" if tunnel else target)
        host, port = parts.hostname or "", parts.port or (443 if tunnel else 80)
        try:
            there, out = await self._connect(host, port)
        except ToolError as error:
            body = f"<h1>Not allowed</h1><p>{error}".encode()
            writer.write(
                b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            await writer.drain()
            return
        try:
            if tunnel:
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                # One request to a connection: the next may be for another host.
                out.write(f"{method} {path} {version}\r\nConnection: close\r\n".encode("latin-1"))
                out.write(_without_connection(rest))
            await _both_ways((reader, out), (there, writer))
        finally:
            out.close()

    async def _connect(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        last: Exception | None = None
        for address in await self.places.addresses(host, port):
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection(address, port)
            except (OSError, TimeoutError) as error:
                last = error
        raise ToolError(f"{host} does not answer on port {port}") from last


@asynccontextmanager
async def open_proxy(places: Places) -> AsyncGenerator[Proxy]:
    """A proxy, listening on a port of loopback, until the block ends."""
    proxy = Proxy(places)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=_HEAD_BYTES)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await server.wait_closed()


def _without_connection(head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    drop = (b"connection:", b"proxy-connection:", b"proxy-authorization:")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(drop))


async def _both_ways(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Passes bytes on in both directions until the answering side has ended."""
    tasks = [asyncio.create_task(_pass_on(reader, writer)) for reader, writer in ways]
    try:
        await tasks[-1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
