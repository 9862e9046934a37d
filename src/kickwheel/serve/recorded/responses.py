"""OpenAI's responses: items instead of messages, events instead of chunks.

Source: the API reference of OpenAI, Responses, and Streaming events.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast, get_args

import msgspec

from kickwheel.models.answer import BYTES_A_TOKEN
from kickwheel.models.chat import Usage
from kickwheel.models.sse import Events
from kickwheel.records import Message, ToolCall
from kickwheel.records.message import Role
from kickwheel.serve.recorded.answered import Answered
from kickwheel.serve.recorded.chat import text

_ENDED = ("response.completed", "response.incomplete", "response.failed")
_SILENT = ("reasoning", "compaction")
"""Items that say nothing to people."""
Place = tuple[str, str, str]
"""Project, tenant and user: nobody goes on from what was said elsewhere."""
_REMEMBERED_BYTES = 64 << 20
"""Of the conversations that may go on, so much is remembered."""


class Conversations:
    """What was said before, where a request only names the response that it goes on from."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Place, str], tuple[tuple[Message, ...], int]] = OrderedDict()
        """By place and the id of the last response: all messages, and how many bytes are new in
        them."""
        self._bytes = 0

    def messages(
        self, place: Place, body: Mapping[str, Any], unread: list[str]
    ) -> tuple[Message, ...]:
        """The conversation that a request has, with what it goes on from at its place; what is not
        known or no text is named in `unread`."""
        read: list[Message] = []
        if isinstance(body.get("instructions"), str):
            read.append(Message(role="system", content=body["instructions"]))
        before = body.get("previous_response_id")
        if isinstance(before, str):
            if (place, before) in self._known:
                read += self._known[place, before][0]
            else:
                unread.append("previous_response_id: what came before")
        if body.get("conversation") is not None:
            unread.append("conversation: what came before")
        given = body.get("input")
        if isinstance(given, str):
            read.append(Message(role="user", content=given))
        if isinstance(given, list):
            read += _turns(given, unread)
        return tuple(read)

    def remember(
        self,
        place: Place,
        said: Answered,
        body: Mapping[str, Any],
        asked: tuple[Message, ...],
        size: int,
    ) -> None:
        """Keeps the conversation for whoever goes on from its last response.

        Args:
            asked: what `messages` read.
            size: bytes that are new in it.
        """
        if not said.id or said.message is None:
            return
        # Instructions are of one request and do not go on.
        whole = (*asked[isinstance(body.get("instructions"), str) :], said.message)
        _, replaced = self._known.pop((place, said.id), ((), 0))
        self._known[place, said.id] = (whole, size)
        self._bytes += size - replaced
        while self._bytes > _REMEMBERED_BYTES:
            self._bytes -= self._known.popitem(last=False)[1][1]


def answered(data: bytes, body: Mapping[str, Any], *, cut: bool) -> Answered:
    """The answer that the bytes hold.

    Args:
        body: the request, whose tokens are estimated where nobody counted.
        cut: whether the end is missing, as everybody knows.
    """
    begun = data.lstrip()[:1]
    found = _object(data) if begun == b"{" else _streamed(data)
    if found is None:
        return Answered(error=None if cut else "the answer is no response of OpenAI's protocol")
    turns = _turns(_list(found.get("output")), [])
    message = _one(turns)
    answer = Answered(
        message=message,
        finish=_finish(found, message),
        usage=_usage(found, body, message),
        model=str(found.get("model") or ""),
        id=str(found.get("id") or ""),
    )
    failed = found.get("error")
    if isinstance(failed, Mapping):
        answer.error = str(failed.get("message") or failed)
    elif not answer.finish and not cut and found.get("status") not in ("queued", "in_progress"):
        answer.error = "the answer broke off"
    return answer


