"""The connection to an agent elsewhere, by the official SDK.

The other side is a stranger: its card is checked before anything is sent, it may send us nowhere
but to the host that the app file names, no redirect is followed, and what it says is bounded.
"""

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx  # What the SDK is built on; it comes with it.
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types import AgentCard, AgentInterface
from a2a.utils.constants import TransportProtocol
from a2a.utils.errors import A2AError
from google.protobuf.json_format import ParseError

from kickwheel.core import redact
from kickwheel.core.errors import ModelError, unreached

BINDINGS = (TransportProtocol.JSONRPC, TransportProtocol.HTTP_JSON)
SPOKEN = ("1.", "0.3")
"""How versions of the protocol begin that the SDK speaks."""


class Link:
    """The connection to one agent; an async context manager."""

    def __init__(
        self,
        name: str,
        url: str,
        headers: Mapping[str, str],
        *,
        hosts: Iterable[str],
        streaming: bool,
        timeout_s: float,
    ) -> None:
        self.name = name
        self._url = url
        self._hosts = {_place(url), *(host.lower() for host in hosts)}
        self.streaming = streaming
        self._session = httpx.AsyncClient(
            headers=dict(headers),
            follow_redirects=False,
            timeout=httpx.Timeout(timeout_s, connect=10.0),
        )
        self._lock = asyncio.Lock()
        self._card: AgentCard | None = None
        self._client: Client | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.aclose()

    async def card(self) -> AgentCard:
        """Its card, read once.

        Raises:
            ModelError: it cannot be read, or cannot be believed.
        """
        async with self._lock:
            if self._card is None:
                try:
                    card = await A2ACardResolver(self._session, self._url).get_agent_card()
                except (A2AError, ValueError, ParseError) as error:
                    raise self.failed(error) from error
                card.CopyFrom(self._checked(card))
                config = ClientConfig(
                    httpx_client=self._session,
                    streaming=self.streaming,
                    polling=True,
                    supported_protocol_bindings=list(BINDINGS),
                )
                self._client = ClientFactory(config).create(card)
                self._card = card
            return self._card

    async def client(self) -> Client:
        """What speaks to it."""
        await self.card()
        assert self._client is not None
        return self._client

    def _checked(self, card: AgentCard) -> AgentCard:
        """The card with those of its interfaces that we can use, and may."""
        if not card.name:
            raise ModelError(f"{self.name}: the card at {self._url} names no agent")
        spoken = [i for i in card.supported_interfaces if _is_spoken(i)]
        if not spoken:
            offered = ", ".join(
                f"{i.protocol_binding} {i.protocol_version}" for i in card.supported_interfaces
            )
            raise ModelError(
                f"{self.name}: its card offers {offered or 'no interface'}; JSONRPC and HTTP+JSON "
                "of protocol 1.0 or 0.3 are spoken here"
            )
        near = [i for i in spoken if _place(i.url) in self._hosts and self._as_safe(i.url)]
        if not near:
            other = _place(spoken[0].url)
            if other in self._hosts:
                raise ModelError(f"{self.name}: its card leads from https to {spoken[0].url}")
            raise ModelError(
                f"{self.name}: its card at {self._url} sends us to {other}, another place than "
                f"the app file names. If that is meant, say so: hosts: [{other}]"
            )
        checked = AgentCard()
        checked.CopyFrom(card)
        del checked.supported_interfaces[:]
        checked.supported_interfaces.extend(near)
        return checked

    def _as_safe(self, url: str) -> bool:
        return url.startswith("https:") or not self._url.startswith("https:")

    def failed(self, error: Exception) -> ModelError:
        """What an error of the SDK is to the agent's caller."""
        status = getattr(error, "status_code", None)
        what = redact.text(unreached(error))[:1000]
        if status in (301, 302, 303, 307, 308):
            what = f"{self._url} sends us elsewhere, which is not followed; write where it is"
        return ModelError(f"{self.name}: {what}", status=502)


def _is_spoken(interface: AgentInterface) -> bool:
    return interface.protocol_binding in BINDINGS and (
        not interface.protocol_version or interface.protocol_version.startswith(SPOKEN)
    )


def _place(url: str) -> str:
    """Host and port of the URL, as they stand there; empty where it is none."""
    try:
        parts = urlsplit(url)
        return parts.netloc.rpartition("@")[2].lower() if parts.hostname and parts.port != 0 else ""
    except ValueError:
        return ""
