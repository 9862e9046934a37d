"""Malformed calls, repaired where only one reading is possible.

    {'city': 'Oslo', days: "3",}   →   {"city": "Oslo", "days": 3}

Small models write almost-JSON. What is repaired here has one meaning and only that one: nothing is
guessed, completed or left out, and valid JSON that fits its schema is never touched. All else is
told to the model, which may write the call again. A text that breaks off inside a word, a number or
after a comma may have lost something, so it is not repaired.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kickwheel.agents.tools.schema import mistakes

LONGEST = 200_000
"""Characters of a text that is looked at at most."""

_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n?(.*?)(?:```)?\Z", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SINGLE = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_$][\w$-]*(?=\s*:)", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"-?(?:0|[1-9]\d*)", re.ASCII)
_WORD = re.compile(r"true|false|null|True|False|None")
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_RAW = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class _Unclear(Exception):
    """There is more than one reading, or none."""


def readable(text: str) -> tuple[Any, tuple[str, ...]] | None:
    """The value that a text which is no JSON can only mean, and what had to be repaired.

    `None` where that is not certain.
    """
    if len(text) > LONGEST:
        return None
    try:
        reader = _Reader(text)
        value = reader.whole()
    except (_Unclear, RecursionError, UnicodeError):
        return None
    return value, tuple(dict.fromkeys(reader.repairs))


def unwrapped(text: str) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """The object that stands as JSON in a text; `None` where the text holds something else."""
    repairs: tuple[str, ...] = ("JSON inside a string",)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        found = readable(text)
        if found is None:
            return None
        value, more = found
        repairs += more
    return (value, repairs) if isinstance(value, dict) else None


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


class _Reader:
    """Reads one value, and remembers what JSON would not have allowed."""

    def __init__(self, text: str) -> None:
        self.repairs: list[str] = []
        stripped = text.strip()
        fenced = _FENCE.match(stripped) if stripped.startswith("```") else None
        if fenced:
            self.repairs.append("a code fence")
        self._text = fenced[1].strip() if fenced else stripped
        self._at = 0
        self._sure = False
        """Whether what was read last is complete as it stands: a string, a word, a bracket."""

    def whole(self) -> Any:
        value = self._value()
        self._space()
        if self._at < len(self._text):
            raise _Unclear
        return value

    def _value(self) -> Any:
        self._space()
        match self._text[self._at : self._at + 1]:
            case "{":
                return self._object()
            case "[":
                return self._array()
            case '"' | "'":
                return self._string()
        found = _WORD.match(self._text, self._at)
        if found:
            self._take(found, sure=True)
            if found[0][0].isupper():
                self.repairs.append("Python's words")
            return _WORDS[found[0]]
        found = _NUMBER.match(self._text, self._at)
        if not found:
            raise _Unclear
        # A number at the very end may have lost its last digits.
        self._take(found, sure=False)
        return _number(found[0])

    def _object(self) -> dict[str, Any]:
        self._at += 1
        value: dict[str, Any] = {}
        while not self._ends("}", first=not value):
            key = self._key()
            self._space()
            if self._text[self._at : self._at + 1] != ":":
                raise _Unclear
            self._at += 1
            if key in value:
                raise _Unclear  # Which of the two was meant?
            value[key] = self._value()
        return value

    def _array(self) -> list[Any]:
        self._at += 1
        value: list[Any] = []
        while not self._ends("]", first=not value):
            value.append(self._value())
        return value

    def _ends(self, bracket: str, *, first: bool) -> bool:
        """Whether the object or array ends here; takes the comma where it goes on."""
        self._space()
        if self._at == len(self._text):
            if first or not self._sure:
                raise _Unclear
            self.repairs.append("a missing bracket at the end")
            return True
        if self._text[self._at] == "," and not first:
            self._at += 1
            self._space()
            if self._text[self._at : self._at + 1] == bracket:
                self.repairs.append("a comma too many")
            elif self._at == len(self._text):
                raise _Unclear
            else:
                return False
        elif not first and self._text[self._at] != bracket:
            raise _Unclear
        if self._text[self._at] != bracket:
            return False
        self._at += 1
        self._sure = True
        return True

    def _key(self) -> str:
        if self._text[self._at : self._at + 1] in ('"', "'"):
            return self._string()
        found = _NAME.match(self._text, self._at)
        if not found:
            raise _Unclear
        self.repairs.append("a key without quotes")
        self._take(found, sure=False)
        return found[0]

    def _string(self) -> str:
        single = self._text[self._at] == "'"
        found = (_SINGLE if single else _DOUBLE).match(self._text, self._at)
        if not found:
            raise _Unclear
        self._take(found, sure=True)
        inside = found[0][1:-1]
        if single:
            self.repairs.append("single quotes")
            inside = re.sub(r"\\.|\"", _requoted, inside, flags=re.DOTALL)
        if any(raw in inside for raw in _RAW):
            self.repairs.append("a line break inside a string")
            inside = re.sub(r"[\n\r\t]", lambda raw: _RAW[raw[0]], inside)
        try:
            return msgspec.json.decode(f'"{inside}"', type=str)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise _Unclear from error

    def _space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _take(self, found: re.Match[str], *, sure: bool) -> None:
        self._at = found.end()
        self._sure = sure


def _requoted(found: re.Match[str]) -> str:
    """An escape or a double quote in single quotes, as it stands in double ones."""
    return {"\\'": "'", '"': '\\"'}.get(found[0], found[0])


def _number(text: str) -> int | float:
    try:
        value = int(text) if _INTEGER.fullmatch(text) else float(text)
    except ValueError as error:
        raise _Unclear from error
    if isinstance(value, float) and not math.isfinite(value):
        raise _Unclear
    return value


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
        found: dict[bytes, tuple[Any, list[str]]] = {}
        for branch in branches:
            self.repairs = list(before)
            tried = self.fit(value, branch, where)
            if self._fits(tried, branch):
                found[msgspec.json.encode(tried)] = (tried, self.repairs)
        self.repairs = before
        if len(found) != 1:
            return value
        ((value, self.repairs),) = found.values()
        return value

    def _read(self, text: str, names: list[Any], where: str) -> Any:
        """The text as the only one of these types that it can be read as."""
        read: dict[bytes, tuple[str, Any]] = {}
        for name in names:
            reading = _READINGS.get(name)
            value = None if reading is None else reading(text.strip())
            if value is not None:
                read.setdefault(msgspec.json.encode(value), (name, value))
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
    try:
        return int(text) if _INTEGER.fullmatch(text) else None
    except ValueError:  # Thousands of digits.
        return None


def _as_number(text: str) -> float | None:
    try:
        return _number(text) if _NUMBER.fullmatch(text) else None
    except _Unclear:
        return None


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
    "number": _as_number,
    "boolean": _as_boolean,
    "array": _as_container(list),
    "object": _as_container(dict),
}
