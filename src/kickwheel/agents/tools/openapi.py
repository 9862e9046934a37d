"""`kind: openapi`: each operation of a service that describes itself by OpenAPI is a tool.

What the document says is what the model is told: names, descriptions, schemas. What it says of
servers and of who may ask is kept to: requests go to its servers only.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import aiohttp
import msgspec
from pydantic import BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag

from kickwheel.agents.caller import idempotency_key
from kickwheel.agents.tools import access, apidoc, style
from kickwheel.agents.tools.apidoc import ApiDocument, Operation, Scheme
from kickwheel.agents.tools.auth import CertificateFiles, Login, secret
from kickwheel.agents.tools.bundle import bundled, parsed
from kickwheel.agents.tools.tokens import Discovered, Fetched
from kickwheel.agents.tools.tool import Limits, Tool, Toolbox, ToolPart
from kickwheel.agents.tools.web import EFFECTS, Access, Call, ask, fetch, form, session
from kickwheel.core.errors import ToolError, UsageError
from kickwheel.core.plugins import Context, nearest
from kickwheel.records import ToolSpec

MOST_BYTES = 30_000_000
"""Of a document."""
WAIT_S = 30.0
"""For a document that is fetched."""


class Client(BaseModel):
    """What an application shows of itself to be given tokens (OAuth 2 client credentials)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    client_id: str
    """Who we are where tokens are given out."""
    client_secret: SecretStr
    """The secret, as `${NAME}` of a variable."""


def _form(written: Any) -> str | None:
    """Which of the forms of credentials it is meant to be."""
    if written == "caller":
        return "caller"
    if isinstance(written, str | SecretStr):
        return "secret"
    if isinstance(written, Mapping):
        if "certificate" in written:
            return "certificate"
        return "client" if any("client" in str(key) for key in written) else "login"
    return None


Credentials = Annotated[
    Annotated[Literal["caller"], Tag("caller")]
    | Annotated[SecretStr, Tag("secret")]
    | Annotated[Login, Tag("login")]
    | Annotated[Client, Tag("client")]
    | Annotated[CertificateFiles, Tag("certificate")],
    Discriminator(
        _form,
        custom_error_type="credentials",
        custom_error_message="must be ${NAME} of a key or token, `caller`, `user` and `password`, "
        "`client_id` and `client_secret`, or `certificate` and `key`",
    ),
]


class OpenApi(ToolPart):
    """The operations of a service that describes itself by an OpenAPI document."""

    document: str
    """Path or URL of the document: OpenAPI 3.0 or 3.1 or Swagger 2.0, as JSON or YAML."""
    server: str | None = None
    """URL of the service; by default the first server that the document names."""
    only: tuple[str, ...] = ()
    """The operations to take, each by its id, `GET /path`, or a tag; by default all."""
    without: tuple[str, ...] = Field(default=(), alias="except")
    """The operations to leave out, named in the same ways."""
    auth: Mapping[str, Credentials] = {}
    """What authorises requests, by the document's names for its security schemes: `${NAME}` of a
    key or token; `user` and `password`; `client_id` and `client_secret`; `certificate` and `key`,
    files in PEM; or `caller`, the token of whoever asked the agent."""

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """A document that is a file, and not there; the same of certificates."""
        if not self._elsewhere and not (folder / self.document).is_file():
            yield "document", f"there is no file {folder / self.document}"
        for name, given in self.auth.items():
            if isinstance(given, CertificateFiles):
                for what in given.absent(folder):
                    yield "auth", f"{name}: {what}"

    @property
    def _elsewhere(self) -> bool:
        return self.document.startswith(("http://", "https://"))

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """The operations as tools."""
        async with session() as opened:
            document = await self._read(opened, context)
            gate = _Gate(opened, context.folder, self.document, document, self.auth)
            yield [self._tool(opened, gate, operation) for operation in document.operations]

    async def _read(self, opened: aiohttp.ClientSession, context: Context) -> ApiDocument:
        if not self._elsewhere:
            path = context.folder / self.document
            return self._said(bundled(path), str(path))
        call = Call(method="GET", url=self.document, headers={"Accept": "*/*"})
        try:
            async with asyncio.timeout(WAIT_S):
                reply = await fetch(opened, call, MOST_BYTES)
        except (ToolError, TimeoutError) as error:
            why = str(error) or f"no answer within {WAIT_S:g} s"
            raise UsageError(f"{self.document}: cannot be read: {why}") from error
        if reply.status != 200 or not reply.whole:
            raise UsageError(f"{self.document}: cannot be read: it answers {reply.status}")
        return self._said(parsed(reply.body, self.document), self.document)

    def _said(self, document: dict[str, Any], source: str) -> ApiDocument:
        return apidoc.read(
            document, source, server=self.server, only=self.only, without=self.without
        )

    def _tool(self, opened: aiohttp.ClientSession, gate: "_Gate", operation: Operation) -> Tool:
        limits = self.limits(EFFECTS[operation.method])
        return _Operation(opened, operation, gate.access(operation), limits)


