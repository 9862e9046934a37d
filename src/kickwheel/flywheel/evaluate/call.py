"""Whether a call is right, by the rules of the Berkeley Function Calling Leaderboard.

The tool must be the accepted one; required arguments must stand there, optional ones may; no
others. A value must have the type that the tool's schema declares (an integer passes for a number)
or that of the accepted values, and be one of them. Strings are compared without case, blanks and
the signs `,./-_*^`. `docs/matching.md` says where we differ, and why.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kickwheel.records import AcceptedCall, Example, ToolCall, ToolSpec

_IGNORED = re.compile(r"[ ,./\-_*^]")
_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "float": float,
    "double": float,
    "boolean": bool,
    "array": list,
    "list": list,
    "tuple": list,
    "object": dict,
    "dict": dict,
    "null": type(None),
}
_KINDS = {str: "wrong string", int: "wrong number", float: "wrong number", bool: "wrong boolean"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with an answer."""

    fault: str
    """Its class: `wrong tool`, `missing argument`, …"""
    detail: str


def mistakes(given: Sequence[ToolCall], example: Example) -> list[Mistake]:
    """What is wrong with the calls that were given; empty where they are right.

    As many calls must be given as the example's answer has, in any order, and each must be one of
    the accepted calls, or the answer's own where none are listed.
    """
    wanted = example.answer.tool_calls
    if not given:
        return [Mistake("no call", "no call was made")]
    if len(given) != max(1, len(wanted)):
        return [Mistake("wrong number of calls", f"{len(given)}, wanted {max(1, len(wanted))}")]
    places = _places(example)
    found = [[_best(call, accepted, example.tools) for accepted in places] for call in given]
    order = _assign(found)
    return [mistake for row, place in enumerate(order) for mistake in found[row][place]]


def right_tools(given: Sequence[ToolCall], example: Example) -> bool:
    """Whether the tools called are the accepted ones, whatever the arguments."""
    places = [{accepted.name for accepted in place} for place in _places(example)]
    if len(given) != len(places):
        return False
    found = [
        [[] if call.name in names else [Mistake("wrong tool", call.name)] for names in places]
        for call in given
    ]
    return not any(found[row][place] for row, place in enumerate(_assign(found)))


def readable(calls: Sequence[ToolCall]) -> str:
    """The calls as people read them: `Find(city="New York", seats=2)`, a line each."""
    return "\n".join(_readable(call) for call in calls)


def standard(text: str) -> str:
    """The text as it is compared: «New-York, NY» is `newyorkny`.

    Source: `standardize_string` of bfcl_eval 2026.3.23, eval_checker/ast_eval/ast_checker.py.
    """
    return _IGNORED.sub("", text).lower().replace("'", '"')


def _places(example: Example) -> list[tuple[AcceptedCall, ...]]:
    """For each call of the answer the calls that may stand in its place."""
    own = example.answer.tool_calls
    if len(own) <= 1:
        return [example.accepted or tuple(_as_accepted(call) for call in own)]
    places = []
    for call in own:
        mine = tuple(a for a in example.accepted if not _problems(call, a, example.tools))
        places.append(mine or (_as_accepted(call),))
    return places


def _as_accepted(call: ToolCall) -> AcceptedCall:
    arguments = _arguments(call) or {}
    return AcceptedCall(name=call.name, arguments={k: (v,) for k, v in arguments.items()})


def _best(
    call: ToolCall, accepted: Sequence[AcceptedCall], tools: Sequence[ToolSpec]
) -> list[Mistake]:
    """What is wrong with the call, seen from the accepted call that it is nearest to."""
    found = [_problems(call, one, tools) for one in accepted]
    if not found:
        return [Mistake("wrong tool", f"{call.name}, though no call was wanted")]
    return min(
        found, key=lambda wrong: (bool(wrong) and wrong[0].fault == "wrong tool", len(wrong))
    )


def _problems(call: ToolCall, accepted: AcceptedCall, tools: Sequence[ToolSpec]) -> list[Mistake]:
    if call.name != accepted.name:
        return [Mistake("wrong tool", f"{call.name}, wanted {accepted.name}")]
    arguments = _arguments(call)
    if arguments is None:
        return [Mistake("broken call", f"arguments are no JSON object: {call.arguments[:80]}")]
    tool = next((tool for tool in tools if tool.name == accepted.name), None)
    parameters: Mapping[str, Any] = tool.parameters if tool else {}
    properties: Mapping[str, Any] | None = parameters.get("properties")
    wrong = []
    for name in parameters.get("required") or ():
        if name not in arguments:
            wrong.append(Mistake("missing argument", name))
    for name, value in arguments.items():
        if name not in accepted.arguments or (properties is not None and name not in properties):
            if name in accepted.optional and value == "":
                continue
            wrong.append(Mistake("unexpected argument", f"{name}: {_short(value)}"))
            continue
        schema = (properties or {}).get(name)
        values, optional = accepted.arguments[name], name in accepted.optional
        found = _value(name, value, values, optional, schema if isinstance(schema, dict) else {})
        if found is not None:
            wrong.append(found)
    for name, values in accepted.arguments.items():
        may_miss = name in accepted.optional or "" in values
        if name not in arguments and not may_miss and not any(m.detail == name for m in wrong):
            wrong.append(Mistake("missing argument", name))
    return wrong


