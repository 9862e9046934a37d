"""A plan as JSON: its form, its mistakes, and results put in the place of references.

    {"steps": [{"id": "a", "what": "the fare there", "call": "fare",
                "arguments": {"start": "Oslo", "end": "Rome"}, "needs": []},
               {"id": "b", "what": "book it", "call": "book",
                "arguments": {"price": "${a.total}"}, "needs": []}]}

A step needs those that it names and those that its arguments refer to.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kickwheel.agents.tools.schema import mistakes
from kickwheel.core.plugins import nearest
from kickwheel.records import ToolSpec

STEPS = 32
"""Steps of one plan at most."""

_NARROWER = frozenset(("enum", "const", "pattern", "format", "minLength", "maxLength"))
_REFERENCE = re.compile(r"\$\{([\w-]+)((?:\.[\w-]+)*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a plan."""

    id: str
    what: str
    call: str
    """The tool's name."""
    arguments: Mapping[str, Any]
    needs: frozenset[str]
    """Steps whose results must be there, those that the arguments refer to included."""


def schema(tools: Sequence[ToolSpec]) -> dict[str, Any]:
    """JSON Schema of a plan over these tools: each step's arguments are those of its tool, or
    references in their places."""
    steps = [_step({"const": tool.name}, _arguments(tool)) for tool in tools]
    return _plan({"anyOf": steps} if len(steps) > 1 else steps[0] if steps else _ANY)


def _plan(step: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"steps": {"type": "array", "items": step, "maxItems": STEPS}},
        "required": ["steps"],
        "additionalProperties": False,
    }


def _step(call: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            # No \w: grammars of llama.cpp's server know none.
            "id": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 40},
            "what": {"type": "string"},
            "call": call,
            "arguments": arguments,
            "needs": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["id", "what", "call", "arguments", "needs"],
        "additionalProperties": False,
    }


def _arguments(tool: ToolSpec) -> Mapping[str, Any]:
    if "$defs" in tool.parameters:
        return {"type": "object"}  # What contains itself could not be named from within a plan.
    properties = tool.parameters.get("properties") or {}
    referring = {name: _or_reference(inner) for name, inner in properties.items()}
    closed = {"type": "object", "additionalProperties": False, **tool.parameters}
    return {**closed, "properties": referring}


def _or_reference(schema: Any) -> Any:
    """The schema, or a reference where it does not take any text."""
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("type") == "string" and not schema.keys() & _NARROWER:
        return schema
    if isinstance(schema.get("items"), Mapping):
        schema = {**schema, "items": _or_reference(schema["items"])}
    return {"anyOf": [schema, {"type": "string", "pattern": r"^\$\{[A-Za-z0-9_.-]+\}$"}]}


_ANY = _step({"type": "string"}, {"type": "object"})
FORM = _plan(_ANY)
"""JSON Schema of any plan; what its steps call is looked at by `wrong`, in better words."""


def step(entry: Mapping[str, Any]) -> Step:
    """The step that an entry of the plan describes; the entry has the form of `FORM`."""
    arguments = entry["arguments"]
    needs = {*entry["needs"], *_references(arguments)}
    return Step(
        id=entry["id"],
        what=entry["what"],
        call=entry["call"],
        arguments=arguments,
        needs=frozenset(needs),
    )


def wrong(
    steps: Sequence[Step], tools: Mapping[str, ToolSpec], done: Collection[str]
) -> Iterator[str]:
    """What is wrong with a plan, a sentence each.

    Args:
        done: ids of steps of earlier plans, whose results are there.
    """
    ids = [step.id for step in steps]
    known = {*ids, *done}
    if len(steps) > STEPS:
        yield f"it has {len(steps)} steps, and may have {STEPS}"
    for step in steps:
        where = f'step "{step.id}"'
        if ids.count(step.id) > 1 or step.id in done:
            yield f"{where} stands there twice, or was done before: give it another id"
        for need in sorted(step.needs - known):
            yield f'{where} needs "{need}", which is no step. {nearest(need, known)}'
        tool = tools.get(step.call)
        if tool is None:
            yield f'{where}: no tool "{step.call}". {nearest(step.call, dict(tools))}'
        elif not any(_references(step.arguments)):
            for mistake in mistakes(step.arguments, tool.parameters):
                yield f"{where}: {mistake}"
    circle = _circle(steps)
    if circle:
        yield f"these steps need each other in a circle: {', '.join(circle)}"


def _references(value: Any) -> Iterator[str]:
    """The steps that a value refers to."""
    match value:
        case str():
            yield from (found[1] for found in _REFERENCE.finditer(value))
        case dict():
            for entry in value.values():
                yield from _references(entry)
        case list():
            for entry in value:
                yield from _references(entry)


def filled(
    arguments: Mapping[str, Any], results: Mapping[str, str], tool: ToolSpec
) -> dict[str, Any]:
    """The arguments with results in the place of references.

    Args:
        results: texts by the ids of their steps; all that is referred to is there.
        tool: what is called: where it takes a string, a result is one, whatever it looks like.
    Raises:
        LookupError: a result lacks the part that is referred to.
    """
    known = tool.parameters.get("properties") or {}
    texts = {name for name, schema in known.items() if schema.get("type") == "string"}
    return {name: _fill(value, results, name in texts) for name, value in arguments.items()}


def _fill(value: Any, results: Mapping[str, str], as_text: bool = False) -> Any:
    match value:
        case str():
            whole = _REFERENCE.fullmatch(value)
            if whole and as_text:
                return _text(_part(whole, results)) if whole[2] else results[whole[1]]
            if whole:
                return _part(whole, results)
            return _REFERENCE.sub(lambda found: _text(_part(found, results)), value)
        case dict():
            return {key: _fill(entry, results) for key, entry in value.items()}
        case list():
            return [_fill(entry, results) for entry in value]
    return value


def _part(found: re.Match[str], results: Mapping[str, str]) -> Any:
    text = results[found[1]]
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        value = text
    for key in found[2].split(".")[1:]:
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise LookupError(f"{found[0]}: the result of {found[1]} has no such part")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _circle(steps: Sequence[Step]) -> list[str]:
    """Steps that wait for each other; none where all can be done in some order."""
    left = {step.id: step.needs & {other.id for other in steps} for step in steps}
    while left:
        free = [id for id, needs in left.items() if not needs & left.keys()]
        if not free:
            return sorted(left)
        for id in free:
            del left[id]
    return []
