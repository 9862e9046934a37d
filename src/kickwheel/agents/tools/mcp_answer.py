"""What an MCP server announces and answers, as a tool's schema and a tool's text."""

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kickwheel.agents.tools.tool import Pictured
from kickwheel.core.errors import ToolError, UsageError
from kickwheel.core.schema import inlined
from kickwheel.core.store import Artifacts
from kickwheel.models import pictures
from kickwheel.records import Image

if TYPE_CHECKING:
    from mcp_types import CallToolResult

MOST_PICTURES = 4

_ANYTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}


def arguments_schema(announced: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a tool's arguments as a model may be shown it.

    One that breaks JSON Schema's own rules becomes one that takes anything: model servers refuse
    the whole request for it, while the tool itself may well work.
    """
    from jsonschema import Draft202012Validator, SchemaError

    if announced.get("type", "object") != "object":
        return _ANYTHING
    try:
        Draft202012Validator.check_schema(announced)
        schema = inlined(announced)
    except (SchemaError, UsageError, RecursionError, TypeError):
        return _ANYTHING
    # JSON Schema allows what it does not forbid; our tools are stricter unless they say so.
    return {
        "type": "object",
        "properties": {},
        "additionalProperties": True,
        **_without_patterns(schema),
    }


def _without_patterns(schema: Any) -> Any:
    """The schema without regular expressions: a stranger's could keep ours busy for ever."""
    if isinstance(schema, list):
        return [_without_patterns(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs") and isinstance(value, dict):
            kept[key] = {name: _without_patterns(entry) for name, entry in value.items()}
        elif key in ("enum", "const", "default", "examples"):
            kept[key] = value
        elif key not in ("pattern", "patternProperties"):
            kept[key] = _without_patterns(value)
    return kept


def text_of(answer: "CallToolResult") -> str:
    """All that a result says, as text."""
    parts = [block(piece) for piece in answer.content]
    structured = answer.structured_content
    # Most servers send what is structured as text too: once is enough.
    if structured is not None and not _said(structured, parts):
        parts.append(json.dumps(structured, ensure_ascii=False))
    return "\n".join(part for part in parts if part)


def pictured(answer: "CallToolResult", artifacts: Artifacts) -> str:
    """All that a result says, as text, with its pictures, kept in the store.

    What is too large, or no such picture as it says it is, is left out: providers refuse a whole
    request for it.
    """
    kept: list[Image] = []
    for piece in answer.content:
        if piece.type == "image" and len(kept) < MOST_PICTURES:
            with contextlib.suppress(ValueError):
                kept.append(pictures.keep(artifacts, piece.mime_type, piece.data))
    text = text_of(answer)
    if not kept:
        return text
    where = ", ".join(image.kept for image in kept)
    return Pictured(f"{text}\n[kept as {where}, and shown to models that take pictures]", kept)


def failure(text: str) -> ToolError:
    """The error of a call that the server itself calls failed: the same call would fail again."""
    return ToolError(text or "the server says that the call failed, and not why", lasting=True)


def block(piece: Any) -> str:
    """A piece of content as text; what is no text as a line that names it."""
    match piece.type:
        case "text":
            return str(piece.text)
        case "image" | "audio":
            return f"[{piece.type}, {piece.mime_type}, {_size(piece.data)}: not shown]"
        case "resource_link":
            about = f": {piece.description}" if piece.description else ""
            kind = f", {piece.mime_type}" if piece.mime_type else ""
            return f"[resource {piece.name} at {piece.uri}{kind}{about}]"
        case "resource":
            return contents(piece.resource)
    return f"[{piece.type}: not shown]"


def contents(resource: Any) -> str:
    """What a resource holds, with its URI."""
    if getattr(resource, "text", None) is not None:
        return f"[resource {resource.uri}]\n{resource.text}"
    kind = resource.mime_type or "unknown type"
    return f"[resource {resource.uri}, {kind}, {_size(resource.blob)}: not shown]"


def _size(base64: str) -> str:
    return f"{len(base64) * 3 // 4 - base64[-2:].count('='):,} bytes"


def _said(structured: Mapping[str, Any], parts: list[str]) -> bool:
    """Whether the texts say all that is structured."""
    values = [_value(part) for part in parts]
    if structured in values:
        return True
    if list(structured) != ["result"]:
        return False
    # What is no object is sent as `{"result": …}`, and a list as a text for each of its entries.
    alone = structured["result"]
    entries = alone if isinstance(alone, list) else [alone]
    return alone in values or (
        len(entries) == len(parts)
        and all(e in (p, v) for e, p, v in zip(entries, parts, values, strict=True))
    )


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
