"""Calls as text, and grammars that allow no other text.

A call is its tool's name, then a line for each argument, in the order of the tool's schema:

    Events_3_FindEvents
    event_type: Music
    city: New York, NY
    date: -

Small models err most when they copy, so the form is made for copying: a value follows a space, as
it does in the question, and thus has the question's tokens; in JSON, after a quotation mark, it
would be cut into others. Strings stand bare where nothing can be mistaken, as JSON otherwise; all
else is compact JSON. Dates are written YYYY-MM-DD whatever the tool wants, and read back in the
tool's own format.

An optional argument that is not given has its line all the same, with a dash: whether to fill a
line that was begun is easier to decide than whether to begin one, and the model sees the names of
arguments although no schema stands in its prompt. Tools with more than `EXPLICIT` optional
arguments leave out the lines of those that are not given.

Several calls have an empty line between them.

Grammars are GBNF, as llama.cpp and vLLM take it.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.records import ToolCall, ToolSpec

Schema = Mapping[str, Any]

STRING_CHARS = 240
"""Characters of one string at most, where the schema sets no bound: a weak model would go on
without end."""
RANGE = 64
"""Integers between two bounds that a grammar names one by one at most; of more it holds the number
of digits."""
EXPLICIT = 8
"""Optional arguments of a tool up to which each has its line."""
NOT_GIVEN = "-"
PARALLEL_CALLS = 8
"""Calls in one answer at most."""

_DATE = re.compile(r"\b(YYYY|MM|DD)([-/.])(YYYY|MM|DD)\2(YYYY|MM|DD)\b")
_TIME = re.compile(r"\bHH:MM\b(?!:)")
_ISO = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_NUMBERS = ("number", "float", "double")
_OBJECTS = ("object", "dict")
_ARRAYS = ("array", "list", "tuple")


def write(calls: Sequence[ToolCall], tools: Sequence[ToolSpec] = ()) -> str:
    """The text form of the calls.

    Raises:
        DataError: the arguments of a call are no JSON object.
    """
    return "\n\n".join(_written(call, _schema_of(call.name, tools)) for call in calls)


def read(text: str, tools: Sequence[ToolSpec]) -> tuple[ToolCall, ...] | None:
    """The calls that the text stands for; `None` where it is no call to one of the tools."""
    found = []
    for position, block in enumerate(re.split(r"\n{2,}", text.strip())):
        name, _, rest = block.partition("\n")
        name = name.strip()
        if not any(tool.name == name for tool in tools):
            return None
        arguments = _arguments(rest, _schema_of(name, tools))
        if arguments is None:
            return None
        written = json.dumps(arguments, ensure_ascii=False)
        found.append(ToolCall(id=f"call_{position}", name=name, arguments=written))
    return tuple(found)


def signature(tool: ToolSpec) -> str:
    """The tool in one line: argument names, `?` after optional ones, enums and formats.

    `signature` of a search is `find(city:City, State, kind:Music|Theater, date?:YYYY-MM-DD)`.
    """
    required = _required(tool.parameters)
    parameters = (_parameter(n, s, n in required) for n, s in _properties(tool.parameters))
    return f"{tool.name}({', '.join(parameters)})"


def tools_grammar(tools: Sequence[ToolSpec], *, parallel: bool = False) -> str:
    """A grammar of calls to these tools: names, arguments in order, types, enums, formats.

    Optional arguments may be left out, required ones may not.

    Args:
        parallel: whether one answer may hold several calls.
    Raises:
        DataError: there are no tools.
    """
    if not tools:
        raise DataError("a grammar of calls needs at least one tool")
    rules = _Rules()
    names = []
    for number, tool in enumerate(tools):
        required = _required(tool.parameters)
        parts = [_quoted(tool.name)]
        explicit = _explicit(tool.parameters)
        for name, schema in _properties(tool.parameters):
            line, value = _quoted(f"\n{name}: "), _value(schema, rules, name in required)
            if name in required:
                parts.append(f"{line} {value}")
            elif explicit:
                parts.append(f"{line} ({_quoted(NOT_GIVEN)} | {value})")
            else:
                parts.append(f"({line} {value})?")
        rules.set(f"tool-{number}", " ".join(parts))
        names.append(f"tool-{number}")
    rules.set("call", " | ".join(names))
    more = f' ("\\n\\n" call){{0,{PARALLEL_CALLS - 1}}}' if parallel else ""
    return rules.text(f"call{more}")


def step_grammar(
    tools: Sequence[ToolSpec], *, thought: str, name: str, arguments: str, answer: str
) -> str:
    """A grammar of one step in plain text: a line of thought, then a call or an answer.

    Args:
        thought, name, arguments, answer: what stands before each, line breaks included.
    """
    rules = _Rules()
    rules.set("line", r"[^\n\r]{1,300}")
    rules.set("rest", r"[^\x00]+")
    ways = []
    for number, tool in enumerate(tools):
        given = '"{}"'
        if any(_properties(tool.parameters)):
            given = _json({**tool.parameters, "type": "object"}, rules)
        body = f"{_quoted(name + tool.name + arguments)} {given}"
        ways.append(rules.set(f"tool-{number}", body))
    ways.append(f"{_quoted(answer)} rest")
    return rules.text(f"{_quoted(thought)} line ({' | '.join(ways)})")


def schema_grammar(schema: Schema) -> str:
    """A grammar of compact JSON of this schema; what it cannot express is let pass as any JSON."""
    rules = _Rules()
    return rules.text(_json(schema, rules))


def labels_grammar(labels: Sequence[str]) -> str:
    """A grammar of these labels, word for word.

    Raises:
        DataError: there are no labels.
    """
    if not labels:
        raise DataError("a grammar of labels needs at least one label")
    return _Rules().text(" | ".join(_quoted(label) for label in labels))


def date_format(schema: Schema) -> str | None:
    """The format of an argument that is a date, `MM/DD/YYYY`: from `format` or its description."""
    if schema.get("type") != "string" or "enum" in schema or "pattern" in schema:
        return None
    if schema.get("format") == "date":
        return "YYYY-MM-DD"
    found = _DATE.search(str(schema.get("description", "")))
    if found is None or len({found[1], found[3], found[4]}) < 3:
        return None
    return found[0]


def to_iso(text: str, wanted: str) -> str:
    """The date as YYYY-MM-DD; text that is no date in the format `wanted` stays as it is."""
    parts = re.split(r"[-/.]", wanted)
    pattern = wanted.replace(".", r"\.")
    for part in parts:
        pattern = pattern.replace(part, rf"(?P<{part}>\d{{{len(part)}}})")
    found = re.fullmatch(pattern, text)
    return f"{found['YYYY']}-{found['MM']}-{found['DD']}" if found else text


def from_iso(text: str, wanted: str) -> str:
    """The date in the format `wanted`; text that is not YYYY-MM-DD stays as it is."""
    found = _ISO.fullmatch(text)
    if found is None:
        return text
    for part, digits in zip(("YYYY", "MM", "DD"), found.groups(), strict=True):
        wanted = wanted.replace(part, digits)
    return wanted


# Text


def _written(call: ToolCall, schema: Schema) -> str:
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise DataError(f"the arguments of a call to {call.name} are no JSON object")
    known, required = dict(_properties(schema)), _required(schema)
    explicit = _explicit(schema)
    lines = []
    for name in [*known, *(name for name in arguments if name not in known)]:
        if name in arguments:
            lines.append(f"{name}: {_literal(arguments[name], known.get(name, {}))}")
        elif explicit and name not in required:
            lines.append(f"{name}: {NOT_GIVEN}")
    return "\n".join([call.name, *lines])


def _literal(value: Any, schema: Schema) -> str:
    if isinstance(value, str):
        wanted = date_format(schema)
        if wanted is not None:
            value = to_iso(value, wanted)
        return value if _stands_bare(value, schema) else json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _stands_bare(value: str, schema: Schema) -> bool:
    if value != value.strip() or not value or value[0] in '"-' or len(value.splitlines()) > 1:
        return False
    return schema.get("type") == "string" or not _is_json(value)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _arguments(text: str, schema: Schema) -> dict[str, Any] | None:
    known = dict(_properties(schema))
    arguments: dict[str, Any] = {}
    for line in text.split("\n") if text else ():
        name, colon, value = line.partition(": ")
        if not colon:
            return None
        if value == NOT_GIVEN:
            continue
        arguments[name] = _meant(value, known.get(name, {}))
    return arguments


def _meant(text: str, schema: Schema) -> Any:
    if schema.get("type") == "string" and not text.startswith('"'):
        wanted = date_format(schema)
        return text if wanted is None else from_iso(text, wanted)
    try:
        return json.loads(text)
    except ValueError:
        return text


# Schemas


def _schema_of(name: str, tools: Sequence[ToolSpec]) -> Schema:
    return next((tool.parameters for tool in tools if tool.name == name), {})


def _properties(schema: Schema) -> Iterator[tuple[str, Schema]]:
    for name, inner in (schema.get("properties") or {}).items():
        yield name, inner if isinstance(inner, Mapping) else {}


def _required(schema: Schema) -> frozenset[str]:
    return frozenset(schema.get("required") or ())


def _explicit(schema: Schema) -> bool:
    """Whether arguments that are not given have their line too."""
    required = _required(schema)
    return sum(name not in required for name, _ in _properties(schema)) <= EXPLICIT


def _parameter(name: str, schema: Schema, required: bool) -> str:
    kind = ""
    options = schema.get("enum")
    if isinstance(options, list):
        kind = "|".join(_literal(option, schema) for option in options)
    elif (wanted := date_format(schema)) is not None:
        kind = wanted
    elif "City, State" in str(schema.get("description", "")):
        kind = "City, State"
    elif schema.get("type") not in (None, "string"):
        kind = str(schema["type"])
    return f"{name}{'' if required else '?'}{':' if kind else ''}{kind}"


# Grammars


class _Rules:
    """Rules by name, and the text of the grammar that they make."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def set(self, name: str, body: str) -> str:
        self._rules[name] = body
        return name

    def fresh(self, body: str) -> str:
        for name, known in self._rules.items():
            if known == body:
                return name
        return self.set(f"rule-{len(self._rules)}", body)

    def shared(self, name: str) -> str:
        if name not in self._rules:
            self._rules[name] = ""
            self._rules[name] = _SHARED[name](self)
        return name

    def text(self, root: str) -> str:
        lines = [f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._rules.items())]
        return "\n".join(lines) + "\n"


