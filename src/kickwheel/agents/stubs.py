"""Tools as Python functions: how a program that a model writes sees them.

    async def fare(*, start: str, end: str, seats: int = 1) -> Any:
        '''The fare of a trip in euros.'''

Names that are no Python names get an underscore; what is called is the tool all the same.
"""

import json
import keyword
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kickwheel.records import ToolSpec

_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "float": "float",
    "boolean": "bool",
    "null": "None",
    "object": "dict",
    "dict": "dict",
    "array": "list",
}
_TAKEN = ("answer", "asyncio", "json", "print")


@dataclass(frozen=True, slots=True)
class Stub:
    """A tool as a function."""

    name: str
    """As programs call it."""
    tool: str
    """The tool's own name."""
    arguments: Mapping[str, str]
    """The tool's own name of each parameter."""
    text: str
    """What the model reads."""

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by the tool's own names; those it does not know stay as they are."""
        return {self.arguments.get(name, name): value for name, value in given.items()}


def stubs(tools: Iterable[ToolSpec]) -> dict[str, Stub]:
    """The tools as functions, by the names that programs call them by."""
    found: dict[str, Stub] = {}
    for tool in tools:
        name = _free(tool.name, {*found, *_TAKEN})
        found[name] = _stub(name, tool)
    return found


def _stub(name: str, tool: ToolSpec) -> Stub:
    properties = tool.parameters.get("properties") or {}
    required = frozenset(tool.parameters.get("required") or ())
    names: dict[str, str] = {}
    parts: dict[bool, list[str]] = {True: [], False: []}
    about: list[str] = []
    for own, schema in properties.items():
        parameter = _free(own, names)
        names[parameter] = own
        schema = schema if isinstance(schema, Mapping) else {}
        must = own in required
        default = "" if must else f" = {_literal(schema.get('default'))}"
        parts[must].append(f"{parameter}: {_type(schema, may_be_none=not must)}{default}")
        if schema.get("description"):
            about.append(f"{parameter}: {_line(schema['description'])}")
    arguments = ", ".join([*parts[True], *parts[False]])
    head = f"async def {name}({f'*, {arguments}' if arguments else ''}) -> Any:"
    said = [_line(tool.description)] if tool.description else []
    lines = [*said, *about] or ["..."]
    inside = "\n    ".join(lines)
    inside += " " if inside.endswith('"') else ""
    body = inside if lines == ["..."] else f'"""{inside}"""'
    return Stub(name, tool.name, names, f"{head}\n    {body}")


def _free(name: str, taken: Iterable[str]) -> str:
    """The name as Python can have it, and nobody else has."""
    plain = re.sub(r"\W", "_", name)
    if not plain or plain[0].isdigit():
        plain = f"_{plain}"
    used = set(taken)
    while keyword.iskeyword(plain) or plain in used:
        plain += "_"
    return plain


def _type(schema: Mapping[str, Any], *, may_be_none: bool = False, depth: int = 0) -> str:
    options = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(options, list) and options:
        text = f"Literal[{', '.join(_literal(option) for option in options)}]"
    elif depth > 4:
        text = "Any"
    elif branches := schema.get("anyOf") or schema.get("oneOf"):
        text = _union([_type(branch, depth=depth + 1) for branch in branches])
    elif isinstance(kinds := schema.get("type"), list):
        text = _union([_type({**schema, "type": kind}, depth=depth + 1) for kind in kinds])
    else:
        text = _TYPES.get(str(kinds), "Any")
        inner = schema.get("items")
        if text == "list" and isinstance(inner, Mapping):
            text = f"list[{_type(inner, depth=depth + 1)}]"
        elif text == "dict" and isinstance(properties := schema.get("properties"), Mapping):
            keys = ", ".join(
                f"{key!r}: {_type(s, depth=depth + 1)}" for key, s in properties.items()
            )
            text = f"dict[{{{keys}}}]" if keys else "dict"
    if may_be_none and "default" not in schema and "None" not in text and text != "Any":
        text = f"{text} | None"
    return text


def _union(types: Sequence[str]) -> str:
    return " | ".join(dict.fromkeys(types))


def _literal(value: Any) -> str:
    return repr(value) if not isinstance(value, dict | list) else json.dumps(value)


def _line(text: Any) -> str:
    return " ".join(str(text).split()).replace('"""', "'''").replace("\\", "\\\\")
