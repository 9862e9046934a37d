"""`kind: mcp`: the tools of an MCP server, started by command or reached by URL.

    open ─▶ a connection, kept open and shared ─▶ the server's list ─▶ its tools, within our limits
                   ▲                                       │
                   └── again where the server died         └── read again when the server says so

A server is a stranger: what it announces and what it answers is checked, bounded, and never taken
for instructions. Both eras of the protocol are spoken (2026-07-28 and before).
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, model_validator

from kickwheel.agents.caller import caller
from kickwheel.agents.tools.mcp_answer import arguments_schema, failure, pictured, text_of
from kickwheel.agents.tools.mcp_kept import Kept
from kickwheel.agents.tools.mcp_link import Link, Server
from kickwheel.agents.tools.mcp_login import LoginAuth, log_in
from kickwheel.agents.tools.mcp_more import What, more_tools
from kickwheel.agents.tools.mcp_oauth import Fetching, OauthAuth
from kickwheel.agents.tools.tool import Effects, Limits, Pictured, Tool, Toolbox, ToolPart
from kickwheel.core.config import key_from
from kickwheel.core.errors import MissingExtra, ToolError, UsageError
from kickwheel.core.plugins import Context, nearest
from kickwheel.core.store import Artifacts
from kickwheel.records import ToolSpec

TOOLS = 500
"""Tools of one server at most."""
DESCRIPTION_CHARS = 4000
"""Characters of a tool's description at most; it is part of every prompt."""
CALLERS = 100
"""Connections of callers that are kept open at most."""
_UNUSUAL = re.compile(r"[^A-Za-z0-9_-]")


class Mcp(ToolPart):
    """The tools of an MCP server."""

    command: tuple[str, ...] = ()
    """Program and arguments that start the server; it speaks over its standard input and output,
    and runs in the app's folder."""
    url: str = ""
    """Address of a server that runs elsewhere, `https://…/mcp`."""
    env: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Variables of the started server's environment; write `${NAME}` for the value of one of your
    own. It gets these, PATH, HOME and LANG, and no others."""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Headers of each request to the URL, for example `Authorization: ${CLINIC_TOKEN}`."""
    auth: Annotated[OauthAuth | LoginAuth, Field(discriminator="kind")] | None = None
    """`kind: oauth` where a program fetches its tokens, `kind: login` where a person logs in; a
    fixed one stands in `headers`."""
    as_caller: bool = False
    """Whether calls carry the token of the caller whom the agent works for, each caller over a
    connection of their own; the list of tools is read with `headers`."""
    only: tuple[str, ...] = ()
    """Tools that are offered, by the server's names; `*` stands for any text. By default all."""
    resources: bool = False
    """Whether agents may list and read the server's resources, by two more tools."""
    prompts: bool = False
    """Whether agents may list and read the server's prompts, by two more tools."""
    prefix: str = ""
    """What stands before each tool's name, where two servers use the same names."""
    protocol: Literal["auto", "legacy"] = "auto"
    """`auto` speaks the protocol of 2026 where the server does; `legacy` that of 2025, for servers
    that stumble over the newer one's greeting."""
    start_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds until a server that has not greeted counts as broken."""

    @model_validator(mode="after")
    def _one_way(self) -> "Mcp":
        if bool(self.command) == bool(self.url):
            raise ValueError("say either command or url: how is the server reached?")
        if self.command and (self.headers or self.as_caller or self.auth):
            raise ValueError("headers, auth and as_caller belong to a url; a command takes env")
        if self.url and self.env:
            raise ValueError("env belongs to a command; a url takes headers")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """The server's tools; the list follows the server's."""
        server = self._server(context.name, context.folder)
        kept = Kept(context.store.folder, context.name, self.url)
        if isinstance(self.auth, OauthAuth):
            secret = _value(self.auth.client_secret, f"tools.{context.name}.auth.client_secret")
            server = replace(server, signs=Fetching(self.url, self.auth, secret))
        elif isinstance(self.auth, LoginAuth):
            server = replace(server, signs=kept)
        box = _Box(self, server, context.name, context.store.artifacts)
        try:
            try:
                await box.read()
            except ToolError as error:
                raise UsageError(f"tools.{context.name}: {error}") from error
            yield box.tools
        finally:
            await box.close()
            await kept.close()

    async def log_in(
        self, name: str, folder: Path, store: Path, show: Callable[[str], None], port: int = 0
    ) -> None:
        """Returns once a person has logged in.

        Args:
            name: of this entry in the file.
            folder: of the app file.
            store: the folder of the app's store, where the login is kept.
            show: brings the person to a URL.
            port: of this machine, to which the browser comes back; 0 takes a free one.
        Raises:
            UsageError: nobody can log in there; the text says why.
            ToolError: no login came of it; the text says why.
        """
        if not isinstance(self.auth, LoginAuth):
            raise UsageError(
                f"tools.{name}: nobody logs in there. Where a person shall, write "
                "auth: {kind: login}"
            )
        secret = self.auth.client_secret
        await log_in(
            self._server(name, folder),
            Kept(store, name, self.url),
            self.auth,
            show,
            secret=None if secret is None else _value(secret, f"tools.{name}.auth.client_secret"),
            port=port,
        )

    def _server(self, name: str, folder: Path) -> Server:
        """How the server is reached."""
        try:
            import mcp  # noqa: F401
        except ImportError as error:
            raise MissingExtra("tools of MCP servers", "mcp") from error
        return Server(
            name=name,
            command=self.command,
            folder=folder,
            env=_values(self.env, f"tools.{name}.env"),
            url=self.url,
            headers=_values(self.headers, f"tools.{name}.headers"),
            legacy=self.protocol == "legacy",
            start_s=self.start_s,
        )


class _Box:
    """A server's tools, as it offers them now."""

    def __init__(self, part: Mcp, server: Server, name: str, artifacts: Artifacts) -> None:
        self.tools: list[Tool] = []
        self.artifacts = artifacts
        self._part = part
        self._server = server
        self._link = Link(server, self.read)
        self._callers: OrderedDict[str, Link] = OrderedDict()
        self._by_name: dict[str, _McpTool] = {}
        wanted: list[What] = ["resources"] if part.resources else []
        wanted += ["prompts"] if part.prompts else []
        reads = part.limits("none")
        self._more = [tool for what in wanted for tool in more_tools(what, name, self.link, reads)]

    @asynccontextmanager
    async def link(self) -> AsyncGenerator[Link]:
        """The connection for the caller whom the agent works for; it stays while the block runs.

        Raises:
            ToolError: nobody is known, where calls are made in somebody's name.
        """
        if not self._part.as_caller:
            yield self._link
            return
        token = caller().token
        if token is None:
            raise ToolError(
                "this tool works in the caller's name, and this caller has no token for it"
            )
        key = token.get_secret_value()
        link = self._callers.get(key)
        if link is None:
            link = self._callers[key] = Link(self._server.acting_for(key), None)
        self._callers.move_to_end(key)
        link.users += 1
        try:
            while len(self._callers) > CALLERS and (unused := self._unused()) is not None:
                await self._callers.pop(unused).close()
            yield link
        finally:
            link.users -= 1

    def _unused(self) -> str | None:
        """The caller whose connection has been without work for the longest time."""
        return next((key for key, link in self._callers.items() if not link.users), None)

    async def close(self) -> None:
        """Closes all connections."""
        await asyncio.gather(*(link.close() for link in (self._link, *self._callers.values())))

    async def read(self) -> None:
        """Reads the list of tools.

        Raises:
            ToolError: the server does not answer, or offers what cannot be used.
        """
        listed = await self._link.listed(TOOLS)
        offered = [tool for tool in listed if _wanted(tool.name, self._part.only)]
        for pattern in self._part.only:
            if not any(fnmatchcase(tool.name, pattern) for tool in listed):
                known = {tool.name for tool in listed}
                raise ToolError(
                    f'only: the server has no tool "{pattern}". {nearest(pattern, known)}'
                )
        found: dict[str, _McpTool] = {}
        for tool in offered:
            spec = ToolSpec(
                name=_name(self._part.prefix + tool.name),
                description=(tool.description or tool.title or "")[:DESCRIPTION_CHARS],
                parameters=arguments_schema(tool.input_schema),
            )
            if spec.name in found:
                raise ToolError(
                    f'two of the server\'s tools would both be called "{spec.name}"; '
                    "leave one out with only"
                )
            # The same object as before, so that agents that hold it know it as it is now.
            known_as = self._by_name.get(spec.name)
            limits = self._part.limits(_effects(tool.annotations))
            if known_as is None:
                known_as = _McpTool(self)
            known_as.theirs, known_as.spec, known_as.limits = tool.name, spec, limits
            known_as.gone = False
            found[spec.name] = known_as
        for name, gone in self._by_name.items():
            gone.gone = name not in found
        self._by_name |= found
        taken = next((tool.spec.name for tool in self._more if tool.spec.name in found), None)
        if taken is not None:
            raise ToolError(f'the server has a tool "{taken}" of its own; give it a prefix')
        self.tools[:] = [*found.values(), *self._more]


