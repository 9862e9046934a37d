"""A NAT file as it is written, and what became of each of its keys.

A key is *taken* where the app has a counterpart of it, *moot* where nothing needs to be done, and
*to do* where somebody must. What is none of these when all was read is told as unknown.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kickwheel.core.config import Document, Path_, read_yaml, spell
from kickwheel.core.errors import ConfigError, Mistake

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")
_FILE = "file://"
BASES = 20
"""Files that build on each other at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A key that the app has no counterpart of."""

    file: str
    line: int
    """From 1."""
    column: int
    """From 1."""
    where: str
    """The key's path, `llms.nim_llm.top_p`."""
    what: str
    act: bool
    """Whether somebody has to do something about it."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.where}: {self.what}"


@dataclass(slots=True)
class Written:
    """The file, with the files that it builds on."""

    data: Mapping[str, Any]
    folder: Path
    left: list[Left] = field(default_factory=list)
    _documents: list[Document] = field(default_factory=list)
    _done: set[Path_] = field(default_factory=set)

    @classmethod
    def read(cls, file: Path) -> "Written":
        """The file's keys over those of its `base`.

        Raises:
            ConfigError: a file cannot be read, is no YAML mapping, or builds on itself.
        """
        documents: list[Document] = []
        at: Path | None = file
        while at is not None:
            if len(documents) == BASES or at.resolve() in [d.file.resolve() for d in documents]:
                what = f"the files build on each other in a circle: {at}"
                raise ConfigError([documents[0].mistake(("base",), what)])
            document = read_yaml(at)
            documents.append(document)
            base = document.data.get("base")
            at = at.parent / base if isinstance(base, str) else None
        data: dict[str, Any] = {}
        for document in reversed(documents):
            data = _over(data, document.data)
        written = cls(data, file.parent, _documents=documents)
        written.done(("base",))
        return written

    def section(self, name: str) -> "Entry":
        """A section of the file, empty where it has none."""
        value = self.data.get(name)
        if value is not None and not isinstance(value, Mapping):
            self.tell((name,), "must be a mapping of keys to values", act=True)
        return Entry(self, (name,), value if isinstance(value, Mapping) else {})

    def done(self, where: Path_) -> None:
        """Something became of the key and all below it."""
        self._done.add(where)

    def tell(self, where: Path_, what: str, *, act: bool) -> None:
        """The app has no counterpart of the key and all below it."""
        self.done(where)
        found = self._position(where)
        self.left.append(
            Left(
                file=found.file,
                line=found.line,
                column=found.column,
                where=found.where,
                what=what,
                act=act,
            )
        )

    def unknown(self, where: Path_ = ()) -> Iterator[Path_]:
        """The keys, from `where` on, of which nothing became, nor was told."""
        node: Any = self.data
        for key in where:
            node = node[key]
        yield from self._unknown(where, node)

    def _unknown(self, where: Path_, node: Any) -> Iterator[Path_]:
        if where in self._done:
            return
        if isinstance(node, Mapping) and (node or not where):
            for key, value in node.items():
                yield from self._unknown((*where, str(key)), value)
        else:
            yield where

    def _position(self, where: Path_) -> Mistake:
        for document in self._documents:
            line = _line(document.data, where)
            if line is not None:
                return Mistake(
                    file=str(document.file),
                    line=line[0] + 1,
                    column=line[1] + 1,
                    where=spell(where),
                    what="",
                )
        return self._documents[0].mistake(where, "")


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping of the file that knows where it stands."""

    written: Written
    where: Path_
    data: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its own key."""
        return str(self.where[-1])

    @property
    def type(self) -> str:
        """What NAT calls `_type`; a full name `package/type` counts by its end."""
        self.written.done((*self.where, "_type"))
        return str(self.data.get("_type") or "").rpartition("/")[2]

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def take(self, *keys: str, default: Any = None) -> Any:
        """The value of the first of these keys that is there: it becomes part of the app.

        A variable is taken for its default, what stands in a file for its content.
        """
        for key in keys:
            if key in self.data:
                self.written.done((*self.where, key))
                return self._plain(key, self.data[key])
        return default

    def text(self, *keys: str) -> str | None:
        """The text of the first of these keys; `None` where none is there, or it is empty."""
        value = self.take(*keys)
        return str(value) if value not in (None, "") else None

    def number(self, *keys: str) -> float | None:
        """The number of the first of these keys, a text that is one too."""
        value = self.take(*keys)
        if value is None:
            return None
        try:
            found = float(value)
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if isinstance(value, bool) or not 0 <= found < 1e12:
            key = next(key for key in keys if key in self.data)
            self.todo(key, f"must be a number of 0 or more, not {value!r}")
            return None
        return found

    def names(self, *keys: str) -> list[str]:
        """The list of names of the first of these keys; a single one is a list, too."""
        value = self.take(*keys)
        if value is None:
            return []
        return [str(one) for one in value] if isinstance(value, list) else [str(value)]

    def secret(self, key: str, otherwise: str) -> str:
        """The value as `${NAME}`; a key that stands in the file itself is not copied."""
        value = self.take_raw(key)
        if isinstance(value, str) and re.fullmatch(r"\$\{\w+\}", value.strip()):
            return value.strip()
        if value not in (None, ""):
            found = _VARIABLE.fullmatch(str(value).strip())
            if found:
                return "${" + (found[1] or found[3]) + "}"
            self.todo(
                key, f"the value stands in the file itself and was not copied: export {otherwise}"
            )
        return "${" + otherwise + "}"

    def take_raw(self, key: str) -> Any:
        """The value as it is written, variables and all."""
        if key in self.data:
            self.written.done((*self.where, key))
        return self.data.get(key)

    def entry(self, key: str) -> "Entry":
        """The mapping at the key, empty where there is none."""
        value = self.data.get(key)
        return Entry(self.written, (*self.where, key), value if isinstance(value, Mapping) else {})

    def entries(self) -> Iterator["Entry"]:
        """The mappings in this one; what is none is told."""
        for key, value in self.data.items():
            if isinstance(value, Mapping):
                yield Entry(self.written, (*self.where, str(key)), value)
            elif value is not None:
                self.todo(str(key), "must be a mapping with a _type")
            else:
                self.written.done((*self.where, str(key)))

    def todo(self, key: str, what: str) -> None:
        """Somebody must do this, if the key is there."""
        if key in self.data:
            self.written.tell((*self.where, key), what, act=True)

    def moot(self, key: str, what: str) -> None:
        """Nothing is to be done about the key, if it is there."""
        if key in self.data:
            self.written.tell((*self.where, key), what, act=False)

    def rest(self, what: str, *, act: bool = True) -> None:
        """The app has no counterpart of any key here of which nothing became yet."""
        for key in self.data:
            where = (*self.where, str(key))
            if any(True for _ in self.written.unknown(where)):
                self.written.tell(where, what, act=act)

    def whole(self, what: str, *, act: bool = True) -> None:
        """The app has no counterpart of all of it; its keys are named."""
        keys = [str(key) for key in self.data if key != "_type"]
        named = f" (with {', '.join(keys)})" if keys else ""
        self.written.tell(self.where, f"{what}{named}", act=act)

    def _plain(self, key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [self._plain(key, one) for one in value]
        if not isinstance(value, str):
            return value
        if value.startswith(_FILE):
            file = self.written.folder / value.removeprefix(_FILE)
            try:
                return file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                self.todo(key, f"there is no file {file} to take the text from")
                return value
        found = _VARIABLE.search(value)
        if found is None:
            return value
        plain = _VARIABLE.sub(lambda one: one[2] if one[2] is not None else one[0], value)
        name = found[1] or found[3]
        if found[2] is not None:
            self.moot(key, f"variables stand only where keys do: {plain!r} was taken for {name}")
        else:
            self.todo(key, f"variables stand only where keys do: write the value of {name}")
        return _scalar(plain)


def _scalar(text: str) -> Any:
    """The number or truth value that the text is."""
    if text in ("true", "True", "false", "False"):
        return text in ("true", "True")
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = {str(key): value for key, value in base.items()}
    for key, value in top.items():
        there = merged.get(str(key))
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            value = _over(there, value)
        merged[str(key)] = value
    return merged


def _line(node: Any, where: Path_) -> tuple[int, int] | None:
    """Where the key stands; `None` where it is not in this file."""
    found = None
    for key in where:
        if isinstance(node, Mapping) and key in node:
            # A key that `<<` brought in stands elsewhere: its mapping's place is the nearest.
            at = node.lc.data.get(key) if hasattr(node, "lc") and node.lc.data else None
            found = (at[0], at[1]) if at else found
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            at = node.lc.data.get(key) if hasattr(node, "lc") and node.lc.data else None
            found = (at[0], at[1]) if at else found
        else:
            return None
        node = node[key]
    return found
