"""Messages and tools to OpenAI's JSON and back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast, get_args

from kickwheel.records.message import Message, Role, ToolCall, ToolSpec

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
    if message.tool_call_id is not None:
        entry["tool_call_id"] = message.tool_call_id
    return entry


def message_from_openai(entry: object) -> Message:
    """The message that an entry of `messages` holds; parts of type text are joined.

    Raises:
        ValueError: the entry breaks the protocol, or has parts that are not text.
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
    content = _text(entry.get("content"))
    if content is None and not calls and role != "assistant":
        raise ValueError(f"a message of role {role} needs content")
    return Message(
        role=cast(Role, role),
        content=content,
        tool_calls=tuple(_call(call, position) for position, call in enumerate(calls)),
        tool_call_id=call_id if isinstance(call_id, str) else None,
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


def messages_from_openai(entries: Iterable[object]) -> tuple[Message, ...]:
    """All messages of a conversation; an error names the position.

    Raises:
        ValueError: as `message_from_openai`.
    """
    messages = []
    for position, entry in enumerate(entries):
        try:
            messages.append(message_from_openai(entry))
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


def _text(content: object) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        texts = []
        for part in content:
            if not isinstance(part, Mapping) or part.get("type") not in ("text", "input_text"):
                kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
                raise ValueError(f"content parts must be text; this one is {kind}")
            texts.append(str(part.get("text", "")))
        return "".join(texts)
    raise ValueError("content must be text or a list of parts")
