"""A streamed answer in OpenAI's protocol, of chats or of completions, read piece by piece.

Servers differ in what they leave out: indexes, ids, usage, the last `[DONE]`; some answer whole
although a stream was asked for. What is missing is filled in where that is safe.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from kickwheel.models.chat import CallDelta, Delta, Done, FinishReason, TextDelta, Usage
from kickwheel.models.sse import Events

BYTES_A_TOKEN = 4
"""UTF-8 bytes of a token, for servers that do not count: a rule of thumb for English text, where
it is right within about a third; of code and of other languages it tells the order only."""
LONGEST_ANSWER = 16 << 20
"""Bytes of text, names and arguments in one answer at most, and of an answer that is one body."""

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Part(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    delta: _Part | None = None
    message: _Part | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    """What is read of a chunk, or of a whole answer; the rest is skipped."""

    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class Answer:
    """The pieces of one answer, from the bytes of its stream."""

    def __init__(
        self, model: str, *, label: str | None = None, asked: Mapping[str, Any] | None = None
    ) -> None:
        """
        Args:
            model: named in `Done` where the server does not say.
            label: the answer is JSON with the true answer under this key.
            asked: the request's body, whose tokens are estimated where the server counts none.
        """
        self.label = label
        self.ended = False
        """Whether the server has said that the answer is over."""
        self._model = model
        self._events = Events()
        self._whole: bytearray | None = bytearray()
        """The bytes so far while they may be one JSON body; `None` once they are a stream."""
        self._first: bytes | None = None
        """How the stream began, until it was understood."""
        self._finish: FinishReason | None = None
        self._usage: _Usage | None = None
        self._asked = asked or {}
        self._bytes = 0
        """Of text, names and arguments in the answer so far."""
        self._calls: dict[Any, int] = {}
        self._text: list[str] = []

    def feed(self, chunk: bytes) -> list[Delta]:
        """The pieces that these bytes complete.

        Raises:
            ValueError: they break the protocol, the server tells of an error, or there are more
                than `LONGEST_ANSWER` of them.
        """
        if self._whole is not None:
            self._whole += chunk
            start = self._whole.lstrip()
            if not start or start.startswith(b"{"):
                self._check_length(len(self._whole))
                return []
            chunk, self._whole = bytes(self._whole), None
            self._first = chunk[:120]
        deltas: list[Delta] = []
        for data in self._events.feed(chunk):
            self._event(data, deltas)
        return deltas

    def close(self) -> list[Delta]:
        """The last pieces, `Done` among them.

        Raises:
            ValueError: the stream ended before the answer did.
        """
        deltas: list[Delta] = []
        if self._whole:
            self._chunk(_read(self._whole), deltas)
        else:
            for data in self._events.close():
                self._event(data, deltas)
        if self._first is not None:
            raise ValueError(_not_the_protocol(self._first))
        if self._finish is None:
            raise ValueError("the answer broke off")
        if self.label is not None and self._text:
            deltas.append(TextDelta(self._labelled()))
        finish = self._finish
        if self._calls and finish == "stop":
            finish = "tool_calls"
        deltas.append(Done(finish, self._counted(), self._model))
        return deltas

    def _event(self, data: bytes, deltas: list[Delta]) -> None:
        self._first = None
        if data == b"[DONE]":
            self.ended = True
        elif not self.ended:
            self._chunk(_read(data), deltas)

    def _chunk(self, chunk: _Chunk, deltas: list[Delta]) -> None:
        if chunk.error:
            said = chunk.error
            if isinstance(said, Mapping):
                said = said.get("message", said)
            raise ValueError(f"the server broke off: {str(said)[:300]}")
        if chunk.model:
            self._model = chunk.model
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices or ():
            if choice.index:
                continue
            part = choice.delta or choice.message
            if part is not None:
                self._part(part, deltas)
            elif choice.text:
                self._said(choice.text)
                deltas.append(TextDelta(choice.text))
            if choice.finish_reason:
                self._finish = _FINISH.get(choice.finish_reason, "stop")

    def _part(self, part: _Part, deltas: list[Delta]) -> None:
        text = part.content or part.refusal
        if text:
            self._said(text)
            if self.label is None:
                deltas.append(TextDelta(text))
            else:
                self._text.append(text)
        for position, call in enumerate(part.tool_calls or ()):
            self._call(call, position, deltas)

    def _call(self, call: _Call, position: int, deltas: list[Delta]) -> None:
        function = call.function or _Function()
        # Without an index an id tells calls apart, and where there is neither their order must.
        known: Any = call.index
        if known is None:
            known = call.id or (max(self._calls.values()) if self._calls else position)
            known = next((k for k, v in self._calls.items() if v == known), known)
        arguments = function.arguments or ""
        self._said(arguments)
        if known in self._calls:
            if arguments:
                deltas.append(CallDelta(self._calls[known], arguments))
            return
        if not function.name:
            raise ValueError("a call without a name")
        self._said(function.name)
        index = self._calls[known] = len(self._calls)
        identity = call.id or f"call_{secrets.token_hex(8)}"
        deltas.append(CallDelta(index, arguments, identity, function.name))

    def _said(self, text: str) -> None:
        self._bytes += _bytes(text)
        self._check_length(self._bytes)

    def _check_length(self, length: int) -> None:
        if length > LONGEST_ANSWER:
            raise ValueError(f"an answer of more than {LONGEST_ANSWER >> 20} MiB")

    def _counted(self) -> Usage:
        """What the server counted; where it did not, or says 0 of what is there, an estimate."""
        said = _counts(self._usage)
        asked = self._asked
        silent = (asked and not said.prompt_tokens) or (self._bytes and not said.output_tokens)
        if not silent:
            return said
        asked = {k: v for k, v in asked.items() if k in ("messages", "tools", "prompt")}
        length = _bytes(json.dumps(asked, ensure_ascii=False)) if asked else 0
        return replace(
            said,
            prompt_tokens=said.prompt_tokens or -(-length // BYTES_A_TOKEN),
            output_tokens=said.output_tokens or -(-self._bytes // BYTES_A_TOKEN),
            estimated=True,
        )

    def _labelled(self) -> str:
        text = "".join(self._text)
        try:
            found = json.loads(text)[self.label]
        except (ValueError, KeyError, TypeError, IndexError):
            return text
        return found if isinstance(found, str) else text


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _read(data: bytes | bytearray) -> _Chunk:
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    # Not quite the protocol: what can be understood is, and the rest is as if it were not there.
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(_not_the_protocol(bytes(data[:120])))
    return _understood(found)


def _not_the_protocol(begins: bytes) -> str:
    return f"not the OpenAI protocol: {begins.decode(errors='replace')}"


def _understood(found: Mapping[str, Any]) -> _Chunk:
    choices = found.get("choices")
    usage = found.get("usage")
    chunk = _Chunk(_str(found.get("model")), error=found.get("error"))
    if isinstance(choices, list):
        chunk.choices = [_choice(choice) for choice in choices if isinstance(choice, Mapping)]
    if isinstance(usage, Mapping):
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
        counts = (_int(usage.get("prompt_tokens")), _int(usage.get("completion_tokens")))
        chunk.usage = _Usage(*counts, _Details(_int(cached)))
    return chunk


def _choice(choice: Mapping[str, Any]) -> _Choice:
    index, finish = choice.get("index"), choice.get("finish_reason")
    return _Choice(
        # An index that is no number is nobody's first choice.
        index=index if index is None or isinstance(index, int) else -1,
        delta=_mapped(choice.get("delta")),
        message=_mapped(choice.get("message")),
        text=_str(choice.get("text")),
        finish_reason=str(finish) if finish else None,
    )


def _mapped(part: object) -> _Part | None:
    if not isinstance(part, Mapping):
        return None
    calls = part.get("tool_calls")
    return _Part(
        content=_str(part.get("content")),
        refusal=_str(part.get("refusal")),
        tool_calls=[_called(call) for call in calls if isinstance(call, Mapping)]
        if isinstance(calls, list)
        else None,
    )


def _called(call: Mapping[str, Any]) -> _Call:
    function, identity = call.get("function"), call.get("id")
    function = function if isinstance(function, Mapping) else {}
    arguments = function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return _Call(
        index=_int(call.get("index")),
        id=str(identity) if identity else None,
        function=_Function(_str(function.get("name")), arguments),
    )


def _counts(said: _Usage | None) -> Usage:
    if said is None:
        return Usage()
    details = said.prompt_tokens_details
    return Usage(
        prompt_tokens=max(0, said.prompt_tokens or 0),
        output_tokens=max(0, said.completion_tokens or 0),
        cached_tokens=max(0, details.cached_tokens or 0) if details is not None else 0,
    )


def _str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _int(value: object) -> int | None:
    return value if isinstance(value, int) else None
