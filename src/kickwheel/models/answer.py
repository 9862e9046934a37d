"""A streamed answer in OpenAI's protocol, of chats or of completions, read piece by piece.

Servers differ in what they leave out: indexes, ids, usage, the last `[DONE]`; some answer whole
although a stream was asked for. What is missing is filled in where that is safe.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kickwheel.core.identity import fresh
from kickwheel.models.chat import CallDelta, Delta, Done, FinishReason, TextDelta, Usage
from kickwheel.models.chunk import Call, Chunk, Counts, Function, Part, foreign, read
from kickwheel.models.pictures import TOKENS
from kickwheel.models.sse import Events
from kickwheel.models.stops import Stops

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


class Answer:
    """The pieces of one answer, from the bytes of its stream."""

    def __init__(
        self,
        model: str,
        *,
        label: str | None = None,
        asked: Mapping[str, Any] | None = None,
        stops: Sequence[str] = (),
    ) -> None:
        """
        Args:
            model: named in `Done` where the server does not say.
            label: the answer is JSON with the true answer under this key.
            asked: the request's body, whose tokens are estimated where the server counts none.
            stops: texts at which the answer ends, should the server not end it there itself.
        """
        self.label = label
        self.ended = False
        """Whether the answer is over: the server has said so, or one of the stops came."""
        self.id: str | None = None
        """What the server calls its answer, once it said so."""
        self._model = model
        self._events = Events()
        self._whole: bytearray | None = bytearray()
        """The bytes so far while they may be one JSON body; `None` once they are a stream."""
        self._first: bytes | None = None
        """How the stream began, until it was understood."""
        self._finish: FinishReason | None = None
        self._usage: Counts | None = None
        self._asked = asked or {}
        self._bytes = 0
        """Of text, names and arguments in the answer so far."""
        self._calls: dict[Any, int] = {}
        self._text: list[str] = []
        self._stops = Stops(stops) if stops else None

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
        self._check_length(self._bytes)
        return deltas

    def close(self) -> list[Delta]:
        """The last pieces, `Done` among them.

        Raises:
            ValueError: the stream ended before the answer did.
        """
        deltas: list[Delta] = []
        if self._whole:
            self._chunk(read(self._whole), deltas)
        else:
            for data in self._events.close():
                self._event(data, deltas)
        self._check_length(self._bytes)
        if self._first is not None:
            raise ValueError(foreign(self._first))
        if self._finish is None:
            raise ValueError("the answer broke off")
        if self._stops is not None and (rest := self._stops.rest()):
            deltas.append(TextDelta(rest))
        if self.label is not None and self._text:
            deltas.append(TextDelta(self._labelled()))
        finish = self._finish
        if self._calls and finish == "stop":
            finish = "tool_calls"
        deltas.append(Done(finish, self.usage(), self._model))
        return deltas

    def _event(self, data: bytes, deltas: list[Delta]) -> None:
        self._first = None
        if data == b"[DONE]":
            self.ended = True
        elif not self.ended:
            self._chunk(read(data), deltas)

    def _chunk(self, chunk: Chunk, deltas: list[Delta]) -> None:
        if chunk.error:
            said = chunk.error
            if isinstance(said, Mapping):
                said = said.get("message", said)
            raise ValueError(f"the server broke off: {str(said)[:300]}")
        if chunk.id and self.id is None:
            self.id = chunk.id
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
                self._say(choice.text, deltas)
            if choice.finish_reason and not self.ended:
                self._finish = _FINISH.get(choice.finish_reason, "stop")

    def _part(self, part: Part, deltas: list[Delta]) -> None:
        text = part.content or part.refusal
        if text:
            self._say(text, deltas)
        if part.tool_calls and not self.ended:
            for position, call in enumerate(part.tool_calls):
                self._call(call, position, deltas)

    def _say(self, text: str, deltas: list[Delta]) -> None:
        self._bytes += _bytes(text)
        if self.label is not None:
            self._text.append(text)
            return
        if self._stops is not None:
            text = self._stops.passed(text)
            if self._stops.met:
                self._finish, self.ended = "stop", True
        if text:
            deltas.append(TextDelta(text))

    def _call(self, call: Call, position: int, deltas: list[Delta]) -> None:
        function = call.function or Function()
        # Without an index an id tells calls apart, and where there is neither their order must.
        known: Any = call.index
        if known is None:
            known = call.id or (max(self._calls.values()) if self._calls else position)
            known = next((k for k, v in self._calls.items() if v == known), known)
        arguments = function.arguments or ""
        self._bytes += _bytes(arguments)
        if known in self._calls:
            if arguments:
                deltas.append(CallDelta(self._calls[known], arguments))
            return
        if not function.name:
            raise ValueError("a call without a name")
        self._bytes += _bytes(function.name)
        index = self._calls[known] = len(self._calls)
        identity = call.id or f"call_{fresh(8)}"
        deltas.append(CallDelta(index, arguments, identity, function.name))

    def _check_length(self, length: int) -> None:
        if length > LONGEST_ANSWER:
            raise ValueError(f"an answer of more than {LONGEST_ANSWER >> 20} MiB")

    def usage(self) -> Usage:
        """What the server counted; where it did not, or says 0 of what is there, an estimate."""
        said = _counts(self._usage)
        asked = self._asked
        silent = (asked and not said.prompt_tokens) or (self._bytes and not said.output_tokens)
        if not silent:
            return said
        return replace(
            said,
            prompt_tokens=said.prompt_tokens or _estimated(asked),
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


def _estimated(asked: Mapping[str, Any]) -> int:
    """Tokens of a request's body, each picture in it as one of a usual size."""
    counted = {k: v for k, v in asked.items() if k in ("messages", "tools", "prompt")}
    if not counted:
        return 0
    pictures = 0

    def worded(entry: Any) -> Any:
        nonlocal pictures
        content = entry.get("content") if isinstance(entry, Mapping) else None
        if not isinstance(content, list):
            return entry
        words = [p for p in content if not (isinstance(p, Mapping) and "image_url" in p)]
        pictures += len(content) - len(words)
        return {**entry, "content": words}

    if isinstance(counted.get("messages"), list):
        counted["messages"] = [worded(entry) for entry in counted["messages"]]
    length = _bytes(json.dumps(counted, ensure_ascii=False))
    return -(-length // BYTES_A_TOKEN) + pictures * TOKENS


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _counts(said: Counts | None) -> Usage:
    if said is None:
        return Usage()
    details = said.prompt_tokens_details
    return Usage(
        prompt_tokens=max(0, said.prompt_tokens or 0),
        output_tokens=max(0, said.completion_tokens or 0),
        cached_tokens=max(0, details.cached_tokens or 0) if details is not None else 0,
    )
