"""JSON Schema with its references written out, for those who read no `$ref`.

Half of the frameworks and several model servers drop `$ref` and `$defs` silently, so a schema goes
through here once, where it enters; whatever comes later may rely on it.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from kickwheel.core.errors import UsageError

Schema = Mapping[str, Any]

MOST = 20_000
"""Entries of a schema that are written out at most. Definitions that use each other twice, twenty
deep, would be a million; beyond the limit references stay, which is right too, only less read."""

_DEFINITIONS = ("$defs", "definitions")


def inlined(schema: Schema, document: Schema | None = None) -> dict[str, Any]:
    """The schema with its local `$ref`s written out; only those that contain themselves stay.

    What stays is found under `$defs` of the result, wherever it stood before.

    Args:
        document: what `#/…` leads into; by default the schema itself.
    Raises:
        UsageError: the schema is nested too deep to be read.
    """
    try:
        return _Writing(schema if document is None else document).whole(schema)
    except RecursionError as error:
        raise UsageError("a JSON Schema is nested too deep") from error


def pointed(document: Any, reference: str) -> Any:
    """What a reference inside a document, `#/components/schemas/Order`, leads to.

    Raises:
        LookupError: nothing is there.
    """
    node = document
    for step in reference.removeprefix("#").split("/")[1:]:
        key = _plain(step)
        if isinstance(node, list):
            node = node[int(key)] if key.isdecimal() else node[len(node)]
        elif isinstance(node, Mapping):
            node = node[key]
        else:
            raise LookupError(reference)
    return node


def _plain(step: str) -> str:
    """A step of a JSON pointer (RFC 6901) as the key that it means."""
    return unquote(step).replace("~1", "/").replace("~0", "~")


class _Writing:
    def __init__(self, document: Schema) -> None:
        self._document = document
        self._names: dict[str, str] = {}
        self._written = 0

    def whole(self, schema: Schema) -> dict[str, Any]:
        top = {key: value for key, value in schema.items() if key not in _DEFINITIONS}
        result: dict[str, Any] = self._write(top, ())
        definitions: dict[str, Any] = {}
        while self._names.keys() - definitions.keys():
            # What contains itself keeps its definition, in which it may name itself.
            for reference in sorted(self._names.keys() - definitions.keys()):
                definition = pointed(self._document, reference)
                definitions[reference] = self._write(definition, (reference,))
        if definitions:
            result["$defs"] = {self._names[name]: value for name, value in definitions.items()}
        return result

    def _write(self, node: Any, inside: tuple[str, ...]) -> Any:
        self._written += 1
        if isinstance(node, list):
            return [self._write(entry, inside) for entry in node]
        if not isinstance(node, Mapping):
            return node
        reference = node.get("$ref")
        if not isinstance(reference, str) or not self._leads(reference):
            return {key: self._write(value, inside) for key, value in node.items()}
        beside = {key: value for key, value in node.items() if key != "$ref"}
        if reference in inside or self._written > MOST:
            return {**self._write(beside, inside), "$ref": f"#/$defs/{self._kept(reference)}"}
        definition = pointed(self._document, reference)
        whole = self._write(definition, (*inside, reference))
        if not isinstance(whole, dict):  # `true` and `false` are schemas, too.
            return whole
        return {**whole, **self._write(beside, inside)}

    def _leads(self, reference: str) -> bool:
        if not reference.startswith("#/"):
            return False
        try:
            found = pointed(self._document, reference)
        except LookupError:
            return False
        return isinstance(found, Mapping | bool)

    def _kept(self, reference: str) -> str:
        """The name of a definition that stays."""
        if reference not in self._names:
            # A plain name, so that it needs no escapes in the reference.
            name = re.sub(r"[^\w.-]", "_", _plain(reference.rpartition("/")[2]))
            taken = set(self._names.values())
            while name in taken:
                name += "_"
            self._names[reference] = name
        return self._names[reference]
