"""Schemas as OpenAPI writes them, as JSON Schema 2020-12 that a model is shown."""

from typing import Any

# What tells a reader, a code generator or a mock server something, but a model nothing.
_LEFT_OUT = frozenset(("xml", "externalDocs", "discriminator", "example", "examples", "deprecated"))


def plain(node: Any, names: bool = False) -> Any:
    """The schema without what is for others, and without OpenAPI 3.0's own words.

    Args:
        names: whether the keys are names rather than keywords.
    """
    if isinstance(node, list):
        return [plain(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if names:
        return {key: plain(value) for key, value in node.items()}
    found = {
        key: value
        if key in ("default", "enum", "const")
        else plain(value, key in ("properties", "$defs", "patternProperties"))
        for key, value in node.items()
        if key not in _LEFT_OUT and not key.startswith("x-")
    }
    _without_read_only(found)
    _as_2020(found)
    return found


def _without_read_only(schema: dict[str, Any]) -> None:
    """Takes away what only the service sets."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return
    ours = {k: v for k, v in properties.items() if not (isinstance(v, dict) and v.get("readOnly"))}
    if len(ours) < len(properties):
        schema["properties"] = ours
        schema["required"] = [name for name in schema.get("required") or () if name in ours]


def _as_2020(schema: dict[str, Any]) -> None:
    """OpenAPI 3.0's own words in those of JSON Schema."""
    if schema.pop("nullable", False) is True:
        if isinstance(schema.get("type"), str):
            schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
            schema["enum"] = [*schema["enum"], None]
    for bound, own in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(own), bool) and schema.pop(own) and bound in schema:
            schema[own] = schema.pop(bound)
