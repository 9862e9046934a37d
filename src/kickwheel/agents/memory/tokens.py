"""How many tokens a conversation has: counted by the model that will read it, where it can.

A model that offers `prompt_tokens(request)` counts with its own tokenizer and template. For all
others `estimate` tells a number that is rarely too small: by word, not by length, since code, ids
and other alphabets have several times the tokens of English prose.
"""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import cast

from msgspec import structs

from kickwheel.core.errors import ModelError
from kickwheel.models import pictures
from kickwheel.models.chat import ChatRequest, Model
from kickwheel.records import Message, ToolSpec
from kickwheel.records.openai import tool_to_openai

A_TURN = 6
"""Tokens around a message: its role and the marks of its begin and end."""
A_CALL = 8
"""Tokens around a call: the JSON that it is written in."""
MANY = 4_096
"""Messages whose tokens are remembered."""
LONG = 200_000
"""Characters from which a text is not read word by word: its bytes are taken, which are more."""

_PIECE = re.compile(r" ?[A-Z]?[a-z]+| [0-9]|[ ]+|[\x00-\x7f]|[^\x00-\x7f]+")
_COMMON = (
    "the a an of to in on at for and or is are was be it that this with you your i my me we as by "
    "from not have can do please if"
)
_ENGLISH = frozenset(f" {word}" for word in _COMMON.split())
_HARD = re.compile(r"[bcdfghjklmnpqrstvwxz]{3,}")

Asks = Callable[[ChatRequest], Awaitable[int]]


def estimate(text: str) -> int:
    """Tokens of a text for a tokenizer that is not known.

    Calibrated on SmolLM2's of 49,152 tokens, smaller than those of the large models, so that they
    need fewer. A word after a blank counts one token for each three letters, more where it is very
    long or consonants follow each other as in no word; letters inside an id two a token; digits,
    the blank before one, capitals and signs one each; other alphabets their bytes; text without
    common English words a quarter more. Of English it is about half too much.
    """
    if len(text) > LONG:
        return len(text.encode(errors="replace"))
    pieces = _PIECE.findall(text)
    tokens = sum(map(_piece, pieces))
    words = [piece for piece in pieces if piece[0] == " " and piece[1:].isalpha()]
    foreign = len(words) >= 5 and sum(map(_ENGLISH.__contains__, words)) < len(words) / 12
    return tokens + tokens // 4 if foreign else tokens


@lru_cache(maxsize=16_384)
def _piece(piece: str) -> int:
    if piece.isspace():
        return 0 if piece == " " else 1
    if not piece.isascii():
        return len(piece.encode(errors="replace"))
    if piece[-1].isdigit():
        return len(piece)
    word = piece.strip()
    if word is piece:
        return (len(word) + 1) // 2 if len(word) > 2 else len(word)
    hard = sum(len(run) - 2 for run in _HARD.findall(word.lower()))
    return 1 + max(0, len(word) - 2) // 3 + max(0, len(word) - 12) // 4 + (hard + 1) // 2


def as_written(tools: Sequence[ToolSpec]) -> str:
    """The tools as a server writes them into a prompt, more or less."""
    return json.dumps([tool_to_openai(tool) for tool in tools], ensure_ascii=False)


def surely_fits(messages: Sequence[Message], tools: Sequence[ToolSpec], budget: int) -> bool:
    """Whether it fits however it is counted: no token is less than a byte."""
    size = len(as_written(tools)) if tools else 0
    for message in messages:
        size += 16 + len(message.content or "")
        for call in message.tool_calls:
            size += 16 + len(call.name) + len(call.arguments)
        if 4 * size > budget:
            return False
    return True


class Counter:
    """Counts for one model; equal messages are counted once."""

    def __init__(self, model: Model | None = None) -> None:
        self._ask = cast(Asks | None, getattr(model, "prompt_tokens", None))
        self._known: dict[Message, int] = {}
        self._tools: dict[str, int] = {}
        self._around: int | None = None

    @property
    def exact(self) -> bool:
        """Whether the model's own tokenizer counts."""
        return self._ask is not None

    async def __call__(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of each message."""
        for message in messages:
            if message not in self._known:
                if len(self._known) >= MANY:
                    self._known.clear()
                self._known[message] = await self._count(message)
        return [self._known[message] for message in messages]

    async def fixed(self, tools: Sequence[ToolSpec]) -> int:
        """Tokens that a prompt has besides its messages: the tools, and what begins the answer."""
        around = await self._beginning()
        if not tools:
            return around
        written = as_written(tools)
        if written not in self._tools:
            if len(self._tools) >= 64:
                self._tools.clear()
            self._tools[written] = await self._of_tools(tools, written)
        return around + self._tools[written]

    async def whole(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> int:
        """Tokens of the whole prompt."""
        if self._ask is not None:
            try:
                return await self._ask(ChatRequest(messages=tuple(messages), tools=tuple(tools)))
            except ModelError:
                pass
        return sum(await self(messages)) + await self.fixed(tools)

    async def _of_tools(self, tools: Sequence[ToolSpec], written: str) -> int:
        if self._ask is not None:
            probe = ChatRequest(messages=(_PROBE,))
            try:
                with_tools = await self._ask(structs.replace(probe, tools=tuple(tools)))
                return with_tools - await self._ask(probe)
            except ModelError:
                pass
        return A_TURN + estimate(written)

    async def _count(self, message: Message) -> int:
        if self._ask is not None:
            try:
                return await self._one(message)
            except ModelError:  # Many templates refuse a conversation of a result alone.
                pass
        calls = sum(A_CALL + estimate(c.name) + estimate(c.arguments) for c in message.tool_calls)
        seen = pictures.TOKENS * len(message.images or ())
        return A_TURN + estimate(message.content or "") + calls + seen

    async def _one(self, message: Message) -> int:
        assert self._ask is not None
        return await self._ask(ChatRequest(messages=(message,))) - await self._beginning()

    async def _beginning(self) -> int:
        """Tokens that begin the answer: what two equal turns have less than twice one turn."""
        if self._around is None:
            self._around = 0 if self._ask is not None else A_TURN
            if self._ask is not None:
                try:
                    one = await self._ask(ChatRequest(messages=(_PROBE,)))
                    two = await self._ask(ChatRequest(messages=(_PROBE, _PROBE)))
                    self._around = max(0, 2 * one - two)
                except ModelError:
                    pass
        return self._around


_PROBE = Message(role="user", content="Hello.")
