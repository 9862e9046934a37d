"""Traces made by hand for the tests of curation."""

import hashlib
import json
from typing import Any

from kickwheel.records import Feedback, Message, Span, ToolCall, ToolSpec, Trace, genai

FIND = ToolSpec(
    name="find",
    parameters={
        "type": "object",
        "properties": {"what": {"type": "string"}, "city": {"type": "string"}},
        "required": ["what"],
    },
)


def said(text: str) -> Message:
    return Message(role="user", content=text)


def told(text: str) -> Message:
    return Message(role="assistant", content=text)


def called(name: str = "find", **arguments: Any) -> Message:
    call = ToolCall(id="call_0", name=name, arguments=json.dumps(arguments))
    return Message(role="assistant", tool_calls=(call,))


def trace(
    asked: str | tuple[Message, ...],
    answer: Message | None,
    *feedback: Feedback,
    identity: str | None = None,
    tools: tuple[ToolSpec, ...] = (FIND,),
    start_ns: int = 0,
    error: str | None = None,
    finish: str | None = None,
) -> Trace:
    messages = (said(asked),) if isinstance(asked, str) else asked
    identity = identity or hashlib.sha256(repr((messages, answer, start_ns)).encode()).hexdigest()
    span = Span(
        id=identity[:16],
        kind="model",
        name="m",
        start_ns=start_ns,
        end_ns=start_ns + 1,
        attributes={genai.FINISH_REASONS: [finish]} if finish else {},
        error=error,
        input=messages,
        output=() if answer is None else (answer,),
        tools=tools,
    )
    return Trace(id=identity[:32], workload="w", spans=(span,), feedback=feedback)
