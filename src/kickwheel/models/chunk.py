"""A chunk of OpenAI's protocol: of its fields those that are read, decoded at once.

What is not quite the protocol is read field by field: what can be understood is, and the rest is as
if it were not there.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec


class Function(msgspec.Struct):
    """What is called; in a stream the name comes once, the arguments in pieces."""

    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct):
    """A call, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Part(msgspec.Struct):
    """A whole message, or a piece of one."""

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None


class Choice(msgspec.Struct):
    """One of the answers that were asked for."""

    index: int | None = None
    delta: Part | None = None
    message: Part | None = None
    text: str | None = None
    finish_reason: str | None = None


class Details(msgspec.Struct):
    """Of the prompt's tokens."""

    cached_tokens: int | None = None


class Counts(msgspec.Struct):
    """What the server counted."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None


class Chunk(msgspec.Struct):
    """What is read of a chunk, or of a whole answer; the rest is skipped."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: Counts | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


def read(data: bytes | bytearray) -> Chunk:
    """What the bytes of a chunk, or of a whole answer, say.

    Raises:
        ValueError: they are no object of JSON.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    # Not quite the protocol: what can be understood is, and the rest is as if it were not there.
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(foreign(bytes(data[:120])))
    return _understood(found)


def foreign(begins: bytes) -> str:
    """What is told of bytes that are not the protocol, from their beginning."""
    return f"not the OpenAI protocol: {begins.decode(errors='replace')}"


def _understood(found: Mapping[str, Any]) -> Chunk:
    choices = found.get("choices")
    usage = found.get("usage")
    chunk = Chunk(_str(found.get("id")), _str(found.get("model")), error=found.get("error"))
    if isinstance(choices, list):
        chunk.choices = [_choice(choice) for choice in choices if isinstance(choice, Mapping)]
    if isinstance(usage, Mapping):
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
        counts = (_int(usage.get("prompt_tokens")), _int(usage.get("completion_tokens")))
        chunk.usage = Counts(*counts, Details(_int(cached)))
    return chunk


def _choice(choice: Mapping[str, Any]) -> Choice:
    index, finish = choice.get("index"), choice.get("finish_reason")
    return Choice(
        # An index that is no number is nobody's first choice.
        index=index if index is None or isinstance(index, int) else -1,
        delta=_mapped(choice.get("delta")),
        message=_mapped(choice.get("message")),
        text=_str(choice.get("text")),
        finish_reason=str(finish) if finish else None,
    )


def _mapped(part: object) -> Part | None:
    if not isinstance(part, Mapping):
        return None
    calls = part.get("tool_calls")
    return Part(
        content=_str(part.get("content")),
        refusal=_str(part.get("refusal")),
        tool_calls=[_called(call) for call in calls if isinstance(call, Mapping)]
        if isinstance(calls, list)
        else None,
    )


def _called(call: Mapping[str, Any]) -> Call:
    function, identity = call.get("function"), call.get("id")
    function = function if isinstance(function, Mapping) else {}
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return Call(
        index=_int(call.get("index")),
        id=str(identity) if identity else None,
        function=Function(_str(function.get("name")), arguments),
    )


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) else None
