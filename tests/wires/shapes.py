"""Values against the types of an SDK, closed: what the type does not name is a fault.

The SDKs themselves do not look: their requests are TypedDicts that nobody checks, and their answers
are constructed without validation.
"""

from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import SchemaValidator, ValidationError

MOST = 4
"""Faults of one value that are told."""


def faults(kind: Any, value: Any) -> list[str]:
    """What is wrong with a value of JSON, by the type that it should have."""
    try:
        _validator(kind).validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        # Where it may be one of many things, each tells why not: those of another `type` go.
        others = {fault["loc"][:-1] for fault in found if fault["type"] == "literal_error"}
        meant = [
            fault
            for fault in found
            if not any(fault["loc"][:end] in others for end in range(1, len(fault["loc"])))
        ]
        return [f"{_place(fault['loc'])}: {fault['msg']}" for fault in (meant or found)[:MOST]]
    return []


def _place(where: tuple[int | str, ...]) -> str:
    # Between the names of fields stand those of types, and of branches of a union.
    parts = [str(part) for part in where if isinstance(part, int) or part[:1].islower()]
    return ".".join(part for part in parts if "[" not in part and part not in ("str", "dict"))


@cache
def _validator(kind: Any) -> SchemaValidator:
    adapter = TypeAdapter(kind)
    adapter.rebuild(force=True)  # The SDKs' types wait to be built until they are used.
    return SchemaValidator(_closed(adapter.core_schema))


def _closed(schema: Any) -> Any:
    """The schema with closed objects, strict scalars, and lists that are looked into."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(_closed, schema))
    if not isinstance(schema, dict):
        return schema
    kept = ("metadata", "serialization", "default", "cls")
    made = {key: value if key in kept else _closed(value) for key, value in schema.items()}
    match made.get("type"):
        case "model":  # As its fields: with the class, pydantic takes the validator that it has.
            return made["schema"] | ({"ref": made["ref"]} if "ref" in made else {})
        case "union":  # Each branch by a name of its own, or faults of two would look like one's.
            branches = [b[0] if isinstance(b, tuple) else b for b in made["choices"]]
            made["choices"] = [(branch, f"[{n}]") for n, branch in enumerate(branches)]
        case "typed-dict" | "model-fields":
            made["extra_behavior"] = "forbid"
        case "generator":  # An Iterable of a request: pydantic would look when it is read.
            made["type"] = "list"
        case "str" | "int" | "bool":
            made["strict"] = True
    return made
