"""Whether a call's arguments fit, said fast: schemas that every call looks at are compiled once.

What `schema.mistakes` finds nothing wrong with fits here; everything else, and every schema with a
keyword that is not compiled, goes there, where the words are.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kickwheel.agents.tools.schema import Schema, mistakes

KNOWN = 1000
"""Schemas that are kept compiled at most."""

Check = Callable[[Any], bool]

_NOT_COMPILED = frozenset({"$ref", "allOf", "const", "pattern", "prefixItems"})
_compiled: dict[int, tuple[Schema, Check | None]] = {}


def wrong(arguments: Mapping[str, Any], schema: Schema) -> list[str]:
    """What is wrong with the arguments, as `schema.mistakes` says it; empty where nothing is."""
    found = _compiled.get(id(schema))
    if found is None:
        if len(_compiled) >= KNOWN:
            _compiled.clear()
        # The schema is kept with its check, so that no other can get its id.
        found = _compiled[id(schema)] = (schema, compiled(schema))
    check = found[1]
    return [] if check is not None and check(arguments) else mistakes(arguments, schema)


def compiled(schema: Schema) -> Check | None:
    """Whether arguments certainly fit, as a function; `None` where that is not compiled."""
    try:
        top = {**schema, "additionalProperties": True}
        if schema.get("additionalProperties", False) is False:
            top["additionalProperties"] = False
        return _check(top)
    except (_Unusual, RecursionError):
        return None


class _Unusual(Exception):
    """The schema says something that is not compiled."""


def _check(schema: Any) -> Check:
    if schema is True or schema == {}:
        return _anything
    if not isinstance(schema, Mapping) or schema.keys() & _NOT_COMPILED:
        raise _Unusual
    checks = [check for make in _MAKERS if (check := make(schema)) is not None]
    if not checks:
        return _anything
    if len(checks) == 1:
        return checks[0]
    return lambda value: all(check(value) for check in checks)


def _anything(value: Any) -> bool:
    return True


def _enum(schema: Schema) -> Check | None:
    options = schema.get("enum")
    if options is None:
        return None
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise _Unusual
    allowed = frozenset(options)
    return lambda value: type(value) is str and value in allowed


def _branches(schema: Schema) -> Check | None:
    if "anyOf" not in schema and "oneOf" not in schema:
        return None
    if "anyOf" in schema and "oneOf" in schema:
        raise _Unusual
    branches = schema.get("anyOf", schema.get("oneOf"))
    if not isinstance(branches, list) or not branches:
        raise _Unusual
    checks = [_check(branch) for branch in branches]
    return lambda value: any(check(value) for check in checks)


_KINDS: dict[str, Check] = {
    "array": lambda value: type(value) is list,
    "boolean": lambda value: type(value) is bool,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "null": lambda value: value is None,
    "number": lambda value: type(value) is int or type(value) is float,
    "object": lambda value: type(value) is dict,
    "string": lambda value: type(value) is str,
}


def _kind(schema: Schema) -> Check | None:
    wanted = schema.get("type")
    if wanted is None:
        return None
    names = wanted if isinstance(wanted, list) else [wanted]
    if not names or not all(isinstance(name, str) and name in _KINDS for name in names):
        raise _Unusual
    checks = [_KINDS[name] for name in names]
    return checks[0] if len(checks) == 1 else lambda value: any(c(value) for c in checks)


def _object(schema: Schema) -> Check | None:
    properties, required = schema.get("properties") or {}, schema.get("required") or []
    more = schema.get("additionalProperties", True)
    if not (isinstance(properties, Mapping) and isinstance(required, list)):
        raise _Unusual
    if not properties and not required and more is True:
        return None
    if not all(isinstance(name, str) for name in required):
        raise _Unusual
    checks = {name: _check(inner) for name, inner in properties.items()}
    other = None if more is False else _check(more)

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return not isinstance(value, dict)
        for name in required:
            if name not in value:
                return False
        for name, entry in value.items():
            inner = checks.get(name, other)
            if inner is None or not inner(entry):
                return False
        return True

    return check


def _array(schema: Schema) -> Check | None:
    low, high = schema.get("minItems", 0), schema.get("maxItems")
    items = _check(schema.get("items", True))
    if items is _anything and not low and high is None:
        return None
    most = _bounds(low, high)

    def check(value: Any) -> bool:
        if not isinstance(value, list):
            return True
        return low <= len(value) <= most and all(items(entry) for entry in value)

    return check


def _text(schema: Schema) -> Check | None:
    low, high = schema.get("minLength", 0), schema.get("maxLength")
    if not low and high is None:
        return None
    most = _bounds(low, high)
    return lambda value: not isinstance(value, str) or low <= len(value) <= most


def _number(schema: Schema) -> Check | None:
    at_least, at_most = schema.get("minimum"), schema.get("maximum")
    if {"exclusiveMinimum", "exclusiveMaximum"} & schema.keys():
        raise _Unusual
    if at_least is None and at_most is None:
        return None
    low = float("-inf") if at_least is None else at_least
    most = _bounds(low, at_most)

    def check(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return bool(low <= value <= most)

    return check


def _bounds(low: Any, high: Any) -> float:
    """The upper bound, where both are numbers."""
    if type(low) not in (int, float) or (high is not None and type(high) not in (int, float)):
        raise _Unusual
    return float("inf") if high is None else high


_MAKERS = (_enum, _kind, _branches, _object, _array, _text, _number)
