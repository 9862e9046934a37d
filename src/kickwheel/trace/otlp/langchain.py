"""Messages as LangChain writes its objects down, which LangSmith sends as they are.

{"lc": 1, "type": "constructor", "id": ["langchain", …, "HumanMessage"],
 "kwargs": {"content": "Rome?", "type": "human"}}
{"generations": [[{"text": "…", "generation_info": {…}, "message": {…}}]]}
{"messages": [["user", "Rome?"]]}
"""

from collections.abc import Mapping
from typing import Any

from kickwheel.trace.forms.form import loaded

_CLASSES = {
    "HumanMessage": "user",
    "AIMessage": "assistant",
    "AIMessageChunk": "assistant",
    "SystemMessage": "system",
    "ToolMessage": "tool",
}


def unwrapped(value: object) -> Any:
    """The value with messages as OpenAI's or as LangChain's plain ones; others as they are."""
    value = loaded(value)
    if not isinstance(value, Mapping):
        return value
    generations = value.get("generations")
    if isinstance(generations, list) and generations and isinstance(generations[0], list):
        return [_message(entry.get("message", entry)) for entry in _mappings(generations[0])]
    messages = value.get("messages")
    if isinstance(messages, list) and messages:
        batch = messages[0] if _is_batch(messages) else messages
        return {"messages": [_message(entry) for entry in batch]}
    only = value.get("output")
    return _message(only) if len(value) == 1 and isinstance(only, Mapping) else value


def reasons(value: object) -> list[str]:
    """Why each generation ended, where it says so."""
    value = loaded(value)
    generations = value.get("generations") if isinstance(value, Mapping) else None
    first = generations[0] if isinstance(generations, list) and generations else None
    told = [entry.get("generation_info") for entry in _mappings(first)]
    found = [one.get("finish_reason") for one in told if isinstance(one, Mapping)]
    return [one for one in found if isinstance(one, str)]


def _is_batch(messages: list[Any]) -> bool:
    """Whether the messages are those of one conversation in a batch, and no pairs."""
    inner = messages[0]
    return isinstance(inner, list) and bool(inner) and isinstance(inner[0], Mapping)


def _message(entry: object) -> Any:
    if isinstance(entry, list) and len(entry) == 2:
        return {"role": entry[0], "content": entry[1]}
    if not isinstance(entry, Mapping):
        return entry
    held = entry.get("kwargs")
    if not isinstance(held, Mapping):
        return entry
    name = entry.get("id")
    written = name[-1] if isinstance(name, list) and name else held.get("type")
    role = _CLASSES.get(str(written), held.get("type"))
    return {**held, "role": role}


def _mappings(entries: object) -> list[Mapping[str, Any]]:
    return [one for one in entries if isinstance(one, Mapping)] if isinstance(entries, list) else []
