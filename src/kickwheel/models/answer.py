"""A streamed answer in OpenAI's protocol, of chats or of completions, read piece by piece.

Servers differ in what they leave out: indexes, ids, usage, the last `[DONE]`; some answer whole
although a stream was asked for. What is missing is filled in where that is safe.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kickwheel.models.chat import CallDelta, Delta, Done, FinishReason, TextDelta, Usage
from kickwheel.models.sse import Events

BYTES_A_TOKEN = 4
"""UTF-8 bytes of a token, for servers that do not count: a rule of thumb for English text, where
it is right within about a third; of code and of other languages it tells the order only."""

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
        self._whole: bytes | None = b""
        """The bytes so far while they may be one JSON body; `None` once they are a stream."""
        self._finish: FinishReason | None = None
        self._usage = Usage()
        self._asked = asked or {}
        self._bytes = 0
        """Of text, names and arguments in the answer so far."""
        self._calls: dict[Any, int] = {}
        self._text = ""

    def feed(self, chunk: bytes) -> list[Delta]:
        """The pieces that these bytes complete.

        Raises:
            ValueError: they break the protocol, or the server tells of an error.
        """
        if self._whole is not None:
            self._whole += chunk
            start = self._whole.lstrip()
            if not start or start.startswith(b"{"):
                return []
            chunk, self._whole = self._whole, None
        deltas: list[Delta] = []
        for data in self._events.feed(chunk):
            deltas += self._event(data)
        return deltas

    def close(self) -> list[Delta]:
        """The last pieces, `Done` among them.

        Raises:
            ValueError: the stream ended before the answer did.
        """
        deltas: list[Delta] = []
        if self._whole:
            deltas += self._body(self._whole)
        else:
            for data in self._events.close():
                deltas += self._event(data)
        if self._finish is None:
            raise ValueError("the answer broke off")
        if self.label is not None and self._text:
            deltas.append(TextDelta(self._labelled()))
        finish = self._finish
        if self._calls and finish == "stop":
            finish = "tool_calls"
        return [*deltas, Done(finish, self._counted(), self._model)]

    def _event(self, data: bytes) -> list[Delta]:
        if data == b"[DONE]":
            self.ended = True
            return []
        if self.ended:
            return []
        return self._chunk(_object(data), "delta")

    def _body(self, data: bytes) -> list[Delta]:
        return self._chunk(_object(data), "message")

    def _chunk(self, chunk: Mapping[str, Any], key: str) -> list[Delta]:
        if chunk.get("error"):
            error = chunk["error"]
            said = error.get("message", error) if isinstance(error, Mapping) else error
            raise ValueError(f"the server broke off: {said}")
        if isinstance(chunk.get("model"), str) and chunk["model"]:
            self._model = chunk["model"]
        if isinstance(chunk.get("usage"), Mapping):
            self._usage = _usage(chunk["usage"])
        deltas: list[Delta] = []
        for choice in chunk.get("choices") or ():
            if not isinstance(choice, Mapping) or choice.get("index") not in (0, None):
                continue
            part = choice.get(key)
            if isinstance(part, Mapping):
                deltas += self._part(part)
            elif isinstance(choice.get("text"), str) and choice["text"]:
                self._bytes += _bytes(choice["text"])
                deltas.append(TextDelta(choice["text"]))
            if choice.get("finish_reason"):
                self._finish = _FINISH.get(str(choice["finish_reason"]), "stop")
        return deltas

    def _part(self, part: Mapping[str, Any]) -> list[Delta]:
        deltas: list[Delta] = []
        text = part.get("content") or part.get("refusal")
        if isinstance(text, str) and text:
            self._bytes += _bytes(text)
            if self.label is None:
                deltas.append(TextDelta(text))
            else:
                self._text += text
        calls = part.get("tool_calls")
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, Mapping):
                deltas += self._call(call, position)
        return deltas

    def _call(self, call: Mapping[str, Any], position: int) -> list[Delta]:
        function = call.get("function")
        function = function if isinstance(function, Mapping) else {}
        identity = call.get("id") or None
        # Without an index an id tells calls apart, and where there is neither their order must.
        known: Any = call.get("index")
        if not isinstance(known, int):
            known = identity or (max(self._calls.values()) if self._calls else position)
            known = next((k for k, v in self._calls.items() if v == known), known)
        arguments = function.get("arguments")
        if arguments is None:
            arguments = ""
        elif not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        self._bytes += _bytes(arguments)
        if known in self._calls:
            return [CallDelta(self._calls[known], arguments)] if arguments else []
        name = function.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError("a call without a name")
        self._bytes += _bytes(name)
        index = self._calls[known] = len(self._calls)
        identity = str(identity or f"call_{secrets.token_hex(8)}")
        return [CallDelta(index, arguments, identity, name)]

    def _counted(self) -> Usage:
        """What the server counted; where it did not, or says 0 of what is there, an estimate."""
        said = self._usage
        asked = {k: v for k, v in self._asked.items() if k in ("messages", "tools", "prompt")}
        silent = (asked and not said.prompt_tokens) or (self._bytes and not said.output_tokens)
        if not silent:
            return said
        length = _bytes(json.dumps(asked, ensure_ascii=False)) if asked else 0
        return replace(
            said,
            prompt_tokens=said.prompt_tokens or -(-length // BYTES_A_TOKEN),
            output_tokens=said.output_tokens or -(-self._bytes // BYTES_A_TOKEN),
            estimated=True,
        )

    def _labelled(self) -> str:
        try:
            found = json.loads(self._text)[self.label]
        except (ValueError, KeyError, TypeError, IndexError):
            return self._text
        return found if isinstance(found, str) else self._text


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"not the OpenAI protocol: {data[:120].decode(errors='replace')}")
    return found


def _usage(said: Mapping[str, Any]) -> Usage:
    details = said.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(
        prompt_tokens=_count(said.get("prompt_tokens")),
        output_tokens=_count(said.get("completion_tokens")),
        cached_tokens=_count(cached),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
