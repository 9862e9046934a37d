"""Tool calls as plain text, for models that know no others: thought, action, observation.

    Thought: I need the weather there.
    Action: weather
    Input: {"city": "Oslo"}
    Observation: Sunny.
    Thought: That is all.
    Answer: It is sunny in Oslo.

Small models keep to a form loosely. What is read here in spite of that has one meaning only: labels
in other letters or bold, a call written as one, words behind its JSON. All else is told to them.
"""

import ast
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import UNSET
from pydantic import AfterValidator

from kickwheel.models import calls
from kickwheel.records import Message, ToolSpec

STOP = "\nObservation:"
"""What a model must not write itself: what it has not been told yet."""

_LABEL = re.compile(
    r"^[ \t>*_#`-]*(thought|action[ _]input|action|input|observation|final answer|answer)"
    r"[ \t*_`]*:[ \t]*(?:\*\*)?[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_CALL = re.compile(r"([\w.-]+)\s*\((.*)\)\s*\Z", re.DOTALL)
_KEYS = (("name", "tool", "action"), ("arguments", "args", "input", "parameters"))


@dataclass(frozen=True, slots=True)
class Act:
    """A step that calls a tool."""

    thought: str
    name: str
    arguments: str
    """JSON text, as a call has it; it may be broken."""

    @property
    def written(self) -> str:
        """The step as it should have been written."""
        return step(self.thought, self.name, self.arguments)


@dataclass(frozen=True, slots=True)
class Say:
    """A step that answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Unread:
    """A step that could mean more than one thing, or nothing."""

    why: str


def _listing(prompt: str) -> str:
    try:
        listed = prompt.format(tools="\0")
    except (LookupError, ValueError) as error:
        raise ValueError(f"a brace that is none of {{tools}} is written twice: {error}") from error
    if "\0" not in listed:
        raise ValueError("the prompt must say where the tools are listed: {tools}")
    return prompt


Prompt = Annotated[str, AfterValidator(_listing)]
"""A prompt in which `{tools}` stands where the tools are listed."""


def step(thought: str, name: str, arguments: str) -> str:
    """A call as text."""
    before = f"Thought: {thought}\n" if thought else ""
    return f"{before}Action: {name}\nInput: {arguments}"


def grammar(tools: Sequence[ToolSpec]) -> str:
    """GBNF of one step."""
    return calls.step_grammar(
        tools, thought="Thought: ", name="\nAction: ", arguments="\nInput: ", answer="\nAnswer: "
    )


def described(tools: Iterable[ToolSpec]) -> str:
    """The tools in a few words: a line each, like a signature, and what they are for."""
    lines = []
    for tool in tools:
        about = " ".join(tool.description.split())
        lines.append(f"{calls.signature(tool)}{f': {about}' if about else ''}")
    return "\n".join(lines)


def told(messages: Sequence[Message]) -> list[Message]:
    """The conversation with its calls and results as text."""
    plain: list[Message] = []
    for message in messages:
        if message.role == "tool":
            text, images = f"Observation: {message.content or ''}", message.images
            if plain and plain[-1].role == "user" and plain[-1].content:
                before = plain.pop()
                text = f"{before.content}\n{text}"
                images = (*(before.images or ()), *(images or ())) or UNSET
            plain.append(Message(role="user", content=text, images=images))
        elif message.tool_calls:
            said = [step("", call.name, call.arguments) for call in message.tool_calls]
            text = "\n".join([*([message.content] if message.content else []), *said])
            plain.append(Message(role="assistant", content=text))
        else:
            plain.append(message)
    return plain


def read(text: str, tools: Sequence[ToolSpec]) -> Act | Say | Unread:
    """What the model's step means."""
    labels = [(found[1].lower(), found) for found in _LABEL.finditer(text)]
    # What stands behind something that the model observed by itself is made up.
    for position, (label, found) in enumerate(labels):
        if label == "observation":
            text, labels = text[: found.start()], labels[:position]
            break
    thought = _thought(text, labels)
    for position, (label, found) in enumerate(labels):
        if label in ("answer", "final answer"):
            said = text[found.end() :].strip()
            return Say(said) if said else Unread("the answer is empty")
        if label == "action":
            return _act(thought, text, labels[position:], tools)
    return Unread("there is neither a line that begins with Action: nor one with Answer:")


class Answering:
    """What of a step that comes in pieces is the answer."""

    def __init__(self) -> None:
        self._text = ""
        self._state: str = "before"

    def __call__(self, piece: str) -> str:
        """The part of the piece that is the answer's."""
        if self._state == "answer":
            return piece
        if self._state == "action":
            return ""
        self._text += piece
        for found in _LABEL.finditer(self._text):
            label = found[1].lower()
            if label in ("action", "observation"):
                self._state = "action"
                return ""
            rest = self._text[found.end() :].lstrip()
            if label in ("answer", "final answer") and rest:
                self._state = "answer"
                return rest
        return ""


_Labels = Sequence[tuple[str, re.Match[str]]]


def _thought(text: str, labels: _Labels) -> str:
    if not labels:
        return ""
    label, found = labels[0]
    if label != "thought":
        return " ".join(text[: found.start()].split())
    end = labels[1][1].start() if len(labels) > 1 else len(text)
    return " ".join(text[found.end() : end].split())


def _act(thought: str, text: str, labels: _Labels, tools: Sequence[ToolSpec]) -> Act | Unread:
    found = labels[0][1]
    end = labels[1][1].start() if len(labels) > 1 else len(text)
    name = text[found.end() : end].strip().strip("`\"'* ")
    arguments = ""
    if len(labels) > 1 and labels[1][0] not in ("thought", "action", "answer", "final answer"):
        end = labels[2][1].start() if len(labels) > 2 else len(text)
        arguments = text[labels[1][1].end() : end].strip()
    elif "\n" in name:
        # The line below the name, without a label of its own.
        name, _, arguments = name.partition("\n")
    name, arguments = _called(name.strip().strip("`\"'*., "), arguments.strip())
    if not name:
        return Unread("there is no tool's name behind Action:")
    name = _named(name, tools)
    tool = next((tool for tool in tools if tool.name == name), None)
    return Act(thought, name, _object(arguments, tool))


def _called(name: str, arguments: str) -> tuple[str, str]:
    """Name and arguments, where both were written as one."""
    if name.startswith("{") and not arguments:
        try:
            whole = json.loads(name)
        except ValueError:
            return name, arguments
        named, given = (next((whole[k] for k in keys if k in whole), None) for keys in _KEYS)
        if isinstance(named, str):
            return named, json.dumps(given or {}, ensure_ascii=False)
    found = _CALL.match(name)
    if not found or arguments:
        return name, arguments
    inside = found[2].strip()
    if inside.startswith("{") or not inside:
        return found[1], inside
    try:
        call = ast.parse(f"f({inside})", mode="eval").body
        assert isinstance(call, ast.Call)
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            return found[1], inside
        values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        return found[1], json.dumps(values, ensure_ascii=False)
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError):
        return found[1], inside


def _named(name: str, tools: Sequence[ToolSpec]) -> str:
    if any(tool.name == name for tool in tools):
        return name
    alike = [tool.name for tool in tools if tool.name.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else name


def _object(text: str, tool: ToolSpec | None) -> str:
    """The arguments without what stands around their JSON."""
    text = text.strip()
    if text.startswith("{"):
        try:
            _, end = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return text
        return text[:end]
    if not text or text.startswith(("`", "[")) or tool is None:
        return text
    # The one argument that a tool has may stand there bare.
    known = tool.parameters.get("properties") or {}
    if len(known) == 1:
        ((name, schema),) = known.items()
        if isinstance(schema, dict) and schema.get("type") == "string":
            return json.dumps({name: _bare(text)}, ensure_ascii=False)
    return text


def _bare(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text
