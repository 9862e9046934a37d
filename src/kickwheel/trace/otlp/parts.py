"""Messages and tools in the JSON of the GenAI conventions, both ways.

    {"role": "user", "parts": [{"type": "text", "content": "Rome?"}]}
    {"role": "assistant", "parts": [{"type": "tool_call", "id": "call_0", "name": "find",
                                     "arguments": {"city": "Rome"}}], "finish_reason": "tool_call"}
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_0", "response": "…"}]}

Source: semantic-conventions-genai v0.1.0, `gen-ai-input-messages.json`,
`gen-ai-output-messages.json`, `gen-ai-tool-definitions.json`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

from kickwheel.records import Message, ToolCall, ToolSpec
from kickwheel.records.message import Role
from kickwheel.trace.forms import loose
from kickwheel.trace.forms.form import loaded

_ROLES = {"human": "user", "ai": "assistant", "model": "assistant", "function": "tool"}
_LEFT_OUT = ("reasoning", "thinking", "redacted_thinking")


@dataclass(slots=True)
class Said:
    """What a list of messages came to."""

    messages: tuple[Message, ...] = ()
    reasons: tuple[str, ...] = ()
    """Why each answer ended, where it says so."""
    unread: tuple[str, ...] = ()
    """What could not be kept, such as an image."""


def said(value: object, role: Role) -> Said:
    """The messages that a value holds, JSON or not; nothing in it is an error.

    Args:
        role: who speaks where the value does not say.
    """
    value = loaded(value)
    entries = value if isinstance(value, list) else [value]
    found: list[Message] = []
    reasons: list[str] = []
    unread: list[str] = []
    if not any(isinstance(entry, Mapping) and "parts" in entry for entry in entries):
        return _loosely(value, role)
    for entry in entries:
        if not isinstance(entry, Mapping):
            continue
        speaker = _speaker(entry.get("role"), role)
        parts = entry.get("parts")
        parts = parts if isinstance(parts, list) else [parts]
        messages, left = _messages(parts, speaker, len(found))
        found += messages
        unread += left
        if isinstance(entry.get("finish_reason"), str):
            reasons.append(entry["finish_reason"])
    return Said(tuple(found), tuple(reasons), tuple(unread))


def text(value: object) -> str:
    """The text of a list of parts, as system instructions are written; or of a plain text."""
    value = loaded(value)
    parts = value if isinstance(value, list) else [value]
    return "".join(_text(part) or "" for part in parts)


def specs(value: object) -> tuple[ToolSpec, ...]:
    """The tools that a list of definitions offers; what is no tool is left out.

    The same text gives the same tools: they come again with every call of a model.
    """
    return _specs_of(value) if isinstance(value, str) else _specs(value)


@lru_cache(maxsize=256)
def _specs_of(text: str) -> tuple[ToolSpec, ...]:
    return _specs(loaded(text))


def _specs(value: object) -> tuple[ToolSpec, ...]:
    found = []
    for entry in value if isinstance(value, list) else [value]:
        entry = loaded(entry)
        inner = entry.get("function") if isinstance(entry, Mapping) else None
        told = inner if isinstance(inner, Mapping) else entry
        if not isinstance(told, Mapping) or not isinstance(told.get("name"), str):
            continue
        schema = told.get("parameters", told.get("input_schema", told.get("inputSchema")))
        schema = loaded(schema)
        if isinstance(schema, Mapping) and schema.keys() == {"json"}:
            schema = schema["json"]  # As Bedrock has it, and Strands.
        about = told.get("description")
        found.append(
            ToolSpec(
                name=told["name"],
                description=about if isinstance(about, str) else "",
                parameters=schema if isinstance(schema, Mapping) else {},
            )
        )
    return tuple(found)


def plain(messages: Iterable[Message], reasons: Sequence[str] | None = None) -> str:
    """The messages as JSON.

    Args:
        reasons: why each ended, for answers; as far as it is known.
    """
    entries = []
    for position, message in enumerate(messages):
        entry: dict[str, Any] = {"role": message.role, "parts": _parts(message)}
        if reasons is not None:
            ended = "tool_call" if message.tool_calls else "stop"
            entry["finish_reason"] = reasons[position] if position < len(reasons) else ended
        entries.append(entry)
    return json.dumps(entries, ensure_ascii=False)


def plain_tools(tools: Iterable[ToolSpec]) -> str:
    """The tools as JSON."""
    return json.dumps(
        [
            {
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            }
            for tool in tools
        ],
        ensure_ascii=False,
    )


def arguments(value: object) -> str:
    """A call's arguments as the model may have written them."""
    if value is None:
        return "{}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def result(value: object) -> str:
    """What a tool gave: a text, the texts of a list of parts, or the JSON of anything else."""
    value = value if value is not None else ""
    if isinstance(value, list) and value:
        texts = [one.get("text") if isinstance(one, Mapping) else None for one in value]
        if all(isinstance(one, str) for one in texts):
            return "".join(str(one) for one in texts)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _messages(parts: list[Any], role: Role, before: int) -> tuple[list[Message], list[str]]:
    texts: list[str] = []
    calls: list[ToolCall] = []
    answers: list[Message] = []
    unread: list[str] = []
    for position, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, Mapping) else "text"
        written = _text(part)
        if kind == "tool_call":
            identity = part.get("id") or f"call_{before + position}"
            made = arguments(part.get("arguments"))
            calls.append(ToolCall(id=str(identity), name=str(part.get("name")), arguments=made))
        elif kind == "tool_call_response":
            came = part.get("response", part.get("result"))
            content = None if came is None else result(came)
            by = part.get("id")
            answers.append(
                Message(role="tool", content=content, tool_call_id=None if by is None else str(by))
            )
        elif written is not None:
            texts.append(written)
        elif kind not in _LEFT_OUT:
            unread.append(f"a part of type {kind}")
    content = "".join(texts) if texts else None
    if answers and content is None and not calls:
        return answers, unread
    message = Message(role=role, content=content, tool_calls=tuple(calls))
    return [*answers, message], unread


def _text(part: object) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type", "text") == "text":
        content = part.get("content", part.get("text"))
        return content if isinstance(content, str) else None
    return None


def _loosely(value: object, role: Role) -> Said:
    try:
        return Said(loose.messages(value, role))
    except ValueError as error:
        return Said(unread=(str(error),))


def _speaker(written: object, otherwise: Role) -> Role:
    name = _ROLES.get(str(written), written)
    return next((role for role in get_args(Role) if role == name), otherwise)


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {
                "type": "tool_call_response",
                "id": message.tool_call_id,
                "response": message.content,
            }
        ]
    parts: list[dict[str, Any]] = []
    if message.content is not None:
        parts.append({"type": "text", "content": message.content})
    for call in message.tool_calls:
        parts.append(
            {
                "type": "tool_call",
                "id": call.id,
                "name": call.name,
                "arguments": _object(call.arguments),
            }
        )
    return parts


def _object(written: str) -> Any:
    """The arguments as an object, where the same text can be made of it again."""
    try:
        value = json.loads(written)
    except (ValueError, RecursionError):
        return written
    same = isinstance(value, dict) and json.dumps(value, ensure_ascii=False) == written
    return value if same else written