def _streamed(data: bytes) -> dict[str, Any] | None:
    """The response as its last event has it; of a stream that was cut, what its events make up."""
    events = Events()
    found: dict[str, Any] | None = None
    items: dict[int, dict[str, Any]] = {}
    try:
        for line in (*events.feed(data), *events.close()):
            # Of the many pieces only those are read that no later event repeats.
            event = _object(line)
            if event is None:
                continue
            kind, index = event.get("type"), event.get("output_index")
            if kind in _ENDED or kind == "response.created":
                found = _mapping(event.get("response"))
                if kind in _ENDED:
                    return found
            elif kind == "error":
                found = {**(found or {}), "error": event}
            elif isinstance(index, int):
                _piece(items, index, str(kind), event)
    except ValueError:
        pass
    if found is None:
        return None
    return {**found, "status": "cut", "output": [items[index] for index in sorted(items)]}


def _piece(items: dict[int, dict[str, Any]], index: int, kind: str, event: dict[str, Any]) -> None:
    if kind in ("response.output_item.added", "response.output_item.done"):
        items[index] = _mapping(event.get("item"))
        return
    item, delta = items.get(index), event.get("delta")
    if item is None or not isinstance(delta, str):
        return
    if kind == "response.output_text.delta":
        said = item.get("content")
        parts = said if isinstance(said, list) and said else [{"type": "output_text", "text": ""}]
        parts[-1]["text"] = str(parts[-1].get("text") or "") + delta
        item["content"] = parts
    if kind == "response.function_call_arguments.delta":
        item["arguments"] = str(item.get("arguments") or "") + delta


def _turns(items: list[Any], unread: list[str]) -> list[Message]:
    """Items as messages; calls that follow one another, and the text before, are one message."""
    read: list[Message] = []
    for item in items:
        kind = item.get("type", "message") if isinstance(item, Mapping) else None
        if kind == "message" and item.get("role") in get_args(Role):
            read.append(_spoken(item, unread))
        elif kind == "function_call":
            call = ToolCall(
                id=str(item.get("call_id") or item.get("id") or ""),
                name=str(item.get("name") or ""),
                arguments=str(item.get("arguments") or ""),
            )
            if read and read[-1].role == "assistant":
                read[-1] = replace(read[-1], tool_calls=(*read[-1].tool_calls, call))
            else:
                read.append(Message(role="assistant", tool_calls=(call,)))
        elif kind == "function_call_output":
            said = text(item.get("output"), unread)
            identity = str(item.get("call_id") or "")
            read.append(Message(role="tool", content=said or "", tool_call_id=identity))
        elif kind not in _SILENT:
            unread.append(str(kind))
    return read


def _spoken(item: Mapping[str, Any], unread: list[str]) -> Message:
    return Message(role=cast(Role, item["role"]), content=text(item.get("content"), unread) or "")


def _one(turns: list[Message]) -> Message | None:
    """The answer, which may have come as several messages."""
    if not turns:
        return None
    said = "\n".join(turn.content for turn in turns if turn.content)
    calls = tuple(call for turn in turns for call in turn.tool_calls)
    return Message(role="assistant", content=said or None, tool_calls=calls)


def _finish(found: Mapping[str, Any], message: Message | None) -> str:
    if found.get("status") == "incomplete":
        reason = _mapping(found.get("incomplete_details")).get("reason")
        return "content_filter" if reason == "content_filter" else "length"
    if found.get("status") != "completed":
        return ""
    return "tool_calls" if message is not None and message.tool_calls else "stop"


def _usage(found: Mapping[str, Any], body: Mapping[str, Any], message: Message | None) -> Usage:
    said = _mapping(found.get("usage"))
    read, written = said.get("input_tokens"), said.get("output_tokens")
    if isinstance(read, int) and isinstance(written, int):
        cached = _mapping(said.get("input_tokens_details")).get("cached_tokens")
        return Usage(
            prompt_tokens=max(0, read),
            output_tokens=max(0, written),
            cached_tokens=cached if isinstance(cached, int) else 0,
        )
    asked = {name: body[name] for name in ("instructions", "input", "tools") if name in body}
    calls = message.tool_calls if message is not None else ()
    given = (message.content or "" if message is not None else "") + "".join(
        call.name + call.arguments for call in calls
    )
    return Usage(
        prompt_tokens=-(-len(msgspec.json.encode(asked)) // BYTES_A_TOKEN),
        output_tokens=-(-len(given.encode(errors="replace")) // BYTES_A_TOKEN),
        estimated=True,
    )


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
