"""Nobody outside is spoken to: who tries is told off and noted, from before the first import."""

import socket
from typing import Any

TRIED: list[str] = []
"""Hosts that somebody wanted to reach."""

_LOCAL = {None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"}
_real = socket.getaddrinfo


def _getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else host
    if name not in _LOCAL:
        TRIED.append(name)
        raise socket.gaierror(f"these tests stay on loopback: {name}")
    return _real(host, *rest, **more)


def begin() -> None:
    """From now on."""
    socket.getaddrinfo = _getaddrinfo
