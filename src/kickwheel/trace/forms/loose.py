"""Messages, however observers of other programs wrote them down.

An input or output is a text, a message, a list of messages, or an object that holds them; a message
has the words of OpenAI, of Anthropic (`tool_use`, `tool_result` parts), of Bedrock (`toolUse`,
`toolResult` parts) or of LangChain (`human`, `ai`). What is no message at all becomes one: the JSON
of the value, said by whoever speaks there.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from kickwheel.records import Message, ToolCall, ToolSpec
from kickwheel.records.message import Role
from kickwheel.records.openai import tool_from_openai
from kickwheel.records.responses import items_from_input, messages_from_items
from kickwheel.trace.forms.form import loaded

_ROLES = {
    "human": "user",
    "ai": "assistant",
    "model": "assistant",
    "function": "tool",
    "agent": "assistant",
    # smolagents' own; its models get them as these.
    "tool-call": "assistant",
    "tool-response": "user",
}
_WRAPPERS = ("messages", "input", "output", "response")
_LEFT_OUT = ("thinking", "redacted_thinking", "reasoning", "thought")
_PYTHON = {"args", "kwargs", "sanitize_inputs_outputs"}
"""What a call of a Python function was given, as LlamaIndex, DSPy and smolagents write it."""


def messages(value: object, role: Role) -> tuple[Message, ...]:
    """What was said.

    Args:
        role: who speaks where the value does not say.
    Raises:
        ValueError: a part of it is no text.
    """
    written, value = value, loaded(value)
    if value is None or value in ("", [], {}):
        return ()
    if isinstance(value, str):
        return (Message(role=role, content=value),)
    if isinstance(value, Mapping):
        if _is_message(value):
            return _said(value, role)
        if _is_response(value):
            return _items(value["output"])
        choices = value.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
            return messages(choices[0].get("message"), "assistant")
        for key in _WRAPPERS:
            inner = loaded(value.get(key))
            if isinstance(inner, list) and inner and all(_is_message(one) for one in inner):
                return messages(inner, role)
    if isinstance(value, list) and all(_is_message(one) for one in value):
        return tuple(said for one in value for said in _said(one, role))
    if isinstance(value, list) and all(_is_call(one) for one in value):
        return _said({"role": "assistant", "content": None, "tool_calls": value}, role)
    if isinstance(value, list) and all(_is_response(one) for one in value):
        return tuple(said for one in value for said in _items(one["output"]))
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return messages(value[0], role)  # LangChain gives a batch of one.
    return (Message(role=role, content=text(written)),)


def tools(value: object) -> tuple[ToolSpec, ...]:
    """The tools that were offered: OpenAI's, Anthropic's, or objects by name.

    Raises:
        ValueError: one of them is no tool.
    """
    value = loaded(value)
    if isinstance(value, Mapping):
        value = [
            {"name": name, **one} if isinstance(one := loaded(spec), Mapping) else {"name": name}
            for name, spec in value.items()
        ]
    if not isinstance(value, list):
        return ()
    return tuple(_tool(loaded(one)) for one in value)


def call(entry: object, position: int) -> ToolCall:
    """A call, in whosever words: `function.name`, `name` with `args`, `arguments` or `input`.

    Raises:
        ValueError: it has no name.
    """
    entry = loaded(entry)
    entry = entry if isinstance(entry, Mapping) else {}
    function = entry.get("function")
    inner = function if isinstance(function, Mapping) else entry
    name = inner.get("name") or inner.get("raw_name") or inner.get("function_name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"tool_calls[{position}] has no name")
    written: Any = next(
        (inner[key] for key in ("arguments", "raw_arguments", "args", "input") if key in inner), {}
    )
    if written is None:
        written = inner.get("raw_arguments", {})
    arguments = written if isinstance(written, str) else json.dumps(written, ensure_ascii=False)
    identity = entry.get("id") or entry.get("tool_call_id") or f"call_{position}"
    return ToolCall(id=str(identity), name=name, arguments=arguments or "{}")


def tool_call(name: str, arguments: object, identity: str) -> tuple[Message, ...]:
    """What a tool's span was asked, as our own tools' spans have it: the call."""
    given = loaded(arguments)
    if isinstance(given, Mapping) and "kwargs" in given and given.keys() <= _PYTHON:
        arguments = given["kwargs"] if not given.get("args") else arguments
    if not isinstance(loaded(arguments), Mapping):
        arguments = {} if arguments in (None, "") else {"input": arguments}
    written = text(arguments)
    asked = ToolCall(id=identity, name=name, arguments=written)
    return (Message(role="assistant", tool_calls=(asked,)),)


def tool_result(value: object, identity: str) -> tuple[Message, ...]:
    """What a tool's span gave, as our own tools' spans have it; a message of role tool is taken
    for its content, LlamaIndex's object of blocks for their text."""
    inner = loaded(value)
    if _is_message(inner) and "content" in _opened(inner):
        value = _opened(inner)["content"]
    elif isinstance(inner, Mapping) and isinstance(inner.get("blocks"), list):
        value = _text(inner["blocks"])
    if value is None:
        return ()
    return (Message(role="tool", content=text(value), tool_call_id=identity),)


