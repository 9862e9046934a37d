"""All that is said in one conversation: texts, messages, spans and traces."""

import json
from collections.abc import Mapping
from dataclasses import replace
from operator import is_
from typing import Any

from kickwheel.core.redact import keys
from kickwheel.core.redact.keys import KEY_NAME, is_key
from kickwheel.core.redact.names import Names
from kickwheel.core.redact.numbers import PHONE_NAME, has_run, is_phone
from kickwheel.core.redact.texts import PLAIN, PLAIN_FROM, SHORTEST, hide, suspect
from kickwheel.records import (
    AcceptedCall,
    Feedback,
    Image,
    Message,
    Span,
    ToolCall,
    ToolSpec,
    Trace,
    genai,
)

_OURS = frozenset(v for k, v in vars(genai).items() if k.isupper())
"""Names of attributes that we write ourselves: they say nothing of their values."""


def text(value: str) -> str:
    """The text with placeholders; the same object where nothing was found."""
    if len(value) < SHORTEST or value in PLAIN.texts:
        return value
    found = hide(value, Names())
    return value if found == value else found


def message(value: Message) -> Message:
    """The message with placeholders in its content and in its calls' arguments."""
    return Redaction().message(value)


def trace(value: Trace) -> Trace:
    """The trace with placeholders in all that was said, called, answered and noted.

    The same object where nothing was found. Names, ids and the tools' own texts stay, but for keys
    in the latter.
    """
    return Redaction().trace(value)


