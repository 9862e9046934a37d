"""Chat and legacy completions: what was asked, and what came back, streamed or whole."""

from collections.abc import Mapping
from typing import Any

from kickwheel.models.answer import Answer
from kickwheel.models.chat import Collected, Delta
from kickwheel.records import Message
from kickwheel.records.openai import message_from_openai
from kickwheel.serve.recorded.answered import Answered

_TEXTS = ("text", "input_text", "output_text", "refusal")


def messages(body: Mapping[str, Any], unread: list[str]) -> tuple[Message, ...]:
    """The conversation that a chat request has; what is no text is named in `unread`."""
    entries = body.get("messages")
    read = [_message(entry, unread) for entry in entries] if isinstance(entries, list) else []
    return tuple(message for message in read if message is not None)


def prompt(body: Mapping[str, Any], unread: list[str]) -> tuple[Message, ...]:
    """The prompt of a legacy completion, as what a user said."""
    given = body.get("prompt")
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, str):
        return (Message(role="user", content=given),)
    unread.append("a prompt of tokens, or several")
    return ()


def text(content: object, unread: list[str]) -> str | None:
    """The text of a message's content; in the place of other parts stands what they are."""
    if content is None or isinstance(content, str):
        return content
    told = []
    for part in content if isinstance(content, list) else [content]:
        entry = part if isinstance(part, Mapping) else {"type": type(part).__name__}
        kind = entry.get("type")
        said = entry.get("refusal" if kind == "refusal" else "text") if kind in _TEXTS else None
        if not isinstance(said, str):
            said = f"[{kind}]"
            unread.append(str(kind))
        told.append(said)
    return "".join(told)


def answered(data: bytes, body: Mapping[str, Any], *, cut: bool) -> Answered:
    """The answer that the bytes hold.

    Args:
        body: the request, whose tokens are estimated where nobody counted.
        cut: whether the end is missing, as everybody knows.
    """
    answer, collected, error = Answer(str(body.get("model") or ""), asked=body), Collected(), None
    try:
        _collect(collected, answer.feed(data))
        if not cut:
            _collect(collected, answer.close())
    except ValueError as broken:
        error = str(broken)
        # What came before the break stays: read once more, by smaller pieces.
        answer, collected = Answer(str(body.get("model") or ""), asked=body), Collected()
        try:
            for line in data.splitlines(keepends=True):
                _collect(collected, answer.feed(line))
        except ValueError:
            pass
    done = collected.done
    message = collected.message()
    return Answered(
        message=message if message.content or message.tool_calls else None,
        finish="" if done is None else done.finish_reason,
        usage=answer.usage() if done is None else done.usage,
        model="" if done is None else done.model,
        id=answer.id or "",
        error=error,
    )


def _collect(collected: Collected, deltas: list[Delta]) -> None:
    for delta in deltas:
        collected.add(delta)


def _message(entry: object, unread: list[str]) -> Message | None:
    try:
        return message_from_openai(entry)
    except ValueError as error:
        if not isinstance(entry, Mapping):
            unread.append(str(error))
            return None
    # Other parts than text, mostly: an image leaves its mark.
    parts: list[str] = []
    try:
        read = message_from_openai({**entry, "content": text(entry.get("content"), parts)})
    except ValueError as error:
        unread.append(str(error))
        return None
    unread.extend(parts)
    return read
