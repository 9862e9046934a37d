"""A chat request as it comes over the wire, read into what a model is asked."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from kickwheel.core.plugins import nearest
from kickwheel.models.chat import ChatRequest
from kickwheel.records import Message, ToolSpec
from kickwheel.records.openai import messages_from_openai, tool_from_openai
from kickwheel.serve.errors import Refused

KEPT_BYTES = 1 << 18
"""Tools that are kept read take so many bytes at most."""


class ChatBody(msgspec.Struct):
    """The fields of a chat request that we understand; others are passed on to the model."""

    model: str
    messages: list[Any]
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


def read(body: bytes) -> tuple[ChatBody, ChatRequest]:
    """The request that the body holds, as its fields and as what a model is asked.

    Raises:
        Refused: it breaks the protocol (400); the text and `param` say where.
    """
    plain, offered = fields(body)
    try:
        asked = msgspec.convert(plain, ChatBody)
    except msgspec.ValidationError as error:
        raise mistake(error) from error
    tools = _kept_tools(offered) if len(offered) <= KEPT_BYTES else _tools(offered)
    return asked, ChatRequest(
        messages=_messages(asked),
        tools=tools,
        tool_choice=choice(asked.tool_choice, tools),
        json_schema=_schema(asked.response_format),
        temperature=number("temperature", asked.temperature, 0, 2),
        top_p=number("top_p", asked.top_p, 0, 1),
        max_tokens=_limit(asked),
        stop=(asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ()),
        seed=asked.seed,
        whole=not asked.stream,
        extra={
            key: value
            for key, value in plain.items()
            if key not in ChatBody.__struct_fields__ and value is not None
        },
    )


def fields(body: bytes) -> tuple[dict[str, Any], bytes]:
    """The fields of a body as plain values, except `tools`: these as their own bytes.

    Raises:
        Refused: it is no JSON object (400).
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        offered = bytes(fields.pop("tools", b"null"))
        return {name: msgspec.json.decode(value) for name, value in fields.items()}, offered
    except msgspec.ValidationError as error:
        raise Refused(400, "The body must be a JSON object.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"The body is not JSON: {error}", code="invalid_json") from error


def _messages(asked: ChatBody) -> tuple[Message, ...]:
    if not asked.messages:
        raise Refused(400, "messages is empty: at least one is needed.", param="messages")
    try:
        return messages_from_openai(asked.messages, pictures=True)
    except ValueError as error:
        raise Refused(400, str(error), param="messages") from error


def _tools(offered: bytes) -> tuple[ToolSpec, ...]:
    try:
        entries = msgspec.json.decode(offered)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"The body is not JSON: {error}", code="invalid_json") from error
    if not isinstance(entries, list | None):
        raise Refused(400, "tools must be a list", param="tools")
    return tools_of(entries or (), tool_from_openai)


def tools_of(
    entries: Sequence[object], read_one: Callable[[object], ToolSpec]
) -> tuple[ToolSpec, ...]:
    """The tools that the entries hold.

    Raises:
        Refused: one is none, or two have the same name (400).
    """
    tools: dict[str, ToolSpec] = {}
    for position, entry in enumerate(entries):
        try:
            tool = read_one(entry)
        except ValueError as error:
            raise Refused(400, f"tools[{position}]: {error}", param="tools") from error
        if tool.name in tools:
            raise Refused(400, f'two tools are named "{tool.name}"', param="tools")
        tools[tool.name] = tool
    return tuple(tools.values())


# A client offers the same tools again and again: they are read once, and, being the same objects,
# redacted once too.
_kept_tools = lru_cache(maxsize=64)(_tools)


def choice(wanted: str | dict[str, Any] | None, tools: tuple[ToolSpec, ...]) -> str:
    """Which tools may or must be called, as `ChatRequest.tool_choice` has it.

    Raises:
        Refused: it is no such word, or names a function that is not among the tools (400).
    """
    if wanted is None:
        return "auto"
    names = {tool.name: tool for tool in tools}
    if isinstance(wanted, dict):
        function = wanted.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if wanted.get("type") != "function" or not isinstance(name, str):
            what = 'tool_choice must be a word or {"type": "function", "function": {"name": …}}'
            raise Refused(400, what, param="tool_choice")
        if name not in names:
            what = f'tool_choice names "{name}", which is not among the tools. '
            raise Refused(400, what + nearest(name, names), param="tool_choice")
        return name
    if wanted in ("auto", "none"):
        return wanted
    if wanted != "required":
        what = f'no tool_choice "{wanted}"; there are auto, none, required, or one function'
        raise Refused(400, what, param="tool_choice")
    if not tools:
        raise Refused(400, "tool_choice is required, but there are no tools", param="tool_choice")
    return wanted


def texts(name: str, value: object, most: int) -> list[str]:
    """The text, or the list of texts, that the field `name` holds.

    Raises:
        Refused: it holds none, tokens, or more texts than `most` (400).
    """
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found:
        raise Refused(400, f"{name} must be a text or a list of texts", param=name)
    if not all(isinstance(text, str) for text in found):
        what = f"{name} must be text: tokens are another model's numbers and are not taken"
        raise Refused(400, what, param=name)
    if len(found) > most:
        what = f"{name} has {len(found)} texts; at most {most} are taken at once"
        raise Refused(400, what, param=name)
    return found


def _schema(wanted: dict[str, Any] | None) -> Mapping[str, Any] | None:
    if wanted is None or wanted.get("type") == "text":
        return None
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    inner = wanted.get("json_schema")
    if wanted.get("type") == "json_schema" and isinstance(inner, dict):
        schema = inner.get("schema", {"type": "object"})
        if isinstance(schema, dict):
            return schema
    what = 'response_format must be {"type": …} of text, json_object, or json_schema with a schema'
    raise Refused(400, what, param="response_format")


def number(name: str, value: float | None, low: float, high: float) -> float | None:
    """The value, if it is within the limits.

    Raises:
        Refused: it is not (400).
    """
    if value is not None and not low <= value <= high:
        raise Refused(400, f"{name} must be from {low} to {high}, not {value}", param=name)
    return value


def _limit(asked: ChatBody) -> int | None:
    if asked.n not in (None, 1):
        raise Refused(400, f"n must be 1 here, not {asked.n}: ask several times", param="n")
    if asked.stream_options is not None and not asked.stream:
        raise Refused(400, "stream_options goes only with stream", param="stream_options")
    for name in ("max_completion_tokens", "max_tokens"):
        value: int | None = getattr(asked, name)
        if value is not None:
            if value < 1:
                raise Refused(400, f"{name} must be at least 1, not {value}", param=name)
            return value
    return None


def mistake(error: msgspec.ValidationError) -> Refused:
    """The refusal of a body one of whose fields is missing or of a wrong type."""
    what, _, where = str(error).partition(" - at `$.")
    param = where.rstrip("`") or None
    if param is None and "missing required field `" in what:
        param = what.split("`")[1]
        return Refused(400, f"{param} is missing", param=param)
    return Refused(400, f"{param}: {what[:1].lower()}{what[1:]}", param=param)
