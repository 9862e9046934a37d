"""A document from JSON or YAML, with the files beside it that it refers to."""

import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from kickwheel.agents.tools import text
from kickwheel.core.errors import UsageError

MOST_NODES = 2_000_000
"""Entries of a document at most, with what YAML's anchors repeat."""
MOST_FILES = 500

_FILES = "x-files"


def bundled(path: Path) -> dict[str, Any]:
    """The document of a file, with all files that it refers to in it, under `x-files`.

    Raises:
        UsageError: the document cannot be read, or one that it refers to is none.
    """
    root = path.resolve()
    waiting, files = [root], dict[Path, dict[str, Any]]()
    while waiting:
        file = waiting.pop()
        if file in files:
            continue
        if len(files) == MOST_FILES:
            raise UsageError(f"{path}: refers to more than {MOST_FILES} files")
        try:
            files[file] = parsed(file.read_bytes(), str(path if file == root else file))
        except OSError as error:
            raise UsageError(f"{file}: cannot be read: {error.strerror}") from error
        waiting += _retargeted(files[file], file, root)
    whole = files.pop(root)
    if files:
        whole[_FILES] = {_name(file, root): found for file, found in files.items()}
    return whole


def parsed(data: bytes, source: str) -> dict[str, Any]:
    """The document behind the bytes, as JSON has it.

    Raises:
        UsageError: it is neither JSON nor YAML, or too big or deep.
    """
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        try:
            found = YAML(typ="safe").load(text.decoded(data))
        except (YAMLError, ValueError, RecursionError) as error:
            why = " ".join(str(error).split())[:200]
            raise UsageError(f"{source}: is neither JSON nor YAML: {why}") from error
    left = MOST_NODES

    def plainly(node: Any) -> Any:
        """With text as keys, and dates, which YAML knows and JSON does not, as text."""
        nonlocal left
        left -= 1
        if left < 0:
            raise UsageError(f"{source}: has more than {MOST_NODES:,} entries")
        if isinstance(node, dict):
            return {str(key): plainly(value) for key, value in node.items()}
        if isinstance(node, list):
            return [plainly(entry) for entry in node]
        return node.isoformat() if isinstance(node, datetime.date) else node

    try:
        whole = plainly(found)
    except RecursionError as error:
        raise UsageError(f"{source}: is nested too deep, or in a circle") from error
    if not isinstance(whole, dict):
        raise UsageError(f"{source}: is no OpenAPI document")
    return whole


def _retargeted(node: Any, file: Path, root: Path) -> list[Path]:
    """The files that a document refers to; its references are changed to where they will stand.

    What is no file in the document's folder stays as it is: old documents write `Pet` for a
    definition of that name, and one that nobody follows does no harm.
    """
    if isinstance(node, list):
        return [found for entry in node for found in _retargeted(entry, file, root)]
    if not isinstance(node, dict):
        return []
    found = [f for entry in node.values() for f in _retargeted(entry, file, root)]
    reference = node.get("$ref")
    if not isinstance(reference, str) or urlsplit(reference).scheme:
        return found
    name, _, pointer = reference.partition("#")
    target = (file.parent / unquote(name)).resolve() if name else file
    if not target.is_relative_to(root.parent) or not target.is_file():
        return found
    if target != root:
        step = _name(target, root).replace("~", "~0").replace("/", "~1")
        node["$ref"] = f"#/{_FILES}/{step}{pointer}"
    elif name:
        node["$ref"] = f"#{pointer}"
    return [*found, target] if name else found


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root.parent).as_posix()
