"""The Messages protocol: requests and events, by `anthropic.types` and the rules of `talk`."""

from collections.abc import Mapping
from typing import Any

from anthropic.types import RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsStreaming

from kickwheel.models import messages
from tests.wires import shapes, talk
from tests.wires.talk import Block, Turn

_OLDER = {"temperature": 1.0, "top_p": 1.0}
"""What models before Claude 4.7 take, which the SDK's types name no more; and up to where."""


def message_body(*asking: Any) -> dict[str, Any]:
    """What `messages.message_body` makes, which Anthropic takes."""
    body = messages.message_body(*asking)
    found = asked(body)
    assert not found, found
    return body


def asked(body: Mapping[str, Any]) -> list[str]:
    """What Anthropic would not take of a request."""
    newer = {key: value for key, value in body.items() if key not in _OLDER}
    found = shapes.faults(MessageCreateParamsStreaming, {"stream": True, **newer})
    if found:
        return found
    found += [f"{k}: 0 to {most}" for k, most in _OLDER.items() if not 0 <= body.get(k, 0) <= most]
    tools = list(body.get("tools", ()))
    choice = body.get("tool_choice")
    if choice is not None and not tools:
        found.append("tool_choice may only be specified while providing tools")
    for tool in tools:
        if tool["input_schema"].get("type") != "object":
            found.append(f"tools: the schema of {tool['name']} must have type object")
    turns = [
        Turn(turn["role"], [_block(block) for block in _all(turn)]) for turn in body["messages"]
    ]
    chosen = (choice or {}).get("name")
    found += talk.faults(turns, [tool["name"] for tool in tools], chosen)
    for block in body.get("system", ()):
        if not block["text"].strip():
            found.append("system: text content blocks must contain non-whitespace text")
    if str(body).count("'cache_control'") > talk.MARKS:
        found.append(f"a maximum of {talk.MARKS} blocks with cache_control may be provided")
    return found


def said(event: Mapping[str, Any]) -> list[str]:
    """What of an event the SDK's types do not have."""
    if event.get("type") in ("error", "ping"):  # The SDK's types have only what its stream yields.
        return []
    return shapes.faults(RawMessageStreamEvent, event)


def _all(turn: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _block(block: Mapping[str, Any]) -> Block:
    match block["type"]:
        case "text":
            return Block("text", block["text"])
        case "image":
            return Block("picture")
        case "tool_use":
            return Block("use", identity=block["id"], name=block["name"])
        case "tool_result":
            return Block("result", identity=block["tool_use_id"])
    raise ValueError(f"we send no {block['type']}")