class _Operation:
    """An operation as a tool."""

    def __init__(
        self, opened: aiohttp.ClientSession, operation: Operation, access: Access, limits: Limits
    ) -> None:
        self.spec = ToolSpec(
            name=operation.name, description=operation.description, parameters=operation.schema
        )
        self.limits = limits
        self._opened, self._operation, self._access = opened, operation, access

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the service answers.

        Raises:
            InvalidArguments: the arguments make no request, or the service finds fault with them.
            ToolError: it refuses for another reason, or does not answer.
        """
        return await ask(self._opened, self._request(arguments), self._access)

    def _request(self, arguments: Mapping[str, Any]) -> Call:
        operation = self._operation
        url, query, cookies = operation.url, [], []
        headers = {"Accept": "application/json, text/*;q=0.9, */*;q=0.1"}
        for argument, value in arguments.items():
            written = operation.parameters.get(argument)
            if written is None or (value is None and written.place != "path"):
                continue
            match written.place:
                case "path":
                    part = style.in_path(written, value)
                    url = url.replace(f"{{{written.name}}}", part)
                case "query":
                    query.append(style.in_query(written, value))
                case "header":
                    headers[written.name] = style.in_header(written, value)
                case "cookie":
                    cookies += style.in_cookies(written, value)
        key = idempotency_key()
        if key is not None and (operation.takes_key or EFFECTS[operation.method] == "once"):
            headers["Idempotency-Key"] = key
        body = b""
        if operation.body is not None and arguments.get("body") is not None:
            headers["Content-Type"], body = _body(operation.body, arguments["body"])
        return Call(
            method=operation.method,
            url=url,
            query="&".join(filter(None, query)),
            headers=headers,
            cookies=tuple(cookies),
            body=body,
        )


def _body(body: apidoc.Body, value: Any) -> tuple[str, bytes]:
    """Media type and bytes of a body."""
    kind = body.media.partition(";")[0].strip().lower()
    if kind == "multipart/form-data" and isinstance(value, dict):
        return style.multipart(value, body.files)
    if kind == "application/x-www-form-urlencoded" and isinstance(value, dict):
        return kind, form(style.fields(value))
    if isinstance(value, str) and not kind.endswith("json"):
        return f"{kind}; charset=utf-8", value.encode()
    return "application/json" if kind == "*/*" else kind, msgspec.json.encode(value)


class _Gate:
    """Who is let in where: the document's schemes with the app's credentials."""

    def __init__(
        self,
        opened: aiohttp.ClientSession,
        folder: Path,
        source: str,
        document: ApiDocument,
        credentials: Mapping[str, Credentials],
    ) -> None:
        self._opened, self._folder, self._source = opened, folder, source
        for name in credentials:
            if name not in document.schemes:
                known = nearest(name, dict(document.schemes))
                raise UsageError(f'{source}: has no security scheme "{name}". {known}')
        scopes: dict[str, dict[str, None]] = {}
        for operation in document.operations:
            for name, wanted in (scheme for way in operation.security for scheme in way):
                scopes.setdefault(name, {}).update(dict.fromkeys(wanted))
        self._open: dict[str, Access] = {
            name: self._access(name, document.schemes[name], given, scopes.get(name, {}))
            for name, given in credentials.items()
        }

    def access(self, operation: Operation) -> Access:
        """What authorises the operation: the first way for which we have all that it needs.

        Raises:
            UsageError: there is none.
        """
        ways = sorted(operation.security, key=lambda way: not way)  # Rather asked by somebody.
        for way in ways:
            if all(name in self._open for name, _ in way):
                return access.All([self._open[name] for name, _ in way])
        if ways:
            wanted = ", or ".join(" with ".join(name for name, _ in way) for way in ways)
            raise UsageError(
                f"{self._source}: {operation.name} wants credentials for {wanted}. Name them "
                "under `auth:`, or leave the operation out by `except:`"
            )
        return access.Fixed()

    def _access(
        self, name: str, scheme: Scheme, given: Credentials, scopes: Mapping[str, None]
    ) -> Access:
        match scheme.kind, given:
            case (("bearer" | "oauth2" | "openid"), "caller"):
                return access.Passed()
            case "key", SecretStr():
                return access.keyed(secret(given), scheme.name, scheme.place)
            case (("bearer" | "oauth2" | "openid"), SecretStr()):
                return access.bearer(secret(given))
            case "basic", Login():
                return access.basic(given.user, secret(given.password))
            case "digest", Login():
                return access.Digest(given.user, secret(given.password))
            case "certificate", CertificateFiles():
                return given.access(self._opened, self._folder)
            case (("oauth2" | "openid"), Client()) if scheme.url:
                known = secret(given.client_secret)
                fetched = Fetched if scheme.kind == "oauth2" else Discovered
                return fetched(self._opened, scheme.url, given.client_id, known, [*scopes])
        raise UsageError(f"{self._source}: the scheme {name} takes {_TAKES[scheme.kind]}")


_TAKES: Mapping[str, str] = {
    "key": "a key, written ${NAME}",
    "basic": "`user` and `password`",
    "digest": "`user` and `password`",
    "bearer": "a token, written ${NAME}, or `caller`",
    "oauth2": "`client_id` and `client_secret` where it has client credentials, a token, written "
    "${NAME}, or `caller`",
    "openid": "`client_id` and `client_secret`, a token, written ${NAME}, or `caller`",
    "certificate": "`certificate` and `key`, files in PEM",
    "other": "what this tool cannot give; leave the operations that need it out by `except:`",
}