class Redaction:
    """The redaction of one conversation: equal values get equal placeholders."""

    __slots__ = ("_clean", "_read", "names")

    def __init__(self) -> None:
        self.names = Names()
        """The placeholders that were given."""
        self._clean: set[str] = set()
        """Texts in which nothing was found: the spans of a trace say much again. Not asked once
        there are numbers, which make others out of them."""
        self._read: dict[int, Message] = {}
        """Messages in which nothing was found, by identity: each model call repeats those before.
        Not asked either once there are numbers."""

    def rest(self) -> None:
        """Forgets what was only noted for speed, before the conversation goes on much later."""
        self._clean.clear()
        self._read.clear()

    def text(self, value: str) -> str:
        """The text with placeholders; the same object where nothing was found."""
        if len(value) < SHORTEST:
            return value
        if not self.names.numbers and (value in self._clean or value in PLAIN.texts):
            return value
        found = hide(value, self.names)
        if found == value:
            self._clean.add(value)
            if "<" not in value and not has_run(value):
                PLAIN.add(value)
            return value
        return found

    def message(self, value: Message) -> Message:
        """The message with placeholders; the same object where nothing was found."""
        if self._read.get(id(value)) is value and not self.names.numbers:
            return value
        content = value.content if value.content is None else self.text(value.content)
        calls = tuple(self._call(call) for call in value.tool_calls)
        images = self._images(value.images) if value.images else value.images
        same = content is value.content and images is value.images
        if same and _same(calls, value.tool_calls):
            self._read[id(value)] = value
            return value
        return replace(value, content=content, tool_calls=calls, images=images)

    def plain(self, value: Any, name: str = "") -> Any:
        """Plain JSON values with placeholders, in keys too; the same object where nothing was
        found.

        Args:
            name: the key that `value` stands under: `{"phone": "5551234567"}` says what it is.
        """
        if isinstance(value, str):
            return self._named(value, name.lower()) if name else self.text(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1_000_000:
            found = self._named(str(value), name.lower())
            return value if found == str(value) else found
        if value is None or isinstance(value, int | float):
            return value
        if isinstance(value, list | tuple):
            entries = [self.plain(entry, name) for entry in value]
            return value if _same(entries, value) else type(value)(entries)
        # Asked last: whether something is a mapping takes longest to tell.
        if isinstance(value, Mapping):
            changed = {
                k if k in _OURS else self.text(str(k)): self.plain(v, "" if k in _OURS else str(k))
                for k, v in value.items()
            }
            same = all(k in changed and changed[k] is v for k, v in value.items())
            return value if same else changed
        return value

    def span(self, value: Span) -> Span:
        """The span with placeholders; the same object where nothing was found."""
        tools = tuple(map(_tool, value.tools))
        if not _same(tools, value.tools):
            value = replace(value, tools=tools)
        return value if self._skim(value) else self._span(value)

    def trace(self, value: Trace) -> Trace:
        """The trace with placeholders; the same object where nothing was found."""
        found = self._trace(value)
        # A number that only a later text calls a phone number is one in the earlier texts too.
        return self._trace(value) if self.names.numbers else found

    def feedback(self, value: Feedback) -> Feedback:
        """The feedback with placeholders; the same object where nothing was found."""
        answer = None if value.answer is None else self.message(value.answer)
        accepted = tuple(self._accepted(call) for call in value.accepted)
        note = self.text(value.note)
        if answer is value.answer and _same(accepted, value.accepted) and note is value.note:
            return value
        return replace(value, answer=answer, accepted=accepted, note=note)

    def _trace(self, value: Trace) -> Trace:
        spans = tuple(self.span(span) for span in value.spans)
        feedback = tuple(self.feedback(said) for said in value.feedback)
        if _same(spans, value.spans) and _same(feedback, value.feedback):
            return value
        return replace(value, spans=spans, feedback=feedback)

    def _skim(self, span: Span) -> bool:
        """Whether one look at all that is new in the span finds nothing."""
        if self.names.numbers:
            return False
        new = [m for m in (*span.input, *span.output) if self._read.get(id(m)) is not m]
        texts: list[str] = []
        long: list[str] = []
        for m in new:
            if m.images and any(image.url for image in m.images):
                return False
            said = m.content
            if said is not None:
                if len(said) < PLAIN_FROM:
                    texts.append(said)
                elif said not in PLAIN.texts:
                    long.append(said)
            for call in m.tool_calls:
                if "\\" in call.arguments:
                    return False  # What an escape hides is not seen here.
                texts.append(call.arguments)
        if span.error is not None:
            texts.append(span.error)
        _gather(span.attributes, texts)
        if suspect("\n".join(long + texts)):
            return False
        for said in long:
            PLAIN.add(said)
        for m in new:
            self._read[id(m)] = m
        return True

    def _span(self, value: Span) -> Span:
        attributes = self.plain(value.attributes)
        error = value.error if value.error is None else self.text(value.error)
        asked = tuple(self.message(m) for m in value.input)
        answered = tuple(self.message(m) for m in value.output)
        if (
            attributes is value.attributes
            and error is value.error
            and _same(asked, value.input)
            and _same(answered, value.output)
        ):
            return value
        return replace(value, attributes=attributes, error=error, input=asked, output=answered)

    def _accepted(self, call: AcceptedCall) -> AcceptedCall:
        arguments = self.plain(call.arguments)
        return call if arguments is call.arguments else replace(call, arguments=arguments)

    def _images(self, images: tuple[Image, ...]) -> tuple[Image, ...]:
        """The pictures, with their URLs up to the query, which is often a key."""
        shown = tuple(
            replace(image, url=self.text(image.url.partition("?")[0])) if image.url else image
            for image in images
        )
        return images if shown == images else shown

    def _call(self, call: ToolCall) -> ToolCall:
        # As JSON where it is JSON: keys say what values are, escapes are no letters, and a number
        # that becomes a placeholder must become a string.
        if self.text(call.arguments) is call.arguments and not self.names.numbers:
            lower = call.arguments.lower()
            if not (PHONE_NAME.search(lower) or KEY_NAME.search(lower)):
                return call
        try:
            arguments = json.loads(call.arguments)
        except ValueError:
            found = self.text(call.arguments)
            return call if found is call.arguments else replace(call, arguments=found)
        changed = self.plain(arguments)
        if changed is arguments:
            return call
        return replace(call, arguments=json.dumps(changed, ensure_ascii=False))

    def _named(self, value: str, name: str) -> str:
        if PHONE_NAME.search(name) and is_phone(value):
            return self.names.number("phone", value)
        if KEY_NAME.search(name) and is_key(value):
            return self.names.name("key", value, value)
        return self.text(value)


def _gather(value: Any, texts: list[str]) -> None:
    """Adds all that is read of plain JSON values, names too, to the texts."""
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, int | float):
        if abs(value) >= 1_000_000:
            texts.append(str(value))
    elif isinstance(value, list | tuple):
        for entry in value:
            _gather(entry, texts)
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            if name not in _OURS:
                texts.append(str(name))
            _gather(entry, texts)


_tools: dict[int, tuple[ToolSpec, ToolSpec]] = {}


def _tool(tool: ToolSpec) -> ToolSpec:
    # The tools' texts are their maker's, offered to every caller: an address in them is an
    # example. Only keys go. The same few objects come with every request, so each is read once.
    known = _tools.get(id(tool))
    if known is not None and known[0] is tool:
        return known[1]
    written = json.dumps([tool.description, tool.parameters], ensure_ascii=False, default=str)
    found = keys.hide(written, written.lower(), Names())
    clean = tool
    if found != written:
        try:
            description, parameters = json.loads(found)
        except ValueError:
            description, parameters = found, {}
        clean = replace(tool, description=description, parameters=parameters)
    if len(_tools) >= 4096:
        _tools.clear()
    _tools[id(tool)] = (tool, clean)
    return clean


def _same(new: Any, old: Any) -> bool:
    return new is old or (len(new) == len(old) and all(map(is_, new, old)))
