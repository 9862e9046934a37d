"""A conversation in turns of user and assistant, as Anthropic's and Bedrock's protocols want it.

Results of tools belong to the user's turn, and two turns of one side are one. What the system says
stands apart, in front.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from kickwheel.records import Message

SMALLEST_PREFIX = 4096
"""Bytes, some 1,024 tokens: a shorter prefix no provider caches."""
Turn = tuple[Literal["user", "assistant"], list[Message]]


def in_turns(messages: Iterable[Message]) -> tuple[list[str], list[Turn]]:
    """What the system says before anybody else, and the turns.

    What it says later stands in the user's turn: these protocols have no other place for it.
    """
    system: list[str] = []
    turns: list[Turn] = []
    for message in messages:
        if message.role in ("system", "developer") and not turns:
            if message.content:
                system.append(message.content)
            continue
        said = message.content or message.tool_calls or message.images
        if not said and message.role != "tool":
            continue  # A turn without words is refused.
        side: Literal["user", "assistant"] = "assistant" if message.role == "assistant" else "user"
        if not turns or turns[-1][0] != side:
            turns.append((side, []))
        turns[-1][1].append(message)
    return system, turns


def arguments(text: str) -> Mapping[str, Any]:
    """A call's arguments as the object that these protocols want; broken ones under `broken`."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"broken": text}


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
