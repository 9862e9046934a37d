"""What Anthropic and Bedrock demand of a conversation beyond its shape.

The sentences are those of their refusals (400), or of their documentation:
platform.claude.com, Messages, Tool use («Handle tool calls»: results stand first, right behind the
calls, one for each), and Migration guide (no answer is begun for the newest models);
docs.aws.amazon.com/bedrock, Converse, Message and ToolConfiguration.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Names of tools, and ids of calls."""
MARKS = 4
"""For the cache, in one request at most."""


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a turn."""

    kind: Literal["text", "picture", "use", "result", "mark"]
    text: str = ""
    identity: str = ""
    """Of the call that it is, or that it answers."""
    name: str = ""
    """Of the tool that it calls."""


@dataclass(frozen=True, slots=True)
class Turn:
    side: str
    blocks: Sequence[Block]


def faults(turns: Sequence[Turn], tools: Sequence[str], chosen: str | None) -> Iterator[str]:
    """What is wrong with a conversation.

    Args:
        tools: names of those that are offered.
        chosen: name of the one that must be called.
    """
    if not turns or turns[0].side != "user":
        yield "messages: a conversation must start with a user message"
    elif turns[-1].side != "user":
        yield "messages: the conversation must end with a user message"
    uses: list[str] = []
    """Of the turn before."""
    seen: set[str] = set()
    for place, turn in enumerate(turns):
        where = f"messages.{place}"
        if place and turns[place - 1].side == turn.side:
            yield f"{where}: roles must alternate between user and assistant"
        yield from _turn(where, turn, uses)
        uses = [block.identity for block in turn.blocks if block.kind == "use"]
        if len(set(uses)) < len(uses) or seen & set(uses):
            yield f"{where}: tool_use ids must be unique"
        seen |= set(uses)
    if uses:
        yield f"messages.{len(turns) - 1}: no results of {uses}"
    yield from _tools(turns, tools, chosen)


def _turn(where: str, turn: Turn, uses: list[str]) -> Iterator[str]:
    kinds = [block.kind for block in turn.blocks]
    if not set(kinds) - {"mark"}:
        yield f"{where}.content: must not be empty"
    for place, block in enumerate(turn.blocks):
        at = f"{where}.content.{place}"
        if block.kind == "text" and not block.text.strip():
            yield f"{at}: text content blocks must contain non-whitespace text"
        if block.kind in ("picture", "result") and turn.side != "user":
            yield f"{at}: a {block.kind} belongs to the user's turn"
        if block.kind == "use" and turn.side != "assistant":
            yield f"{at}: tool_use blocks can only be in assistant messages"
        if block.kind == "use" and not NAME.fullmatch(block.name):
            yield f"{at}: the name {block.name!r} should match {NAME.pattern}"
        if block.kind in ("use", "result") and not NAME.fullmatch(block.identity):
            yield f"{at}: the id {block.identity!r} should match {NAME.pattern}"
    results = [block.identity for block in turn.blocks if block.kind == "result"]
    if sorted(results) != sorted(uses):
        yield f"{where}: results of {results}, but the calls before were {uses}"
    if kinds[: len(results)] != ["result"] * len(results):
        yield f"{where}: tool results must stand first"


def _tools(turns: Sequence[Turn], tools: Sequence[str], chosen: str | None) -> Iterator[str]:
    called = any(block.kind in ("use", "result") for turn in turns for block in turn.blocks)
    if called and not tools:
        yield "tools: requests which include tool_use or tool_result blocks must define tools"
    if len(set(tools)) < len(tools):
        yield "tools: tool names must be unique"
    for name in tools:
        if not NAME.fullmatch(name):
            yield f"tools: the name {name!r} should match {NAME.pattern}"
    if chosen is not None and chosen not in tools:
        yield f"tool_choice: no tool {chosen!r} among the tools"
