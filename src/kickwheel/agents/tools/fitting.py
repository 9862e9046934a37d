"""Arguments of another type than the schema wants, where they can mean only one that fits.

    {"days": "3", "unit": "celsius"}   →   {"days": 3, "unit": "Celsius"}

Either all arguments fit in the end, or none is touched.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kickwheel.agents.tools.repair import number
from kickwheel.agents.tools.schema import mistakes


def fitted(
    arguments: Mapping[str, Any], schema: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """Arguments that fit the schema, where each that did not has one reading that does.

    `None` where some have none, or more than one.
    """
    fitting = _Fitting(schema)
    try:
        value = fitting.fit(dict(arguments), schema, "")
    except RecursionError:
        return None
    return (value, tuple(fitting.repairs)) if not mistakes(value, schema) else None


class _Fitting:
    """Turns values that do not fit a schema into the only ones that they can mean."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.repairs: list[str] = []
        self._root = root

    def fit(self, value: Any, schema: Any, where: str) -> Any:
        """The value as it fits; unchanged where it fits already, or cannot be made to."""
        if not isinstance(schema, Mapping):
            return value
        schema = self._resolved(schema)
        options = schema.get("enum")
        if isinstance(options, list):
            return self._of(value, options, where)
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list):
                return self._in_branch(value, schema[key], where)
        kinds = schema.get("type")
        names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
        if isinstance(value, str) and names and "string" not in names:
            value = self._read(value, names, where)
        if isinstance(value, dict):
            inner = schema.get("properties") or {}
            return {
                key: self.fit(entry, inner.get(key), f"{where}.{key}" if where else key)
                for key, entry in value.items()
            }
        if isinstance(value, list):
            return [
                self.fit(entry, schema.get("items"), f"{where}[{position}]")
                for position, entry in enumerate(value)
            ]
        return value

    def _of(self, value: Any, options: list[Any], where: str) -> Any:
        if value in options or not isinstance(value, str):
            return value
        alike = [
            option
            for option in options
            if isinstance(option, str) and option.casefold() == value.strip().casefold()
        ]
        if len(alike) != 1:
            return value
        self.repairs.append(f"{where}: another case")
        return alike[0]

    def _in_branch(self, value: Any, branches: list[Any], where: str) -> Any:
        if any(self._fits(value, branch) for branch in branches):
            return value
        before = list(self.repairs)
        found: dict[str, tuple[Any, list[str]]] = {}
        for branch in branches:
            self.repairs = list(before)
            tried = self.fit(value, branch, where)
            if self._fits(tried, branch):
                found[json.dumps(tried)] = (tried, self.repairs)
        self.repairs = before
        if len(found) != 1:
            return value
        ((value, self.repairs),) = found.values()
        return value

    def _read(self, text: str, names: list[Any], where: str) -> Any:
        """The text as the only one of these types that it can be read as."""
        read: dict[str, tuple[str, Any]] = {}
        for name in names:
            reading = _READINGS.get(name)
            value = None if reading is None else reading(text.strip())
            if value is not None:
                read.setdefault(json.dumps(value), (name, value))
        if len(read) != 1:
            return text
        ((name, value),) = read.values()
        self.repairs.append(f"{where}: {name} as a string")
        return value

    def _fits(self, value: Any, schema: Any) -> bool:
        around = {key: self._root[key] for key in ("$defs", "definitions") if key in self._root}
        return not mistakes({"value": value}, {"properties": {"value": schema}, **around})

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        node: Any = self._root
        for key in reference.removeprefix("#/").split("/"):
            node = node.get(key) if isinstance(node, Mapping) else None
        return node if isinstance(node, Mapping) and "$ref" not in node else {}


def _as_integer(text: str) -> int | None:
    value = number(text)
    return value if isinstance(value, int) else None


def _as_boolean(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def _as_container(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        return value if isinstance(value, kind) else None

    return read


_READINGS: dict[str, Callable[[str], Any]] = {
    "integer": _as_integer,
    "number": number,
    "boolean": _as_boolean,
    "array": _as_container(list),
    "object": _as_container(dict),
}