def answered(value: object) -> str | None:
    """Id of the call that a tool's result says it belongs to."""
    inner = loaded(value)
    identity = _opened(inner).get("tool_call_id") if _is_message(inner) else None
    return identity if isinstance(identity, str) else None


def text(value: object) -> str:
    """A tool's arguments or result as text: itself, or its JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_message(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    value = _opened(value)
    said = value.get("role") or value.get("type")
    known = isinstance(said, str) and (said in _ROLES or said in get_args(Role))
    return known and ("content" in value or "tool_calls" in value or "text" in value)


def _opened(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message in LangChain's `{"type": "ai", "data": {…}}`; others as they are."""
    data = entry.get("data")
    return data if "content" not in entry and isinstance(data, Mapping) else entry


def _is_call(value: object) -> bool:
    function = value.get("function") if isinstance(value, Mapping) else None
    return isinstance(function, Mapping) and "arguments" in function


def _is_response(value: object) -> bool:
    """Whether it is an answer of OpenAI's Responses."""
    if not isinstance(value, Mapping) or value.get("object") != "response":
        return False
    return isinstance(value.get("output"), list)


def _items(output: list[Any]) -> tuple[Message, ...]:
    return messages_from_items(items_from_input(output))


def _said(entry: Mapping[str, Any], role: Role) -> tuple[Message, ...]:
    entry = _opened(entry)
    written = str(entry.get("role") or entry.get("type"))
    who = _ROLES.get(written, written)
    speaker: Role = next((one for one in get_args(Role) if one == who), role)
    content = entry.get("content", entry.get("text"))
    parts = [_typed(part) for part in content] if isinstance(content, list) else []
    uses = [one for one in parts if _of(one) in ("tool_use", "tool_call")]
    results = [one for one in parts if _of(one) in ("tool_result", "tool_call_response")]
    calls = entry.get("tool_calls")
    calls = calls if isinstance(calls, list) else []
    answers = tuple(
        Message(
            role="tool",
            content=_text(one.get("content", one.get("result"))),
            tool_call_id=str(one.get("tool_use_id") or one.get("id") or ""),
        )
        for one in results
    )
    rest = [one for one in parts if one not in uses and one not in results]
    said = _text(rest) if isinstance(content, list) else _text(content)
    if answers and not said and not uses:
        return answers
    by = entry.get("tool_call_id")
    message = Message(
        role=speaker,
        content=said or None if (uses or calls) else said,
        tool_calls=tuple(call(one, position) for position, one in enumerate([*calls, *uses])),
        tool_call_id=str(by or "") if speaker == "tool" else None,
    )
    return (*answers, message)


def _typed(part: Any) -> Any:
    """A part with its type; Bedrock's say by their only key what they are."""
    if not isinstance(part, Mapping) or "type" in part:
        return part
    for key, kind in (("toolUse", "tool_use"), ("toolResult", "tool_result")):
        inner = part.get(key)
        if isinstance(inner, Mapping):
            return {**inner, "type": kind, "id": inner.get("toolUseId")}
    return {"type": "reasoning"} if "reasoningContent" in part else part


def _of(part: object) -> str:
    return str(part.get("type")) if isinstance(part, Mapping) else ""


def _text(content: object) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return json.dumps(content, ensure_ascii=False)
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, Mapping) and "json" in part:
            texts.append(json.dumps(part["json"], ensure_ascii=False))
        elif _of(part) not in _LEFT_OUT:
            raise ValueError(f"content parts must be text; this one is {_of(part) or 'none'}")
    return "".join(texts)


def _tool(entry: object) -> ToolSpec:
    if not isinstance(entry, Mapping):
        raise ValueError("a tool must be an object")
    if isinstance(entry.get("function"), Mapping):
        return tool_from_openai(entry)
    schema = loaded(entry.get("parameters", entry.get("input_schema")))
    return tool_from_openai({"function": {**entry, "parameters": schema}})