_SHARED: dict[str, Callable[["_Rules"], str]] = {
    "integer": lambda rules: '"-"? ("0" | [1-9] [0-9]{0,14})',
    "number": lambda rules: (
        f'{rules.shared("integer")} ("." [0-9]{{1,12}})? ([eE] [-+]? [0-9]{{1,3}})?'
    ),
    "boolean": lambda rules: '"true" | "false"',
    "char": lambda rules: r'[^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "date": lambda rules: '[12] [0-9] [0-9] [0-9] "-" [01] [0-9] "-" [0-3] [0-9]',
    "time": lambda rules: '[0-2] [0-9] ":" [0-5] [0-9]',
    "json": lambda rules: (
        f'{rules.shared("text")} | {rules.shared("number")} | {rules.shared("boolean")} | "null"'
        f' | "[" (json ("," json){{0,63}})? "]"'
        f' | "{{" (text ":" json ("," text ":" json){{0,63}})? "}}"'
    ),
    "text": lambda rules: rf'"\"" {rules.shared("char")}{{0,{STRING_CHARS}}} "\""',
}


def _value(schema: Schema, rules: _Rules, required: bool) -> str:
    """The rule of an argument's value in a call."""
    options = _options(schema)
    if options:
        return rules.fresh(" | ".join(_quoted(_literal(option, schema)) for option in options))
    if schema.get("type") != "string":
        return _json(schema, rules)
    rule = None
    if date_format(schema) is not None:
        rule = rules.shared("date")
    elif _TIME.search(str(schema.get("description", ""))) and "pattern" not in schema:
        rule = rules.shared("time")
    if rule is None:
        low, high = _bounds(schema)
        bare = f'[^ "\\n\\r\\t-] [^\\n\\r]{{{max(0, low - 1)},{max(0, high - 1)}}}'
        return rules.fresh(f"{bare} | {_text(schema, rules)}")
    default = schema.get("default")
    if required and isinstance(default, str) and default:
        # What must be given but is not known has only its default to say so.
        return rules.fresh(f"{rule} | {_quoted(_literal(default, schema))}")
    return rule


