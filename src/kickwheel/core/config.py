"""A YAML file with its lines and columns, checked against classes.

Mistakes are collected, not raised one by one: a file is told all that is wrong with it at once.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from kickwheel.core.errors import ConfigError, Mistake
from kickwheel.core.plugins import nearest

_MEANT = {
    **dict.fromkeys(("tuple_type", "list_type"), "a list, as [a, b]"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), "a mapping of keys to values"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "a text; in quotes where it looks like a number",
}
"""What people know pydantic's types as."""

M = TypeVar("M", bound=BaseModel)
Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file that was read."""

    file: Path
    data: Any

    def mistake(self, where: Path_, what: str) -> Mistake:
        """`what` is wrong at the key that `where` leads to, or at the nearest one above it."""
        line, column = self._position(where)
        return Mistake(file=str(self.file), line=line, column=column, where=spell(where), what=what)

    def _position(self, where: Path_) -> tuple[int, int]:
        node, line, column = self.data, 0, 0
        for key in where:
            if isinstance(node, CommentedMap) and key in node:
                line, column = node.lc.key(key)
            elif isinstance(node, CommentedSeq) and isinstance(key, int) and key < len(node):
                line, column = node.lc.item(key)
            else:
                break
            node = node[key]
        return line + 1, column + 1


def read_yaml(file: Path) -> Document:
    """The mapping that the file holds.

    Raises:
        ConfigError: there is no such file, or it is no YAML mapping.
    """
    try:
        data = YAML(typ="rt").load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError([_at(file, 1, 1, f"cannot be read: {reason}")]) from error
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigError([_at(file, line, column, _broken(error))]) from error
    except YAMLError as error:
        raise ConfigError([_at(file, 1, 1, f"not YAML: {error}")]) from error
    if data is None:
        raise ConfigError([_at(file, 1, 1, "is empty: it must be a mapping of keys to values")])
    if not isinstance(data, CommentedMap):
        raise ConfigError([_at(file, 1, 1, "must be a mapping of keys to values")])
    return Document(file, data)


def check(
    document: Document, where: Path_, data: object, kind: type[M], mistakes: list[Mistake]
) -> M | None:
    """`data`, which stands at `where`, as a `kind`; otherwise `None`, and `mistakes` grows.

    Validators find the file's folder, where relative paths start, in their context.
    """
    try:
        folder = document.file.parent.resolve()
        return kind.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        for entry in error.errors():
            place = (*where, *_keys(data, entry))
            mistakes.append(document.mistake(place, _told(entry, kind)))
        return None


def key_from(written: str) -> str | None:
    """The key that is written as `${NAME}`, the value of that environment variable, or as it is;
    `None` where it is empty or the variable is not set."""
    variable = re.fullmatch(r"\$\{(\w+)\}", written.strip())
    return (os.environ.get(variable[1]) if variable else written) or None


def spell(where: Path_) -> str:
    """A key's path as people write it: `agents.concierge.tools[1]`."""
    text = ""
    for key in where:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def _broken(error: MarkedYAMLError) -> str:
    problem = str(error.problem)
    if isinstance(error, DuplicateKeyError):
        # The parser's own words show both values, which may be secrets.
        key = re.match(r'found duplicate key "([^"]*)"', problem)
        named = f'"{key[1]}" ' if key else ""
        return f"the key {named}stands here twice: leave one out"
    if "'\\t'" in problem:
        return "not YAML: a tab. Indent with spaces"
    if problem.startswith("expected <block end>"):
        return (
            "not YAML: this line does not stand where the ones above it begin. Keys of one mapping "
            "have the same number of spaces before them"
        )
    return f"not YAML: {problem}"


def _told(entry: Mapping[str, Any], kind: type[BaseModel]) -> str:
    key = entry["loc"][-1] if entry["loc"] else ""
    if entry["type"] == "extra_forbidden":
        known = _fields(kind, entry["loc"][:-1])
        return f'no option "{key}" here.' + (f" {nearest(str(key), known)}" if known else "")
    if entry["type"] == "missing":
        about = _about(kind, entry["loc"])
        return f'"{key}" is missing' + (f": {about}" if about else "")
    if entry["type"] == "union_tag_invalid":
        allowed = re.findall(r"'([^']*)'", entry["ctx"]["expected_tags"])
        return f'"{entry["ctx"]["tag"]}" is none of {", ".join(allowed)}'
    if entry["type"] == "union_tag_not_found":
        return f"{entry['ctx']['discriminator'].strip(chr(39))} is missing"
    if entry["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", entry["ctx"]["expected"])
        return f'"{entry["input"]}" is none of {", ".join(allowed)}. ' + (
            nearest(str(entry["input"]), allowed) if allowed else ""
        )
    if entry["type"] in _MEANT:
        # What stands there instead may be a secret.
        return f"must be {_MEANT[entry['type']]}"
    if entry["type"] in ("too_short", "too_long"):
        least = entry["type"] == "too_short"
        bound = entry["ctx"]["min_length" if least else "max_length"]
        return (
            f"must have at {'least' if least else 'most'} {bound} entries, "
            f"not {entry['ctx']['actual_length']}"
        )
    message = str(entry["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _fields(kind: type[BaseModel], path: Path_) -> list[str]:
    inner: Any = kind
    for key in path:
        field = getattr(inner, "model_fields", {}).get(key)
        inner = _model(field.annotation) if field else None
    return list(getattr(inner, "model_fields", {}))


def _about(kind: type[BaseModel], path: Path_) -> str:
    inner: Any = kind
    for key in path[:-1]:
        field = getattr(inner, "model_fields", {}).get(key)
        inner = _model(field.annotation) if field else None
    field = getattr(inner, "model_fields", {}).get(path[-1])
    return " ".join((field.description or "").split()) if field else ""


def _model(annotation: Any) -> Any:
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _keys(data: object, entry: Mapping[str, Any]) -> list[str | int]:
    """The path of a mistake as it stands in the file: pydantic adds the branches of unions."""
    keys: list[str | int] = []
    node: Any = data
    for key in entry["loc"]:
        if (isinstance(node, Mapping) and key in node) or (
            isinstance(node, list) and isinstance(key, int) and key < len(node)
        ):
            keys.append(key)
            node = node[key]
    if entry["type"] == "missing":
        keys.append(entry["loc"][-1])
    return keys


def _at(file: Path, line: int, column: int, what: str) -> Mistake:
    return Mistake(file=str(file), line=line, column=column, where="", what=what)
