"""The app file as JSON Schema, for editors."""

from pathlib import Path
from typing import Any

from kickwheel.app.plan import SHELVES
from kickwheel.appfile import AppFile
from kickwheel.core.plugins import kinds, load


def schema() -> dict[str, Any]:
    """JSON Schema of the file, with every kind that is installed."""
    whole = AppFile.model_json_schema()
    for shelf in SHELVES:
        parts = [
            (kind, load(shelf, kind, Path()).model_json_schema()) for kind in sorted(kinds(shelf))
        ]
        for kind, part in parts:
            part["properties"]["kind"] = {"const": kind}
            part.setdefault("required", []).append("kind")
        code = {
            "type": "object",
            "properties": {"kind": {"type": "string", "pattern": ":"}},
            "required": ["kind"],
            "description": "A class of your own, `package.module:Class`.",
        }
        whole["properties"][shelf]["additionalProperties"] = {
            "anyOf": [*(part for _, part in parts), code]
        }
    whole["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    whole["title"] = "kickwheel app file"
    return whole