def _json(schema: Any, rules: _Rules, depth: int = 0) -> str:
    """The rule of a value as compact JSON."""
    if not isinstance(schema, Mapping) or depth > 16:
        return rules.shared("json")
    options = _options(schema)
    if options:
        return rules.fresh(" | ".join(_quoted(_compact(option)) for option in options))
    for key in ("anyOf", "oneOf"):
        branches = schema.get(key)
        if isinstance(branches, list) and branches:
            return rules.fresh(" | ".join(_json(branch, rules, depth + 1) for branch in branches))
    kind = schema.get("type")
    if isinstance(kind, list) and kind:
        return rules.fresh(
            " | ".join(_json({**schema, "type": one}, rules, depth + 1) for one in kind)
        )
    if kind == "string":
        return _text(schema, rules)
    if kind == "integer":
        return _integer(schema, rules)
    if kind in _NUMBERS:
        return rules.shared("number")
    if kind == "boolean":
        return rules.shared("boolean")
    if kind == "null":
        return rules.fresh('"null"')
    if kind in _ARRAYS:
        return _array(schema, rules, depth)
    if kind in _OBJECTS and schema.get("properties"):
        return _object(schema, rules, depth)
    return rules.shared("json")


def _options(schema: Schema) -> list[Any]:
    if "const" in schema:
        return [schema["const"]]
    options = schema.get("enum")
    return options if isinstance(options, list) else []


