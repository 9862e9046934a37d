"""The schema of a tool's arguments as every provider takes it.

OpenAI and Anthropic refuse a request (400) where a tool's schema has choices at its top, as some
MCP servers' have. The model is told all that may be given then; which of it goes together is
checked by whoever makes the call, who has the whole schema.
"""

from collections.abc import Mapping
from typing import Any

_BRANCHES = ("allOf", "anyOf", "oneOf")
_REFUSED = frozenset((*_BRANCHES, "not", "enum", "const", "if", "then", "else"))


def without_choices(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of an object, without what providers refuse at its top."""
    if not schema.keys() & _REFUSED:
        return schema
    kept = {key: value for key, value in schema.items() if key not in _REFUSED}
    properties: dict[str, Any] = {}
    required = list(kept.get("required") or ())
    for key in _BRANCHES:
        for branch in schema.get(key) or ():
            if isinstance(branch, Mapping):
                properties |= branch.get("properties") or {}
                required += (branch.get("required") or ()) if key == "allOf" else ()
    properties |= kept.get("properties") or {}
    return {**kept, "properties": properties, "required": list(dict.fromkeys(required))}
