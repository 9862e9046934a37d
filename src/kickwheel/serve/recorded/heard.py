"""What passed, as a trace: one model span with all that was asked and answered.

What cannot be read is left out and named: traffic that is not understood is traffic all the same.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from kickwheel.core.identity import fresh
from kickwheel.models.prices import Prices
from kickwheel.records import Message, Span, ToolSpec, Trace, genai
from kickwheel.records.openai import tool_from_openai
from kickwheel.records.trace import Value
from kickwheel.serve.recorded import chat, responses
from kickwheel.serve.recorded.answered import Answered
from kickwheel.serve.recorded.exchange import Copy, Exchange

READ = ("chat/completions", "completions", "responses")
"""What leaves a trace."""
UNREAD = 10
"""Parts that are named at most."""
KEPT_BYTES = 1 << 18
"""Tools that are kept read take so many bytes at most."""

_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_FRAMEWORKS = {
    "agents": "openai-agents",
    "agent-framework-python": "agent-framework",
    "asyncopenai": "openai",
    "lm15": "dspy",
    "semantic-kernel-python": "semantic-kernel",
}
"""Frameworks by what their user agent begins with, where that is not their name."""

_plain = msgspec.json.Decoder().decode
_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Hearing:
    """Reads what passed, in the order in which it ended."""

    def __init__(self, prices: Prices | None = None) -> None:
        """Takes what tokens cost, where that is known."""
        self._prices = prices
        self._conversations = responses.Conversations()

    def heard(self, passed: Exchange) -> Trace:
        """The trace of what passed."""
        unread: list[str] = []
        body, tools = _fields(passed.asked, unread)
        messages = self._messages(passed, body, unread)
        said = _said(passed, body, unread)
        if passed.path == "responses":
            size = passed.asked.size + passed.answer.size
            self._conversations.remember(_place(passed), said, body, messages, size)
        name = str(body.get("model") or passed.path)
        attributes: dict[str, Value] = {
            genai.OPERATION: "text_completion" if passed.path == "completions" else "chat",
            genai.PROVIDER: "openai",
            genai.REQUEST_MODEL: name,
            **_asked(body),
            **_answered(said),
        }
        if passed.first_ns:
            attributes[genai.TIME_TO_FIRST_CHUNK_S] = (passed.first_ns - passed.start_ns) / 1e9
        if passed.agent:
            attributes[genai.USER_AGENT] = passed.agent
            attributes[genai.FRAMEWORK] = framework(passed.agent)
        if self._prices is not None and genai.INPUT_TOKENS in attributes:
            attributes[genai.COST_USD] = self._prices.cost_usd(said.usage)
        if unread:
            attributes[genai.UNREAD] = list(dict.fromkeys(unread))[:UNREAD]
        span = Span(
            id=fresh(8),
            kind="model",
            name=name,
            start_ns=passed.start_ns,
            end_ns=passed.end_ns,
            attributes=attributes,
            error=_error(passed, said),
            input=messages,
            output=() if said.message is None else (said.message,),
            tools=tools,
        )
        return Trace(id=passed.trace, workload=passed.project, spans=(span,))

    def _messages(
        self, passed: Exchange, body: Mapping[str, Any], unread: list[str]
    ) -> tuple[Message, ...]:
        if passed.path == "responses":
            return self._conversations.messages(_place(passed), body, unread)
        return (chat.prompt if passed.path == "completions" else chat.messages)(body, unread)


def _place(passed: Exchange) -> responses.Place:
    return (passed.project, *passed.whose)


def framework(agent: str) -> str:
    """What speaks, by its user agent: `framework("Agents/Python 0.24.0")` is "openai-agents"."""
    first = agent.split("/")[0].split(" ")[0].lower()
    return _FRAMEWORKS.get(first, first)


def _said(passed: Exchange, body: Mapping[str, Any], unread: list[str]) -> Answered:
    if passed.status >= 400 or not passed.answer.size:
        return Answered()
    answered = responses.answered if passed.path == "responses" else chat.answered
    try:
        return answered(passed.said(), body, cut=passed.cut is not None)
    except ValueError as error:
        unread.append(f"the answer: {error}")
        return Answered()


def _fields(asked: Copy, unread: list[str]) -> tuple[dict[str, Any], tuple[ToolSpec, ...]]:
    """The fields as plain values, and the tools among them as specs."""
    try:
        raw = _raw(asked.whole())
        offered = bytes(raw.pop("tools", b"[]"))
        fields = {name: _plain(value) for name, value in raw.items()}
        known = len(offered) <= KEPT_BYTES
        fields["tools"], tools = _kept_tools(offered) if known else _tools(offered)
    except (ValueError, RecursionError) as error:
        unread.append(f"the request: {error}")
        return {}, ()
    return fields, tools


def _tools(offered: bytes) -> tuple[Any, tuple[ToolSpec, ...]]:
    entries = _plain(offered)
    found = []
    for entry in entries if isinstance(entries, list) else ():
        # In responses a function's fields stand beside its type.
        if isinstance(entry, dict) and "function" not in entry and entry.get("type") == "function":
            entry = {"type": "function", "function": entry}
        try:
            found.append(tool_from_openai(entry))
        except ValueError:
            continue  # A tool of the server's own, as web search is: nothing here could call it.
    return entries, tuple(found)


# A client offers the same tools again and again: they are read once, and, being the same objects,
# redacted once too.
_kept_tools = lru_cache(maxsize=64)(_tools)


def _asked(body: Mapping[str, Any]) -> dict[str, Value]:
    limit = next((body[name] for name in _LIMITS if isinstance(body.get(name), int)), None)
    found = {
        genai.TEMPERATURE: body.get("temperature"),
        genai.MAX_TOKENS: limit,
        genai.SEED: body.get("seed"),
    }
    said: dict[str, Value] = {
        name: value for name, value in found.items() if isinstance(value, int | float)
    }
    if body.get("stream") is True:
        said[genai.STREAM] = True
    return said


def _answered(said: Answered) -> dict[str, Value]:
    found: dict[str, Value] = {}
    if said.usage.prompt_tokens or said.usage.output_tokens:
        found[genai.INPUT_TOKENS] = said.usage.prompt_tokens
        found[genai.OUTPUT_TOKENS] = said.usage.output_tokens
        found[genai.CACHED_TOKENS] = said.usage.cached_tokens
    if said.usage.estimated:
        found[genai.USAGE_ESTIMATED] = True
    if said.finish:
        found[genai.FINISH_REASONS] = [said.finish]
    if said.model:
        found[genai.RESPONSE_MODEL] = said.model
    if said.id:
        found[genai.RESPONSE_ID] = said.id
    return found


def _error(passed: Exchange, said: Answered) -> str | None:
    if passed.cut is not None:
        return passed.cut
    if passed.status < 400:
        return said.error
    try:
        told = passed.said()
    except ValueError as error:
        return f"{passed.status}: {error}"
    try:
        found = _plain(told)
    except (ValueError, RecursionError):
        found = None
    inner = found.get("error", found) if isinstance(found, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else inner
    return f"{passed.status}: {message or told[:300].decode(errors='replace')}"
