"""Messages and tools to OpenAI's JSON and back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast, get_args

from msgspec import UNSET

from kickwheel.records.message import Image, Message, Role, ToolCall, ToolSpec

ROLES = get_args(Role)


def message_to_openai(message: Message) -> dict[str, Any]:
    """The message as an entry of `messages`."""
    entry: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        entry["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    elif message.content is None:
        entry["content"] = ""  # Without calls the protocol wants a text.
    if message.tool_call_id is not None:
        entry["tool_call_id"] = message.tool_call_id
    return entry


def message_from_openai(entry: object, *, pictures: bool = False) -> Message:
    """The message that an entry of `messages` holds; parts of type text are joined.

    Args:
        pictures: whether a user's message may hold pictures, which then stand there by their URL.
    Raises:
        ValueError: the entry breaks the protocol, or has parts that are not understood.
    """
    if type(entry) is dict and len(entry) == 2 and type(entry.get("content")) is str:
        # What most messages are, read without asking further.
        said = entry.get("role")
        if said in ROLES and said != "tool":
            return Message(role=cast(Role, said), content=entry["content"])
    if not isinstance(entry, Mapping):
        raise ValueError(f"a message must be an object, not {type(entry).__name__}")
    role = entry.get("role")
    if role not in ROLES:
        raise ValueError(f'no role "{role}"; there are {", ".join(ROLES)}')
    calls = entry.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise ValueError("tool_calls must be a list")
    call_id = entry.get("tool_call_id")
    if role == "tool" and not isinstance(call_id, str):
        raise ValueError("a message of role tool needs the tool_call_id that it answers")
    content, images = _said(entry.get("content"), pictures=pictures and role == "user")
    if content is None and not calls and role != "assistant":
        raise ValueError(f"a message of role {role} needs content")
    return Message(
        role=cast(Role, role),
        content=content,
        tool_calls=tuple(_call(call, position) for position, call in enumerate(calls)),
        tool_call_id=call_id if isinstance(call_id, str) else None,
        images=images or UNSET,
    )


def tool_to_openai(tool: ToolSpec) -> dict[str, Any]:
    """The tool as an entry of `tools`."""
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        },
    }


def tool_from_openai(entry: object) -> ToolSpec:
    """The tool that an entry of `tools` holds.

    Raises:
        ValueError: it is no function tool, or has no name.
    """
    function = entry.get("function") if isinstance(entry, Mapping) else None
    if not isinstance(function, Mapping):
        raise ValueError('a tool must be {"type": "function", "function": {…}}')
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a tool needs a name")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping):
        raise ValueError(f"the parameters of {name} must be a JSON Schema object")
    return ToolSpec(
        name=name, description=function.get("description") or "", parameters=dict(parameters)
    )


def messages_from_openai(
    entries: Iterable[object], *, pictures: bool = False
) -> tuple[Message, ...]:
    """All messages of a conversation; an error names the position.

    Args:
        pictures: as `message_from_openai`.
    Raises:
        ValueError: as `message_from_openai`.
    """
    messages = []
    for position, entry in enumerate(entries):
        try:
            messages.append(message_from_openai(entry, pictures=pictures))
        except ValueError as error:
            raise ValueError(f"messages[{position}]: {error}") from error
    return tuple(messages)


def _call(entry: object, position: int) -> ToolCall:
    function = entry.get("function") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(function, Mapping):
        raise ValueError(f"tool_calls[{position}] must be a function call")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise ValueError(f"tool_calls[{position}] needs a name and arguments as JSON text")
    return ToolCall(id=str(entry.get("id") or f"call_{position}"), name=name, arguments=arguments)


def picture(url: object, detail: object, at: int) -> Image:
    """A picture that a caller sent, by its URL.

    Args:
        at: characters of the message before it.
    Raises:
        ValueError: the URL is none at which a picture can be.
    """
    if not isinstance(url, str) or not url.startswith(("data:", "https://")):
        raise ValueError("the URL of a picture must begin with data: or https://")
    return Image(url=url, sent=True, at=at, detail=detail if isinstance(detail, str) else "")


def _said(content: object, *, pictures: bool) -> tuple[str | None, tuple[Image, ...]]:
    if content is None or isinstance(content, str):
        return content, ()
    if not isinstance(content, Sequence):
        raise ValueError("content must be text or a list of parts")
    text = ""
    images = []
    for part in content:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if kind in ("text", "input_text"):
            text += str(part.get("text", ""))
        elif kind == "image_url" and pictures:
            where = part.get("image_url")
            if not isinstance(where, Mapping):
                raise ValueError('image_url must be {"url": …}')
            images.append(picture(where.get("url"), where.get("detail"), len(text)))
        else:
            known = "text or image_url" if pictures else "text"
            raise ValueError(f"content parts must be {known}; this one is {kind}")
    return text, tuple(images)
