"""JSON Schemas as those providers take them whose grammars know closed objects only.

Anthropic, Bedrock and OpenAI's strict mode refuse a request whose schema says more than their
grammars can hold: open objects, bounds, recursion. What only narrows (`maximum`, `pattern`) stands
in a description instead: whoever asked checks the answer by the whole schema. What the grammar
would have to forbid although the schema allows it, as an object of any names, has no closed form:
then the model is told the schema in words.

Source: platform.claude.com, Structured outputs, JSON Schema limitations;
docs.aws.amazon.com/bedrock, Get validated JSON results from models.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from kickwheel.models.chat import ChatRequest
from kickwheel.models.turns import label_schema

CHOICES = 16
"""Places in one schema that Anthropic's grammar lets be one of several at most."""
OPTIONAL = 24
"""Properties in one schema that it lets be left out at most."""
_FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]
)
_LOOSE = frozenset(("$ref", "allOf", "patternProperties"))
"""What may let names in that a closed object has not."""
_BOUNDS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems"),
)


def form(
    request: ChatRequest, label: str, *, able: bool = True
) -> tuple[dict[str, Any] | None, str | None]:
    """The schema that the grammar is given; or, where it cannot hold it, what is said in words.

    Neither where the answer is free.

    Args:
        label: the key under which a label stands.
        able: whether the model has a grammar at all.
    """
    schema = label_schema(label, request.labels) if request.labels else request.json_schema
    if schema is None or not request.constrained:
        return None, None
    held = closed(schema) if able else None
    if held is not None and _choices(held) <= CHOICES and _optional(held) <= OPTIONAL:
        return held, None
    if request.labels:
        return None, f"Answer with one of these, and nothing else: {', '.join(request.labels)}"
    written = msgspec.json.encode(schema).decode()
    return None, f"Answer with JSON of this schema, and nothing else:\n{written}"


def closed(schema: Any) -> dict[str, Any] | None:
    """A schema of closed objects, whose every answer the given one takes, its bounds aside.

    `None` where it has no such form.
    """
    if not isinstance(schema, Mapping) or schema.keys() & _LOOSE:
        return None
    kept = {key: schema[key] for key in ("title", "description") if key in schema}
    for key in ("enum", "const"):
        if key in schema:
            values = schema[key] if key == "enum" else [schema[key]]
            plain = isinstance(values, list) and not any(isinstance(v, dict | list) for v in values)
            return {key: schema[key], **kept} if plain and values else None
    branches = _branches(schema)
    if branches is not None:
        found = [closed(branch) for branch in branches]
        return {"anyOf": found, **kept} if found and None not in found else None
    match _kind(schema):
        case "object":
            more = _object(schema)
        case "array":
            more = _array(schema)
        case "string":
            fits = schema.get("format") in _FORMATS
            more = {"format": schema["format"]} if fits else {}
        case "integer" | "number" | "boolean" | "null":
            more = {}
        case _:
            more = None
    bounds = ", ".join(f"{key}: {schema[key]}" for key in _BOUNDS if key in schema)
    if bounds:
        kept["description"] = f"{kept.get('description', '')} ({bounds})".strip()
    return None if more is None else {"type": _kind(schema), **kept, **more}


def all_required(schema: Mapping[str, Any]) -> bool:
    """Whether each object in a closed schema wants all its properties, as OpenAI's grammar does."""
    return _optional(schema) == 0


def _choices(schema: Any) -> int:
    return ("anyOf" in schema) + sum(map(_choices, _inside(schema)))


def _optional(schema: Any) -> int:
    left = set(schema.get("properties", ())) - set(schema.get("required", ()))
    return len(left) + sum(map(_optional, _inside(schema)))


def _inside(schema: Any) -> list[Any]:
    """The schemas that stand in a closed one."""
    items = [schema["items"]] if "items" in schema else []
    return [*schema.get("properties", {}).values(), *items, *schema.get("anyOf", ())]


def _kind(schema: Mapping[str, Any]) -> Any:
    """Its type, also where only `properties` or `items` tell it."""
    implied = "object" if "properties" in schema else "array" if "items" in schema else None
    return schema.get("type", implied)


def _branches(schema: Mapping[str, Any]) -> list[Any] | None:
    """What it may be one of; `None` where it is one thing."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return [{**schema, "type": kind} for kind in kinds]
    beside = [schema[key] for key in ("anyOf", "oneOf") if key in schema]
    if not beside:
        return None
    # Beside properties of its own, or other branches, a branch may be half of what is meant.
    whole = len(beside) == 1 and isinstance(beside[0], list) and "properties" not in schema
    return beside[0] if whole else []


def _object(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        # Nothing but `{}` would be left of an object of any names.
        if schema.get("additionalProperties") is not False:
            return None
        properties = {}
    if isinstance(schema.get("additionalProperties"), Mapping):
        return None
    found = {name: closed(inner) for name, inner in properties.items()}
    required = list(schema.get("required") or ())
    if None in found.values() or not set(required) <= set(found):
        return None
    return {"properties": found, "required": required, "additionalProperties": False}


def _array(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    items = closed(schema.get("items"))
    if items is None:
        return None
    least = {"minItems": 1} if schema.get("minItems", 0) else {}
    return {"items": items, **least}
