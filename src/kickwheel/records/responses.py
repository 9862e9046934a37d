"""Items and tools of OpenAI's Responses to messages and tools of ours.

A conversation there is a list of items: what was said (`message`), each call (`function_call`) and
each result (`function_call_output`) on its own. Here one turn of a model is one message with all
its calls.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from msgspec import UNSET

from kickwheel.records.message import Images, Message, Role, ToolCall, ToolSpec
from kickwheel.records.openai import picture, tool_from_openai

UNDERSTOOD = ("message", "function_call", "function_call_output", "reasoning")
"""Types of items that are understood; `reasoning` is taken and left out."""
_TEXTS = ("input_text", "output_text", "text")
_SPEAKERS = tuple(role for role in get_args(Role) if role != "tool")


def items_from_input(given: str | Sequence[object]) -> list[dict[str, Any]]:
    """The input of a request as whole items: types named, texts as parts.

    Raises:
        ValueError: an item is none that is understood, or is broken; the text names its place.
    """
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = []
    for position, entry in enumerate(given):
        try:
            items.append(_item(entry))
        except ValueError as error:
            raise ValueError(f"input[{position}]: {error}") from error
    return items


def messages_from_items(
    items: Iterable[Mapping[str, Any]], before: Iterable[Mapping[str, Any]] = ()
) -> tuple[Message, ...]:
    """The conversation that whole items make up.

    Args:
        before: items of the responses that this one goes on from.
    Raises:
        ValueError: a result belongs to no call.
    """
    messages: list[Message] = []
    called: set[str] = set()
    known = list(before)
    for position, item in enumerate([*known, *items], -len(known)):
        match item["type"]:
            case "message":
                said, images = _read(item["content"])
                messages.append(Message(role=item["role"], content=said, images=images))
            case "function_call":
                call = ToolCall(id=item["call_id"], name=item["name"], arguments=item["arguments"])
                called.add(call.id)
                if not messages or messages[-1].role != "assistant":
                    messages.append(Message(role="assistant"))
                last = messages[-1]
                messages[-1] = replace(last, tool_calls=(*last.tool_calls, call))
            case "function_call_output":
                answered = item["call_id"]
                if answered not in called:
                    raise ValueError(
                        f'input[{position}]: no function_call "{answered}" comes before its '
                        "output. Send that item too, or previous_response_id."
                    )
                said, images = _read(_parts(item["output"], "output"))
                messages.append(
                    Message(role="tool", content=said, tool_call_id=answered, images=images)
                )
    return tuple(messages)


def tool_from_response(entry: object) -> ToolSpec:
    """The tool that an entry of `tools` holds.

    Raises:
        ValueError: it is no function tool, or has no name.
    """
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    if kind != "function":
        raise ValueError(f'tools of type function are understood here, not "{kind}"')
    return tool_from_openai({"type": "function", "function": entry})


def _item(entry: object) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ValueError(f"an item must be an object, not {type(entry).__name__}")
    kind = entry.get("type") or ("message" if "role" in entry else None)
    match kind:
        case "message":
            return _message(entry)
        case "function_call":
            name, arguments = entry.get("name"), entry.get("arguments")
            if not isinstance(name, str) or not isinstance(arguments, str):
                raise ValueError("a function_call needs a name and arguments as JSON text")
            return {**_called(entry), "name": name, "arguments": arguments}
        case "function_call_output":
            output = entry.get("output")
            _parts(output, "output")
            return {**_called(entry), "output": output}
        case "reasoning":
            return dict(entry)
    known = ", ".join(UNDERSTOOD)
    raise ValueError(f'no item of type "{kind}" is understood here, only {known}')


def _message(entry: Mapping[str, Any]) -> dict[str, Any]:
    role = entry.get("role")
    if role not in _SPEAKERS:
        raise ValueError(f'no role "{role}"; there are {", ".join(_SPEAKERS)}')
    parts = _parts(entry.get("content"), "content")
    if role != "user" and any(part["type"] == "input_image" for part in parts):
        raise ValueError(f"pictures come from the user or a tool, not from {role}")
    if role == "assistant":
        said = {"text": parts[0]["text"], "annotations": [], "logprobs": []}
        parts = [{"type": "output_text", **said}]
    return _named({"type": "message", "role": role, "status": "completed", "content": parts}, entry)


def _called(entry: Mapping[str, Any]) -> dict[str, Any]:
    call = entry.get("call_id")
    if not isinstance(call, str) or not call:
        raise ValueError(f"a {entry['type']} needs its call_id")
    return _named({"type": entry["type"], "call_id": call, "status": "completed"}, entry)


def _named(item: dict[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    identity = entry.get("id")
    return {"id": identity, **item} if isinstance(identity, str) and identity else item


def _parts(content: object, key: str) -> list[dict[str, Any]]:
    """What was said as parts: texts, as one between two pictures, and the pictures."""
    if isinstance(content, str):
        content = [{"type": "input_text", "text": content}]
    if not isinstance(content, Sequence):
        raise ValueError(f"{key} must be text or a list of parts")
    parts: list[dict[str, Any]] = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind == "input_image":
            if part.get("image_url") is None and part.get("file_id") is not None:
                raise ValueError("file_id of a picture is not understood here: send its image_url")
            image = picture(part.get("image_url"), part.get("detail"), 0)
            detail = image.detail or "auto"
            parts.append({"type": kind, "detail": detail, "image_url": image.url})
        elif kind == "refusal" or kind in _TEXTS:
            text = str(part.get("refusal" if kind == "refusal" else "text", ""))
            if parts and parts[-1]["type"] == "input_text":
                parts[-1]["text"] += text
            else:
                parts.append({"type": "input_text", "text": text})
        else:
            raise ValueError(f"parts of {key} must be text or input_image; this one is {kind}")
    return parts or [{"type": "input_text", "text": ""}]


def _read(parts: Iterable[Mapping[str, Any]]) -> tuple[str, Images]:
    """What parts say, and the pictures among them."""
    text = ""
    images = []
    for part in parts:
        if part["type"] == "input_image":
            images.append(picture(part["image_url"], part["detail"], len(text)))
        else:
            text += part["text"]
    return text, tuple(images) or UNSET
