"""JSON Schema, as far as tools need it: the arguments of a call checked against it.

A model's mistake must be told in words that help it to write the call again, so each mistake names
the argument and what it should have been. Types that JSON Schema does not know (`float` and `dict`
stand in much traffic) are taken for what they mean, or let anything pass.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kickwheel.core.plugins import nearest

Schema = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "dict": (dict,),
    "float": (int, float),
    "integer": (int,),
    "null": (type(None),),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
    "tuple": (list,),
}

_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", operator.ge),
    "maximum": ("at most", operator.le),
    "exclusiveMinimum": ("more than", operator.gt),
    "exclusiveMaximum": ("less than", operator.lt),
}


def mistakes(arguments: Mapping[str, Any], schema: Schema) -> list[str]:
    """What is wrong with the arguments of a call, a sentence each; empty where nothing is.

    Arguments that the schema does not name are mistakes, unless it allows more by
    `additionalProperties`.
    """
    try:
        return _check_call(arguments, schema)
    except RecursionError:
        return ["the call's arguments are nested too deep"]
    except (TypeError, ValueError, AttributeError, LookupError):
        return []  # The schema breaks JSON Schema's own rules, so it cannot judge.


def _check_call(arguments: Mapping[str, Any], schema: Schema) -> list[str]:
    known = schema.get("properties") or {}
    found: list[str] = []
    if schema.get("additionalProperties", False) is False and "$ref" not in schema:
        found += [
            f'there is no argument "{name}". {nearest(name, dict(known)).removesuffix(".")}'
            for name in arguments
            if name not in known
        ]
    return found + _check(arguments, {**schema, "additionalProperties": True}, "", schema)


def _check(value: Any, schema: Any, where: str, root: Schema) -> list[str]:
    if not isinstance(schema, Mapping):
        return [] if schema is not False else [f"{_what(where)} must not be given"]
    if isinstance(schema.get("$ref"), str):
        return _check(value, _definition(root, schema["$ref"]), where, root)
    if "const" in schema and not _same(value, schema["const"]):
        return [f"{_what(where)} must be {_shown(schema['const'])}, not {_shown(value)}"]
    options = schema.get("enum")
    if isinstance(options, list) and not any(_same(value, option) for option in options):
        allowed = ", ".join(_shown(option) for option in options)
        return [f"{_what(where)} must be one of {allowed}; {_shown(value)} is none of them"]
    wrong = _wrong_type(value, schema.get("type"))
    if wrong:
        return [f"{_what(where)} must be {wrong}, not {_shown(value)}"]
    return [
        *_check_branches(value, schema, where, root),
        *_check_inside(value, schema, where, root),
    ]


def _check_branches(value: Any, schema: Schema, where: str, root: Schema) -> list[str]:
    found = [m for part in schema.get("allOf", ()) for m in _check(value, part, where, root)]
    for key in ("anyOf", "oneOf"):
        tried = [_check(value, branch, where, root) for branch in schema.get(key, ())]
        if tried and all(tried):
            found.append(", or ".join(dict.fromkeys(branch[0] for branch in tried)))
    return found


def _check_inside(value: Any, schema: Schema, where: str, root: Schema) -> list[str]:
    match value:
        case dict():
            return _check_object(value, schema, where, root)
        case list():
            return _check_array(value, schema, where, root)
        case str():
            return _check_text(value, schema, where)
        case bool():
            return []
        case int() | float():
            return _check_number(value, schema, where)
    return []


def _check_object(value: dict[str, Any], schema: Schema, where: str, root: Schema) -> list[str]:
    known = schema.get("properties") or {}
    found = [
        f"{_what(_below(where, name))} is missing"
        for name in schema.get("required") or ()
        if name not in value
    ]
    more = schema.get("additionalProperties", True)
    for name, entry in value.items():
        if name in known:
            found += _check(entry, known[name], _below(where, name), root)
        elif more is False:
            found.append(f"there is no {_what(_below(where, name))}. {nearest(name, dict(known))}")
        else:
            found += _check(entry, more, _below(where, name), root)
    return found


def _check_array(value: list[Any], schema: Schema, where: str, root: Schema) -> list[str]:
    low, high = schema.get("minItems", 0), schema.get("maxItems")
    if len(value) < low or (high is not None and len(value) > high):
        bounds = f"at least {low}" if len(value) < low else f"at most {high}"
        return [f"{_what(where)} must have {bounds} entries, not {len(value)}"]
    first = schema.get("prefixItems") or ()
    found: list[str] = []
    for position, entry in enumerate(value):
        inner = first[position] if position < len(first) else schema.get("items", True)
        found += _check(entry, inner, f"{where}[{position}]", root)
    return found


def _check_text(value: str, schema: Schema, where: str) -> list[str]:
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    if len(value) < low or (high is not None and len(value) > high):
        bounds = f"at least {low}" if len(value) < low else f"at most {high}"
        return [f"{_what(where)} must have {bounds} characters, not {len(value)}"]
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and not _matches(pattern, value):
        return [f"{_what(where)} must match {pattern}; {_shown(value)} does not"]
    return []


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return (
            True  # JSON Schema's dialect has forms that Python's lacks; such a rule cannot judge.
        )


def _check_number(value: float, schema: Schema, where: str) -> list[str]:
    return [
        f"{_what(where)} must be {words} {schema[key]}, not {value}"
        for key, (words, holds) in _BOUNDS.items()
        if isinstance(schema.get(key), int | float) and not holds(value, schema[key])
    ]


def _wrong_type(value: Any, wanted: Any) -> str | None:
    """What the value should have been, in words; `None` where it is."""
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, list) or any(name not in _TYPES for name in names):
        return None
    for name in names:
        if isinstance(value, bool):
            if name == "boolean":
                return None
        elif isinstance(value, _TYPES[name]) or (
            name == "integer" and isinstance(value, float) and value.is_integer()
        ):
            return None
    return " or ".join(names)


def _definition(root: Schema, reference: str) -> Any:
    node: Any = root
    for key in reference.removeprefix("#").strip("/").split("/"):
        node = node.get(key, True) if isinstance(node, Mapping) and key else node
    return node


def _same(value: Any, option: Any) -> bool:
    # JSON tells true from 1; Python does not.
    return isinstance(value, bool) == isinstance(option, bool) and bool(value == option)


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _what(where: str) -> str:
    return f'argument "{where}"' if where else "the call's arguments"


def _shown(value: Any) -> str:
    shown = msgspec.json.encode(value).decode()
    return shown if len(shown) <= 80 else f"{shown[:79]}…"
