"""Malformed calls, repaired where only one reading is possible.

    {'city': 'Oslo', days: "3",}   →   {"city": "Oslo", "days": 3}

Small models write almost-JSON. What is repaired here has one meaning and only that one: nothing is
guessed, completed or left out, and valid JSON that fits its schema is never touched. All else is
told to the model, which may write the call again. A text that breaks off inside a word, a number or
after a comma may have lost something, so it is not repaired.
"""

import math
import re
from typing import Any

import msgspec

LONGEST = 200_000
"""Characters of a text that is looked at at most."""

_FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n?(.*?)(?:```)?\Z", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SINGLE = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_$][\w$-]*(?=\s*:)", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
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


def number(text: str) -> int | float | None:
    """The number that JSON would read, however large; `None` where the text is none."""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        value = int(text) if text.removeprefix("-").isdecimal() else float(text)
    except ValueError:  # Thousands of digits.
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
        value = number(found[0])
        if value is None:
            raise _Unclear
        return value

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
