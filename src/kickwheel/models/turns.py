"""A conversation in turns of user and assistant, as Anthropic's and Bedrock's protocols want it.

Results of tools belong to the user's turn, and two turns of one side are one. What the system says
stands apart, in front. Both refuse (400) what other models take: a conversation that begins with
the assistant or ends with it, a text of blanks, a call without its result, an id that another call
has too, as servers give that count from 0 in each answer. So any conversation gets a form that they
take.

Source: platform.claude.com, Messages, and Handle tool calls; docs.aws.amazon.com/bedrock, Converse.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from kickwheel.records import Message, ToolCall, ToolSpec

SMALLEST_PREFIX = 4096
"""Bytes, some 1,024 tokens: a shorter prefix no provider caches."""
Turn = tuple[Literal["user", "assistant"], list[Message]]
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Ids of calls and names of tools."""
_ON = Message(role="user", content="Go on.")
_OPENAI_ONLY = frozenset(
    (
        *("audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"),
        *("metadata", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty"),
        *("prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "safety_identifier"),
        *("service_tier", "store", "stream", "stream_options", "top_logprobs", "user"),
        *("verbosity", "web_search_options", "cache_prompt"),
    )
)
"""Fields of OpenAI's protocol for which others have no such field; any client may send them."""


def in_turns(
    messages: Iterable[Message], *, sees: bool = False
) -> tuple[list[str], list[Turn], tuple[ToolSpec, ...]]:
    """What the system says before anybody else, the turns, and the tools that are called in them,
    of which only the name is known.

    What the system says later stands in the user's turn: these protocols have no other place for
    it.

    Args:
        sees: whether pictures are sent along.
    """
    system: list[str] = []
    turns: list[Turn] = [("user", [])]
    for message in messages:
        said = _said(message, sees)
        if said is None:
            continue
        if said.role in ("system", "developer") and turns == [("user", [])]:
            system.append(said.content or "")
            continue
        side: Literal["user", "assistant"] = "assistant" if said.role == "assistant" else "user"
        if turns[-1][0] != side:
            turns.append((side, []))
        turns[-1][1].append(said)
    if turns[-1][0] == "assistant":
        turns.append(("user", []))
    paired = _paired(turns)
    names = {call.name: None for _, said in paired for m in said for call in m.tool_calls}
    bare = {"type": "object", "properties": {}}
    return system, paired, tuple(ToolSpec(name=name, parameters=bare) for name in names)


def arguments(text: str) -> Mapping[str, Any]:
    """A call's arguments as the object that these protocols want; broken ones under `broken`."""
    try:
        found = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"broken": _utf8(text)}


def others(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Of a request's further fields those that are not OpenAI's own: they go to the model."""
    kept = {key: value for key, value in extra.items() if key not in _OPENAI_ONLY}
    metadata = extra.get("metadata")
    if isinstance(metadata, Mapping) and metadata.keys() == {
        "user_id"
    }:  # Anthropic's, not OpenAI's.
        kept["metadata"] = metadata
    return kept


def _said(message: Message, sees: bool) -> Message | None:
    """The message as it may be sent; `None` where it says nothing."""
    content = _utf8(message.content or "")
    images = message.images if sees and message.role != "assistant" else UNSET
    if not content.strip():
        content = ""
        if not (images or message.tool_calls or message.role == "tool"):
            return None
    return Message(
        role=message.role,
        content=content or None,
        tool_calls=message.tool_calls if message.role == "assistant" else (),
        tool_call_id=message.tool_call_id,
        images=images or UNSET,
    )


def _paired(turns: list[Turn]) -> list[Turn]:
    """The turns, the results of each call in the one right behind it."""
    made: list[Turn] = []
    seen: set[str] = set()
    owed: list[tuple[str, str]] = []
    """Calls of the turn before: the id that they had, and the one that they have."""
    for side, said in turns:
        if side == "assistant":
            owed = []
            made.append((side, [_called(message, seen, owed) for message in said]))
            continue
        results: dict[str, Message] = {}
        rest: list[Message] = []
        for message in said:
            same = [to for was, to in owed if was == message.tool_call_id and to not in results]
            if message.role == "tool" and same:
                results[same[0]] = _result(same[0], message)
            elif message.role == "tool":
                text = f"Result of a call: {message.content or '(nothing)'}"
                rest.append(Message(role="user", content=text, images=message.images))
            else:
                rest.append(message)
        none = Message(role="tool", content="(no result)")
        first = [results.get(to) or _result(to, none) for _, to in owed]
        made.append((side, [*first, *rest] or [_ON]))
    return made


def _called(message: Message, seen: set[str], owed: list[tuple[str, str]]) -> Message:
    """The message with calls whose ids no other call has."""
    calls = []
    for call in message.tool_calls:
        identity, number = call.id, len(seen)
        while identity in seen or not _NAME.fullmatch(identity):
            identity, number = f"call_{number}", number + 1
        seen.add(identity)
        owed.append((call.id, identity))
        name = re.sub(r"[^a-zA-Z0-9_-]", "_", call.name)[:64] or "tool"
        calls.append(ToolCall(id=identity, name=name, arguments=call.arguments))
    return Message(role="assistant", content=message.content, tool_calls=tuple(calls))


def _result(identity: str, message: Message) -> Message:
    return Message(
        role="tool", content=message.content, tool_call_id=identity, images=message.images
    )


def _utf8(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 has not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def label_schema(key: str, labels: Iterable[str]) -> dict[str, Any]:
    """Schema of an object that has one of the labels under `key`."""
    return {
        "type": "object",
        "properties": {key: {"type": "string", "enum": list(labels)}},
        "required": [key],
        "additionalProperties": False,
    }


def label(key: str, text: str) -> str:
    """The label in an answer of `label_schema`; the text itself where there is none."""
    try:
        found = json.loads(text)[key]
    except (ValueError, KeyError, TypeError, IndexError):
        return text
    return found if isinstance(found, str) else text
