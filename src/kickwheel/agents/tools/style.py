"""Values as parts of a request: the styles of OpenAPI's parameters, web forms, multipart bodies.

Source: OpenAPI Specification 3.1.1, section 4.8.12.4 «Style Values» and their examples.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from kickwheel.agents.tools.web import header, segment

Place = Literal["path", "query", "header", "cookie"]

_DEFAULTS: Mapping[str, str] = {
    "path": "simple",
    "query": "form",
    "header": "simple",
    "cookie": "form",
}
_BETWEEN = {"spaceDelimited": "%20", "pipeDelimited": "%7C", "form": ","}
_RESERVED = ":/?#[]@!$&'()*+,;="


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """How a value is written into a request."""

    name: str
    place: Place
    style: str
    explode: bool
    reserved: bool = False
    """Whether signs that mean something in URLs stay as they are."""
    json: bool = False
    """Whether the value is written as JSON, whatever it is."""


def parameter(name: str, place: Place, said: Mapping[str, Any]) -> Parameter:
    """A parameter as a document describes it, with OpenAPI's defaults."""
    style = said.get("style") or _DEFAULTS[place]
    return Parameter(
        name=name,
        place=place,
        style=style,
        explode=bool(said.get("explode", style == "form")),
        reserved=bool(said.get("allowReserved")),
        json="content" in said,
    )


def plain(value: Any) -> str:
    """A value as text: `true`, `12`, `Oslo`; lists and objects as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def in_path(p: Parameter, value: Any) -> str:
    """The value as part of a path, percent-encoded.

    Raises:
        InvalidArguments: it would make another path.
    """
    lead, between = {"label": (".", "."), "matrix": (";", ";")}.get(p.style, ("", ","))
    if p.json or not isinstance(value, dict | list):
        text = "null" if value is None else plain(value)
        if p.style == "matrix":
            return f";{p.name}={quote(text, safe='')}" if text else f";{p.name}"
        return lead + (quote(text, safe="") if lead else segment(text))
    if p.style == "matrix" and not p.explode:
        return f";{p.name}={','.join(_flat(value))}"
    if not p.explode:
        return lead + ",".join(_flat(value))
    if isinstance(value, dict):
        return lead + between.join(f"{k}={v}" for k, v in _pairs(value))
    items = [quote(plain(v), safe="") for v in value]
    return lead + between.join(f"{p.name}={v}" if p.style == "matrix" else v for v in items)


def in_query(p: Parameter, value: Any) -> str:
    """The value as part of a query, percent-encoded; empty for an empty list or object."""
    safe = _RESERVED.replace("&", "").replace("#", "") if p.reserved else ""
    name = quote(p.name, safe="")
    if p.json or not isinstance(value, dict | list):
        return f"{name}={'' if value is None else quote(plain(value), safe=safe)}"
    if p.style == "deepObject":
        return "&".join(f"{quote(k, safe='')}={quote(v, safe=safe)}" for k, v in _deep(p, value))
    if p.explode and isinstance(value, dict):
        return "&".join(f"{k}={v}" for k, v in _pairs(value, safe))
    if p.explode:
        return "&".join(f"{name}={quote(plain(v), safe=safe)}" for v in value)
    joined = _BETWEEN.get(p.style, ",").join(_flat(value, safe))
    return f"{name}={joined}" if joined else ""


def in_header(p: Parameter, value: Any) -> str:
    """The value as a header's.

    Raises:
        InvalidArguments: no header can hold it.
    """
    if p.json or not isinstance(value, dict | list):
        return header(plain(value))
    if isinstance(value, list):
        return header(",".join(plain(v) for v in value))
    join = "{}={}" if p.explode else "{},{}"
    return header(",".join(join.format(k, plain(v)) for k, v in value.items()))


def in_cookies(p: Parameter, value: Any) -> list[tuple[str, str]]:
    """The value as cookies, not encoded."""
    if p.json or not isinstance(value, dict | list):
        return [(p.name, plain(value))]
    if not p.explode:
        flat = value if isinstance(value, list) else [x for pair in value.items() for x in pair]
        return [(p.name, ",".join(plain(v) for v in flat))]
    if isinstance(value, dict):
        return [(k, plain(v)) for k, v in value.items()]
    return [(p.name, plain(v)) for v in value]


def fields(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An object as the fields of a form: lists repeat their field, objects are JSON."""
    return [
        (name, plain(entry))
        for name, value in body.items()
        if value is not None
        for entry in (value if isinstance(value, list) else [value])
    ]


def multipart(body: Mapping[str, Any], files: frozenset[str] = frozenset()) -> tuple[str, bytes]:
    """An object as a multipart form: its media type, and the bytes.

    Args:
        files: fields that are sent as files with text in them.
    """
    boundary = os.urandom(16).hex()
    parts: list[str] = []
    for name, value in fields(body):
        about = f'form-data; name="{_quoted(name)}"'
        if name in files:
            about += f'; filename="{_quoted(name)}.txt"\r\nContent-Type: application/octet-stream'
        parts.append(f"--{boundary}\r\nContent-Disposition: {about}\r\n\r\n{value}\r\n")
    whole = "".join(parts) + f"--{boundary}--\r\n"
    return f"multipart/form-data; boundary={boundary}", whole.encode()


def _flat(value: dict[str, Any] | list[Any], safe: str = "") -> list[str]:
    if isinstance(value, list):
        return [quote(plain(v), safe=safe) for v in value]
    return [x for pair in _pairs(value, safe) for x in pair]


def _pairs(value: Mapping[str, Any], safe: str = "") -> list[tuple[str, str]]:
    return [(quote(k, safe=""), quote(plain(v), safe=safe)) for k, v in value.items()]


def _deep(p: Parameter, value: Any) -> list[tuple[str, str]]:
    def write(name: str, node: Any) -> list[tuple[str, str]]:
        if isinstance(node, dict):
            return [pair for key, inner in node.items() for pair in write(f"{name}[{key}]", inner)]
        if isinstance(node, list):
            return [(name, plain(inner)) for inner in node]
        return [(name, plain(node))]

    return write(p.name, value)


def _quoted(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
