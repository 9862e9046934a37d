"""An OpenAPI document, read: its operations with all that a request needs.

Versions 3.0 and 3.1 are read as they are, Swagger 2.0 as the 3.0 that says the same (`swagger`).
Documents are what other people wrote: whatever is wrong in one is told with the place where it is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import urljoin, urlsplit

from kickwheel.agents.tools import swagger
from kickwheel.agents.tools.dialect import plain
from kickwheel.agents.tools.style import Parameter, Place, parameter
from kickwheel.agents.tools.tool import safe
from kickwheel.agents.tools.web import template
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import nearest
from kickwheel.core.schema import inlined, pointed

DESCRIPTION_CHARS = 1000
"""Of an operation's description; more would crowd out the other tools."""

_METHODS = ("get", "head", "post", "put", "patch", "delete")
_PLACES = ("path", "query", "header", "cookie")
_SET_BY_US = frozenset(("accept", "content-type", "authorization"))
_BROKEN = (AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What a request carries."""

    media: str
    """Its media type."""
    required: bool
    files: frozenset[str] = frozenset()
    """Fields of a multipart form that are files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that a service can do."""

    name: str
    """Unique in the document, and as model providers take names."""
    description: str
    method: str
    url: str
    """Absolute; the path's parameters in braces."""
    parameters: Mapping[str, Parameter]
    """By the name of the argument that holds the value."""
    body: Body | None
    """The argument `body`."""
    takes_key: bool
    """Whether it names `Idempotency-Key` as a header of its own."""
    security: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
    """Ways to be let in: each some schemes with their scopes, all of which are needed."""
    schema: dict[str, Any]
    """Of the arguments."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way of showing who asks."""

    kind: Literal["key", "basic", "digest", "bearer", "oauth2", "openid", "certificate", "other"]
    name: str = ""
    """Of a key's header, parameter or cookie."""
    place: Literal["header", "query", "cookie"] = "header"
    url: str | None = None
    """Of oauth2, where client credentials give a token; of openid, its configuration."""


@dataclass(frozen=True, slots=True)
class ApiDocument:
    """A document, read."""

    operations: tuple[Operation, ...]
    schemes: Mapping[str, Scheme]


def read(
    document: dict[str, Any],
    source: str,
    *,
    server: str | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> ApiDocument:
    """What the document says of the operations that are wanted; the others may be as they like.

    Args:
        source: its path or URL, as errors name it; relative servers start from a URL.
        server: asked instead of the servers that it names.
        only: operations to take, by id, name, tag or `GET /orders`; by default all.
        without: operations to leave out, in the same ways.
    Raises:
        UsageError: it is none, says something that cannot be, or has no such operation.
    """
    base = source if urlsplit(source).scheme in ("http", "https") else None
    version = str(document.get("openapi") or document.get("swagger") or "")
    if version.startswith("2."):
        document = _or_told(source, lambda: swagger.as_openapi(document, base))
    elif not version.startswith("3."):
        raise UsageError(
            f"{source}: is no OpenAPI document: it has neither `openapi: 3.…` nor `swagger: 2.0`"
        )
    reader = _Reader(document, source, base, server)
    found = tuple(reader.operations(frozenset(only), frozenset(without)))
    for label in (*only, *without):
        if label not in reader.labels:
            known = nearest(label, reader.labels)
            raise UsageError(f'{source}: has no operation or tag "{label}". {known}')
    return ApiDocument(found, _or_told(source, reader.schemes))


def _or_told(source: str, make: Any) -> Any:
    try:
        return make()
    except _BROKEN as error:
        raise UsageError(f"{source}: is not as OpenAPI has it: {_why(error)}") from error


class _Reader:
    def __init__(
        self, document: dict[str, Any], source: str, base: str | None, server: str | None
    ) -> None:
        self._document, self._source, self._base, self._server = document, source, base, server
        self._names: set[str] = set()
        self.labels: set[str] = set()

    def operations(self, only: frozenset[str], without: frozenset[str]) -> Iterator[Operation]:
        paths = self._document.get("paths", {})
        if not isinstance(paths, dict):
            raise UsageError(f"{self._source}: `paths` is no mapping")
        for path, entry in paths.items():
            try:
                item = self._followed(entry)
                methods = [m for m in _METHODS if isinstance(item.get(m), dict)]
            except _BROKEN as error:
                raise self._wrong(path, error) from error
            for method in methods:
                said, where = item[method], f"{method.upper()} {path}"
                try:
                    name = self._name(said.get("operationId") or f"{method} {path}")
                    labels = {name, where, str(said.get("operationId") or name)}
                    labels.update(str(tag) for tag in said.get("tags") or ())
                    self.labels |= labels
                    if labels & without or (only and not labels & only):
                        continue
                    yield self._operation(name, path, method, item, said)
                except _BROKEN as error:
                    raise self._wrong(where, error) from error

    def schemes(self) -> dict[str, Scheme]:
        found = (self._document.get("components") or {}).get("securitySchemes") or {}
        return {name: self._scheme(self._followed(said)) for name, said in found.items()}

    def _operation(
        self,
        name: str,
        path: str,
        method: str,
        item: Mapping[str, Any],
        said: Mapping[str, Any],
    ) -> Operation:
        properties: dict[str, Any] = {}
        required: list[str] = []
        parameters: dict[str, Parameter] = {}
        takes_key = False
        for place, theirs, about in self._parameters(item, said):
            if place == "header" and theirs.lower() in _SET_BY_US:
                continue
            if place == "header" and theirs.lower() == "idempotency-key":
                takes_key = True
                continue
            argument = self._argument(safe(theirs), place, {*properties, "body"})
            parameters[argument] = parameter(theirs, place, about)
            properties[argument] = _described(about)
            if about.get("required") or place == "path":
                required.append(argument)
        for place in re.findall(r"\{([^{}]*)\}", path):
            if not any(p.place == "path" and p.name == place for p in parameters.values()):
                raise ValueError(f"the path's parameter {place} is described nowhere")
        body = self._body(said.get("requestBody"), properties)
        if body is not None and body.required:
            required.append("body")
        whole = {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
        schema = plain(inlined(whole, self._document))
        self._check_references(schema)
        wants = said.get("security", self._document.get("security")) or ()
        return Operation(
            name=name,
            description=_description(said, f"{method.upper()} {path}"),
            method=method.upper(),
            url=template(self._url(said, item) + path),
            parameters=parameters,
            body=body,
            takes_key=takes_key,
            security=tuple(
                tuple((scheme, tuple(scopes)) for scheme, scopes in want.items()) for want in wants
            ),
            schema=schema,
        )

    def _parameters(
        self, item: Mapping[str, Any], said: Mapping[str, Any]
    ) -> list[tuple[Place, str, Mapping[str, Any]]]:
        """Place, name and description; the operation's own replace those of its path."""
        found: dict[tuple[str, str], Mapping[str, Any]] = {}
        for entry in (*(item.get("parameters") or ()), *(said.get("parameters") or ())):
            about = self._followed(entry)
            if about["in"] not in _PLACES:
                raise ValueError(f"a parameter is in {about['in']}, which is no place")
            found[about["in"], about["name"]] = about
        return [(cast(Place, place), name, about) for (place, name), about in found.items()]

    def _argument(self, name: str, place: str, taken: set[str]) -> str:
        return _unique(name if name not in taken else f"{name}_{place}", taken)

    def _body(self, said: Any, properties: dict[str, Any]) -> Body | None:
        """How the body is sent; its schema becomes the property `body`."""
        if said is None:
            return None
        about = self._followed(said)
        media = _media(about.get("content") or {})
        if media is None:
            return None
        entry = about["content"][media]
        schema: Any = entry.get("schema") or {}
        kind = media.partition(";")[0].strip().lower()
        if not _is_json(kind) and kind not in _FORMS:
            schema = {"type": "string", "description": f"The body of the request, as {kind}."}
        if about.get("description"):
            schema = {"description": about["description"], **_as_mapping(schema)}
        properties["body"] = schema
        files: frozenset[str] = frozenset()
        if kind == "multipart/form-data":
            inner = inlined(_as_mapping(schema), self._document).get("properties") or {}
            files = frozenset(
                name
                for name, rule in inner.items()
                if isinstance(rule, dict)
                and (rule.get("format") == "binary" or "contentMediaType" in rule)
            )
        return Body(media=media, required=bool(about.get("required")), files=files)

    def _url(self, said: Mapping[str, Any], item: Mapping[str, Any]) -> str:
        if self._server is not None:
            return self._server.rstrip("/")
        servers = said.get("servers") or item.get("servers") or self._document.get("servers")
        server = (servers or [{"url": "/"}])[0]
        url = str(server["url"])
        for name, variable in (server.get("variables") or {}).items():
            url = url.replace(f"{{{name}}}", str(variable["default"]))
        url = urljoin(self._base or "", url)
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise UsageError(
                f'{self._source}: names no server that can be asked ("{url}"). Say which by '
                "`server: https://…`"
            )
        return url.rstrip("/")

    def _scheme(self, said: Mapping[str, Any]) -> Scheme:
        match (str(said["type"]).lower(), str(said.get("scheme", "")).lower()):
            case ("apikey", _):
                return Scheme("key", said["name"], said["in"])
            case ("http", "basic"):
                return Scheme("basic")
            case ("http", "digest"):
                return Scheme("digest")
            case ("http", "bearer"):
                return Scheme("bearer")
            case ("oauth2", _):
                flow = (said.get("flows") or {}).get("clientCredentials")
                url = urljoin(self._base or "", flow["tokenUrl"]) if flow else None
                return Scheme("oauth2", url=url)
            case ("openidconnect", _):
                return Scheme("openid", url=urljoin(self._base or "", said["openIdConnectUrl"]))
            case ("mutualtls", _):
                return Scheme("certificate")
        return Scheme("other")

    def _followed(self, node: Any) -> Mapping[str, Any]:
        """What stands there, or where its reference leads."""
        for _ in range(20):
            if not isinstance(node, dict):
                raise TypeError(f"{str(node)[:60]!r} stands where a mapping was due")
            if not isinstance(node.get("$ref"), str):
                return node
            node = pointed(self._document, self._local(node["$ref"]))
        raise ValueError("references lead in a circle")

    def _local(self, reference: str) -> str:
        if not reference.startswith("#/"):
            raise ValueError(
                f"{reference} leads to no file in the document's folder, and nowhere else it may"
            )
        return reference

    def _check_references(self, node: Any) -> None:
        if isinstance(node, list):
            for entry in node:
                self._check_references(entry)
        elif isinstance(node, dict):
            reference = node.get("$ref")
            if isinstance(reference, str) and not reference.startswith("#/$defs/"):
                raise LookupError(f"{self._local(reference)} leads nowhere")
            for entry in node.values():
                self._check_references(entry)

    def _name(self, wanted: str) -> str:
        name = _unique(safe(wanted), self._names)
        self._names.add(name)
        return name

    def _wrong(self, where: str, error: Exception) -> UsageError:
        return UsageError(f"{self._source}: {where} is not as OpenAPI has it: {_why(error)}")


_FORMS = frozenset(("application/x-www-form-urlencoded", "multipart/form-data"))


def _is_json(kind: str) -> bool:
    return kind == "*/*" or kind.endswith(("/json", "+json"))


def _media(content: Mapping[str, Any]) -> str | None:
    """The media type that is easiest to write."""

    def rank(media: str) -> int:
        kind = media.partition(";")[0].strip().lower()
        order = (_is_json(kind), kind in _FORMS, kind.startswith("text/"), True)
        return order.index(True)

    return min(content, key=rank, default=None)


def _described(about: Mapping[str, Any]) -> Any:
    content: Mapping[str, Any] = about.get("content") or {}
    schema = about.get("schema") or {}
    for entry in content.values():
        schema = entry.get("schema") or {}
    if about.get("description") and isinstance(schema, dict):
        return {**schema, "description": about["description"]}
    return schema


def _description(said: Mapping[str, Any], fallback: str) -> str:
    parts = [str(said.get(key) or "").strip() for key in ("summary", "description")]
    if parts[0] and parts[1].startswith(parts[0].rstrip(".")):
        parts = parts[1:]
    text_ = "\n\n".join(part for part in parts if part) or fallback
    if len(text_) > DESCRIPTION_CHARS:
        text_ = f"{text_[:DESCRIPTION_CHARS].rstrip()}…"
    return f"Deprecated. {text_}" if said.get("deprecated") else text_


def _unique(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        suffix = f"_{number}"
        found, number = f"{name[: 64 - len(suffix)]}{suffix}", number + 1
    return found


def _as_mapping(schema: Any) -> dict[str, Any]:
    return schema if isinstance(schema, dict) else {}


def _why(error: Exception) -> str:
    return f"{str(error)[:200]} is missing" if isinstance(error, KeyError) else str(error)[:300]
