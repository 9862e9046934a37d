"""`kind: http`: requests to services that describe themselves by nothing, written down in the app.

A request is a template: `{name}` in its URL, query, headers or body is the argument of that name,
encoded as the place wants it, so that a value stays a value whatever is in it.
"""

import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import aiohttp
import msgspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kickwheel.agents.caller import idempotency_key
from kickwheel.agents.tools import style
from kickwheel.agents.tools.access import Fixed
from kickwheel.agents.tools.auth import Auth, CertificateAuth
from kickwheel.agents.tools.style import Parameter, parameter
from kickwheel.agents.tools.tool import Effects, Limits, Toolbox, ToolPart
from kickwheel.agents.tools.web import (
    EFFECTS,
    Access,
    Call,
    ask,
    form,
    header,
    segment,
    session,
    template,
)
from kickwheel.core.plugins import Context, nearest
from kickwheel.core.schema import inlined
from kickwheel.records import ToolSpec

_PLACE = re.compile(r"\{(\w+)\}")
_FORM = "application/x-www-form-urlencoded"


class Request(BaseModel):
    """One request, with places for arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    description: str
    """What it does, as the model is told."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    """The method."""
    url: str
    """Where it goes; an argument in it is one part of the path."""
    query: Mapping[str, Any] = {}
    """Parameters of the query; one whose argument is not given is left out."""
    headers: Mapping[str, str] = {}
    """Headers; one whose argument is not given is left out."""
    body: Any = None
    """What is sent: a mapping or list, or text. A text that is nothing but a place becomes the
    argument itself, a number or list too."""
    content_type: str | None = None
    """Media type of the body; by default JSON for a mapping or list, `text/plain` for text. A
    mapping may be `application/x-www-form-urlencoded`."""
    parameters: Mapping[str, dict[str, Any]] = {}
    """The arguments, each with its JSON Schema. One with `required: false` or a `default` may be
    left out."""
    effects: Effects | None = None
    """What it does to the world, where its method says it wrongly, as with a POST that only
    searches."""

    @model_validator(mode="after")
    def _places(self) -> "Request":
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ValueError(f'"{self.url}" is no URL of a service: https://…')
        host = self.url.split("/", 3)[2]
        if _PLACE.search(host):
            raise ValueError(f"an argument cannot say which host is asked: {host}")
        path, _, query = self.url.partition("?")
        if _PLACE.search(query):
            raise ValueError("arguments of the query stand under `query`")
        places = [*_found(path), *_found(self.query), *_found(self.headers)]
        if not isinstance(self.body, str):  # In a text braces may mean something else.
            places += _found(self.body)
        for name in places:
            if name not in self.parameters:
                known = nearest(name, dict(self.parameters))
                raise ValueError(f'there is no parameter "{name}". {known}')
        for name in self.parameters:
            if name not in {*places, *_found(self.body)}:
                raise ValueError(f'the parameter "{name}" stands nowhere in the request')
        for name in _found(path):
            if not _required(self.parameters[name]):
                raise ValueError(f'the parameter "{name}" is part of the path: it must be required')
        return self


class Http(ToolPart):
    """Requests to a service, each a tool."""

    requests: Annotated[Mapping[str, Request], Field(min_length=1)]
    """The requests, by the names that the model calls them by."""
    auth: Auth | None = None
    """What authorises them all; by default nothing."""

    @model_validator(mode="after")
    def _names(self) -> "Http":
        for name in self.requests:
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
                raise ValueError(f'"{name}" is no name for a tool: letters, digits, _ and -')
        return self

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """Files of a certificate that are not there."""
        if isinstance(self.auth, CertificateAuth):
            for what in self.auth.absent(folder):
                yield "auth", what

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """The requests as tools."""
        async with session() as opened:
            access = Fixed() if self.auth is None else self.auth.access(opened, context.folder)
            yield [
                _Asking(opened, name, request, access, self._limits(request))
                for name, request in self.requests.items()
            ]

    def _limits(self, request: Request) -> Limits:
        limits = self.limits(EFFECTS[request.method])
        return limits if request.effects is None else replace(limits, effects=request.effects)


class _Asking:
    """A request as a tool."""

    def __init__(
        self,
        opened: aiohttp.ClientSession,
        name: str,
        request: Request,
        access: Access,
        limits: Limits,
    ) -> None:
        self.spec = ToolSpec(
            name=name, description=request.description, parameters=_schema(request)
        )
        self.limits = limits
        self._opened, self._request, self._access = opened, request, access

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the service answers.

        Raises:
            InvalidArguments: the arguments make no request, or the service finds fault with them.
            ToolError: it refuses for another reason, or does not answer.
        """
        return await ask(self._opened, self._call(arguments), self._access)

    def _call(self, arguments: Mapping[str, Any]) -> Call:
        request = self._request
        defaults = {n: p["default"] for n, p in request.parameters.items() if "default" in p}
        given = {**defaults, **{n: v for n, v in arguments.items() if v is not None}}
        path, _, query = template(request.url).partition("?")
        queried = [
            style.in_query(_query(name), value)
            for name, value in _filled(request.query, given).items()
        ]
        headers = {"Accept": "application/json, text/*;q=0.9, */*;q=0.1"}
        for name, value in _filled(request.headers, given).items():
            headers[name] = header(style.plain(value))
        key = idempotency_key()
        if key is not None and EFFECTS[request.method] == "once":
            headers.setdefault("Idempotency-Key", key)
        body = b""
        if request.body is not None:
            kind, body = _body(request, given)
            headers.setdefault("Content-Type", kind)
        return Call(
            method=request.method,
            url=_PLACE.sub(lambda place: segment(style.plain(given[place[1]])), path),
            query="&".join(filter(None, (query, *queried))),
            headers=headers,
            body=body,
        )