class _McpTool:
    """A tool of an MCP server."""

    spec: ToolSpec
    limits: Limits
    theirs: str
    """Its name there."""

    def __init__(self, box: _Box) -> None:
        self.gone = False
        """Whether the server offers it no more."""
        self._box = box

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the server says."""
        if self.gone:
            raise ToolError(f'the server does not offer "{self.spec.name}" any more', lasting=True)
        async with self._box.link() as link:
            answer = await link.call(self.theirs, dict(arguments))
        if answer.is_error:
            raise failure(link.clean(text_of(answer)))
        if all(piece.type != "image" for piece in answer.content):
            return link.clean(text_of(answer))
        said = await asyncio.to_thread(pictured, answer, self._box.artifacts)
        clean = link.clean(said)
        return Pictured(clean, said.images) if isinstance(said, Pictured) else clean


def _values(written: Mapping[str, SecretStr], where: str) -> dict[str, str]:
    return {name: _value(secret, f"{where}.{name}") for name, secret in written.items()}


def _value(written: SecretStr, where: str) -> str:
    value = key_from(written.get_secret_value())
    if value is None:
        raise UsageError(f"{where}: {written.get_secret_value()} is empty or not set")
    return value


def _wanted(name: str, only: tuple[str, ...]) -> bool:
    return not only or any(fnmatchcase(name, pattern) for pattern in only)


def _name(theirs: str) -> str:
    """The name as models may write it: letters, digits, `_` and `-`, 64 at most."""
    return _UNUSUAL.sub("_", theirs)[:64]


def _effects(annotations: Any) -> Effects:
    """What the server says that a call does; where it says nothing, the worst."""
    if annotations is None:
        return "once"
    if annotations.read_only_hint:
        return "none"
    return "repeatable" if annotations.idempotent_hint else "once"