def _value(
    name: str, value: Any, accepted: Sequence[Any], optional: bool, schema: Mapping[str, Any]
) -> Mistake | None:
    declared = _declared(schema)
    if float in declared and type(value) is int:
        value = float(value)
    # A value of another type than the declared one is taken where the accepted values are such.
    usual = next((type(one) for one in accepted if one != ""), None)
    fits = not declared or type(value) in declared
    if not fits and type(value) is not usual:
        kinds = "/".join(sorted(kind.__name__ for kind in declared))
        return Mistake("wrong type", f"{name}: {_short(value)} is no {kinds}")
    if isinstance(value, list) and not _entries_fit(value, accepted, schema.get("items")):
        return Mistake("wrong type", f"{name}: {_short(value)} has entries of another type")
    exact = not fits or (usual is not None and bool(declared) and usual not in declared)
    if optional and _empty(value, exact):
        return None
    if exact:
        same = any(
            one == value and isinstance(one, bool) == isinstance(value, bool) for one in accepted
        )
    else:
        same = any(_same(value, one) for one in accepted if one != "" or isinstance(value, str))
    if same:
        return None
    wanted = " or ".join(_short(one) for one in accepted[:3]) or "nothing"
    return Mistake(
        _KINDS.get(type(value), "wrong value"), f"{name}: {_short(value)}, wanted {wanted}"
    )


def _entries_fit(value: list[Any], accepted: Sequence[Any], items: Any) -> bool:
    """Whether a list's entries have the declared type, or that of an accepted list's entries."""
    declared = _declared(items) if isinstance(items, Mapping) else ()
    if not declared or not accepted:
        return True
    for one in accepted:
        usual = {type(one[0])} if isinstance(one, list) and one else set()
        if not isinstance(one, list) or all(type(v) in {*declared, *usual} for v in value):
            return True
    return False


def _declared(schema: Mapping[str, Any]) -> tuple[type, ...]:
    names = schema.get("type")
    listed = names if isinstance(names, list) else [names]
    return tuple(_TYPES[one] for one in listed if isinstance(one, str) and one in _TYPES)


def _empty(value: Any, exact: bool) -> bool:
    """Whether an optional argument is as good as left out."""
    if isinstance(value, str):
        return value == "" if exact else standard(value) == ""
    return isinstance(value, list) and not value


def _same(given: Any, accepted: Any) -> bool:
    if isinstance(given, bool) or isinstance(accepted, bool):
        return given is accepted
    if isinstance(given, str) and isinstance(accepted, str):
        return standard(given) == standard(accepted)
    if isinstance(given, list) and isinstance(accepted, list):
        return len(given) == len(accepted) and all(map(_same, given, accepted))
    if isinstance(given, dict) and isinstance(accepted, dict):
        return given.keys() == accepted.keys() and all(_same(given[k], accepted[k]) for k in given)
    return bool(given == accepted)


def _assign(found: list[list[list[Mistake]]]) -> list[int]:
    """For each call the place that it takes: right ones first, each place once."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, wrong in enumerate(found[row]):
            if wrong or column in seen:
                continue
            seen.add(column)
            if column not in taken or place(taken[column], seen):
                taken[column] = row
                return True
        return False

    for row in range(len(found)):
        place(row, set())
    of_row = {row: column for column, row in taken.items()}
    free = [column for column in range(len(found)) if column not in taken]
    for row in range(len(found)):
        if row not in of_row:
            of_row[row] = free.pop(min(range(len(free)), key=lambda i: len(found[row][free[i]])))
    return [of_row[row] for row in range(len(found))]


def _arguments(call: ToolCall) -> dict[str, Any] | None:
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return None
    return arguments if isinstance(arguments, dict) else None


def _readable(call: ToolCall) -> str:
    arguments = _arguments(call)
    if arguments is None:
        return f"{call.name}({call.arguments})"
    given = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items()
    )
    return f"{call.name}({given})"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"