def _schema(request: Request) -> dict[str, Any]:
    properties = {
        name: {key: value for key, value in rule.items() if key != "required"}
        if isinstance(rule.get("required"), bool)
        else rule
        for name, rule in request.parameters.items()
    }
    required = [name for name, rule in request.parameters.items() if _required(rule)]
    return inlined(
        {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
    )


def _required(rule: Mapping[str, Any]) -> bool:
    return rule.get("required") is not False and "default" not in rule


def _query(name: str) -> Parameter:
    return parameter(name, "query", {})


def _found(node: Any) -> list[str]:
    """The places in a template, each by the name of its argument."""
    if isinstance(node, str):
        return _PLACE.findall(node)
    if isinstance(node, Mapping):
        return [name for value in node.values() for name in _found(value)]
    if isinstance(node, list | tuple):
        return [name for value in node for name in _found(value)]
    return []


class _Missing:
    """Stands where an argument was not given."""


_MISSING = _Missing()


def _filled(node: Any, given: Mapping[str, Any]) -> Any:
    """The template with its arguments; what has one that was not given is left out."""
    if isinstance(node, Mapping):
        filled = {str(key): _filled(value, given) for key, value in node.items()}
        return {key: value for key, value in filled.items() if value is not _MISSING}
    if isinstance(node, list | tuple):
        return [v for v in (_filled(value, given) for value in node) if v is not _MISSING]
    if not isinstance(node, str):
        return node
    if any(name not in given for name in _PLACE.findall(node)):
        return _MISSING
    whole = _PLACE.fullmatch(node)
    if whole:
        return given[whole[1]]
    return _PLACE.sub(lambda place: style.plain(given[place[1]]), node)


def _body(request: Request, given: Mapping[str, Any]) -> tuple[str, bytes]:
    """Media type and bytes of the body."""
    if not isinstance(request.body, str):
        filled = _filled(request.body, given)
        if request.content_type == _FORM and isinstance(filled, dict):
            return _FORM, form(style.fields(filled))
        return request.content_type or "application/json", msgspec.json.encode(filled)
    kind = request.content_type or "text/plain; charset=utf-8"
    charset = re.search(r'charset="?([\w-]+)', kind)

    def place(found: re.Match[str]) -> str:
        name = found[1]
        if name not in request.parameters:
            return found[0]
        return _escaped(style.plain(given.get(name, "")), kind)

    text = _PLACE.sub(place, request.body)
    return kind, text.encode(charset[1] if charset else "utf-8", "replace")


def _escaped(value: str, kind: str) -> str:
    """A value as it may stand in a text of this type."""
    if "xml" in kind or "html" in kind:
        return escape(value, {'"': "&quot;", "'": "&apos;"})
    if "json" in kind:
        return json.dumps(value, ensure_ascii=False)[1:-1]
    if kind.startswith(_FORM):
        return form([("", value)]).decode()[1:]
    return value