def _bounds(schema: Schema) -> tuple[int, int]:
    low = schema.get("minLength")
    high = schema.get("maxLength")
    low = low if isinstance(low, int) else 0
    # llama.cpp writes repetitions out, so that a bound of thousands would cost more than it saves.
    high = min(high, 2000) if isinstance(high, int) else STRING_CHARS
    return min(low, high), max(low, high)


def _integer(schema: Schema, rules: _Rules) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if type(low) is not int:
        return rules.shared("integer")
    if type(high) is int and 0 <= high - low < RANGE:
        return rules.fresh(" | ".join(f'"{number}"' for number in range(low, high + 1)))
    if low < 0:
        return rules.shared("integer")
    digits = len(str(high)) if type(high) is int and high > low else 15
    zero = "" if low else '"0" | '
    return rules.fresh(f"{zero}[1-9] [0-9]{{0,{digits - 1}}}")


def _text(schema: Schema, rules: _Rules) -> str:
    low, high = _bounds(schema)
    if (low, high) == (0, STRING_CHARS):
        return rules.shared("text")
    return rules.fresh(rf'"\"" {rules.shared("char")}{{{low},{high}}} "\""')


def _array(schema: Schema, rules: _Rules, depth: int) -> str:
    entry = _json(schema.get("items", True), rules, depth + 1)
    low = schema.get("minItems") if isinstance(schema.get("minItems"), int) else 0
    high = schema.get("maxItems") if isinstance(schema.get("maxItems"), int) else 64
    low, high = int(low or 0), int(high or 0)
    if high == 0:
        return rules.fresh('"[]"')
    more = f'{entry} ("," {entry}){{{max(0, low - 1)},{high - 1}}}'
    return rules.fresh(f'"[" {more} "]"' if low else f'"[" ({more})? "]"')


def _object(schema: Schema, rules: _Rules, depth: int) -> str:
    """Members in the order of the schema; optional ones may be left out.

    A comma stands between two members only, so each optional member takes its comma along: before
    it once something stands there, behind it otherwise.
    """
    required = _required(schema)
    members = [
        (f"{_quoted(_compact(name) + ':')} {_json(inner, rules, depth + 1)}", name in required)
        for name, inner in _properties(schema)
    ]
    # `after[i]`: what may follow when something already stands; `first[i]`: when nothing does.
    after, first = '""', '""'
    for body, must in reversed(members):
        begins = f"{body} {after}" if after != '""' else body
        goes_on = rules.fresh(f'"," {begins}' if must else f'("," {body})? {after}')
        starts = rules.fresh(begins if must else f"{begins} | {first}")
        after, first = goes_on, starts
    return rules.fresh(f'"{{" {first} "}}"')


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _quoted(text: str) -> str:
    """The text as a GBNF literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
