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


def schema(tools: Sequence[str]) -> dict[str, Any]:
    """JSON Schema of a plan over these tools."""
    text = {"type": "string"}
    step = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": r"^[\w-]+$", "maxLength": 40},
            "what": text,
            "call": {"enum": list(tools)} if tools else text,
            "arguments": {"type": "object"},
            "needs": {"type": "array", "items": text},
        },
        "required": ["id", "what", "call", "arguments", "needs"],
        "additionalProperties": False,
    }
    steps = {"type": "array", "items": step, "maxItems": STEPS}
    return {
        "type": "object",
        "properties": {"steps": steps},
        "required": ["steps"],
        "additionalProperties": False,
    }


def step(entry: Mapping[str, Any]) -> Step:
    """The step that an entry of the plan describes; the entry has the form of `schema`."""
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
