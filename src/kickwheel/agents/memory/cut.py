"""What a window leaves out of a conversation, told by position.

A cut says nothing of the messages that stay, so it can be kept in little space and laid again over
the same conversation when it has grown: the messages that it covers come out byte for byte as
before, and an engine that has read them goes on from there.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from msgspec import UNSET

from kickwheel.agents.memory.memory import KEPT
from kickwheel.models.pictures import own
from kickwheel.records import Message

ID_CHARS = 16
"""Hex digits that name a message by all that was said up to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What stands for messages that were left out."""

    at: int
    """Position of the first message that it stands for."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """A tool's result of which head and tail are left."""

    at: int
    head: int
    """Characters kept of the beginning."""
    tail: int
    """Characters kept of the end."""
    resource: str
    """Under what name the whole can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What is left out of a conversation."""

    dropped: tuple[int, ...] = ()
    """Positions of the messages that are left out, ascending."""
    summaries: tuple[Summary, ...] = ()
    trims: tuple[Trim, ...] = ()

    @property
    def covers(self) -> int:
        """How many messages from the first on it is about: any longer conversation that begins
        with these can be cut in the same way."""
        return max([*self.dropped, *(trim.at for trim in self.trims)], default=-1) + 1

    def applied(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation with this cut."""
        left_out = frozenset(self.dropped)
        before = {summary.at: summary for summary in self.summaries}
        trims = {trim.at: trim for trim in self.trims}
        made: list[Message] = []
        for position, message in enumerate(messages):
            if position in before:
                made.append(Message(role="user", content=before[position].text))
            if position in left_out:
                continue
            made.append(trimmed(message, trims[position]) if position in trims else message)
        return tuple(made)


def trimmed(message: Message, trim: Trim) -> Message:
    """The result with its middle left out; as it is where that would not make it shorter."""
    text = message.content or ""
    missing = len(text) - trim.head - trim.tail
    note = f"[… {missing:,} characters {KEPT} {trim.resource}; read them with the tool recall]"
    tail = text[len(text) - trim.tail :] if trim.tail else ""
    short = "\n".join(part for part in (text[: trim.head], note, tail) if part)
    if missing <= 0 or len(short) >= len(text):
        return message
    return replace(message, content=short, images=UNSET)


def chain(messages: Iterable[Message]) -> list[str]:
    """A name for each message that depends on all before it: equal only in equal conversations.

    Pictures of results say nothing of it: a model is shown the last of them only.
    """
    names = []
    sofar = b""
    for message in messages:
        sofar = hashlib.sha256(sofar + repr(own(message)).encode()).digest()
        names.append(sofar.hex()[:ID_CHARS])
    return names


def units(messages: Sequence[Message]) -> list[range]:
    """The conversation in pieces that must stay together: a call with its results, else a message.

    Messages that stand between a call and its result belong to the piece.
    """
    last: dict[str, int] = {}
    reach = list(range(len(messages)))
    for position, message in enumerate(messages):
        for call in message.tool_calls:
            last[call.id] = position
        if message.tool_call_id is not None and message.tool_call_id in last:
            reach[last[message.tool_call_id]] = position
    pieces = []
    start = 0
    while start < len(messages):
        stop = position = start
        while position <= stop:
            stop = max(stop, reach[position])
            position += 1
        pieces.append(range(start, stop + 1))
        start = stop + 1
    return pieces
