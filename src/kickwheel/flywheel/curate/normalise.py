"""One way of writing what means the same, so that a model need not learn two."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kickwheel.flywheel.curate.extract import Candidate
from kickwheel.records import Message, ToolCall, ToolSpec


def normalise(candidate: Candidate) -> Candidate:
    """The candidate in normal form; the same object where it was so already.

    Text: NFC, lines end with \\n, no blanks at the ends. Calls: arguments as JSON in the order of
    the tool's schema.
    """
    messages = tuple(_message(message, candidate.tools) for message in candidate.messages)
    answer = _message(candidate.answer, candidate.tools)
    if answer.tool_calls and not answer.content and answer.content is not None:
        answer = replace(answer, content=None)
    if answer is candidate.answer and all(
        a is b for a, b in zip(messages, candidate.messages, strict=True)
    ):
        return candidate
    return replace(candidate, messages=messages, answer=answer)


def plain(text: str) -> str:
    """The text as it is compared: NFKC, without case, single blanks."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def question(messages: tuple[Message, ...]) -> str:
    """What was asked, in plain form: all that was said and called, without the system's part."""
    said = []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        if message.content:
            said.append(message.content)
        said.extend(f"{call.name} {call.arguments}" for call in message.tool_calls)
    return plain("\n".join(said))


def _message(message: Message, tools: tuple[ToolSpec, ...]) -> Message:
    content = None if message.content is None else _text(message.content)
    calls = tuple(_call(call, tools) for call in message.tool_calls)
    if content == message.content and calls == message.tool_calls:
        return message
    return replace(message, content=content, tool_calls=calls)


def _text(text: str) -> str:
    if "\r" in text:
        text = re.sub(r"\r\n?", "\n", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text.strip()


def _call(call: ToolCall, tools: tuple[ToolSpec, ...]) -> ToolCall:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return call
    if not isinstance(arguments, dict):
        return call
    tool = next((tool for tool in tools if tool.name == call.name), None)
    properties = tool.parameters.get("properties") if tool is not None else None
    known: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
    place = {name: position for position, name in enumerate(known)}
    ordered = dict(sorted(arguments.items(), key=lambda item: place.get(item[0], len(place))))
    written = json.dumps(ordered, ensure_ascii=False)
    return call if written == call.arguments else replace(call, arguments=written)
