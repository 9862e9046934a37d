"""What a trace has to teach: each answer of a model, with all that the model was asked.

Failed and cut answers go, and so do those that somebody judged bad, unless the right answer was
given with the verdict: then that one is learned.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from kickwheel.records import (
    AcceptedCall,
    Feedback,
    Message,
    Span,
    ToolCall,
    ToolSpec,
    Trace,
    genai,
)

_NOT_TEXT = "parts of it are not text"
_CUT = {"length": "cut at its length", "content_filter": "stopped by a filter"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An answer on its way to become an example."""

    id: str
    source: str
    """Id of the trace."""
    start_ns: int
    trust: int
    """2: somebody gave or named the right answer; 1: somebody judged it good; 0: nobody did."""
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    answer: Message
    accepted: tuple[AcceptedCall, ...]


def extract(
    trace: Trace, pupils: frozenset[str] = frozenset(), agent: str | None = None
) -> list[Candidate] | str:
    """The trace's answers, in their order; a sentence that says why where there are none.

    Args:
        pupils: models whose answers count only where somebody judged them good.
        agent: whose answers, where it worked for another one in this trace; by default the
            root's. What a memory or another agent asked of models meanwhile is nobody's answer.
    """
    inner = agent is not None and agent != trace.workload
    if trace.spans[0].error is not None and not inner:
        return "the request failed"
    asked = _asked(trace, agent if inner else None)
    if not asked and not inner:
        asked = [span for span in trace.spans[:1] if span.input]
    if not asked:
        return "no model was asked"
    said = trace.feedback[-1] if trace.feedback else None
    if inner and said is not None:
        # It was said of the whole answer, which others wrote.
        said = Feedback(verdict=said.verdict, time_ns=said.time_ns)
    right = _right(said)
    if said is not None and said.verdict == "bad" and right is None:
        return "judged bad, and no right answer given"
    if said is not None and right is not None:
        # What came after a wrong answer followed from it.
        span = _answered(asked, right)
        if not _all_text(span):
            return _NOT_TEXT
        return [_candidate(trace, asked, span, right, said.accepted, 2)]
    accepted = next((f.accepted for f in reversed(trace.feedback) if f.accepted and not inner), ())
    trust = 2 if accepted else 1 if said is not None else 0
    found, why = [], "no answer"
    for span in asked:
        wrong = _wrong(trace, span)
        if wrong is None and trust == 0 and not pupils.isdisjoint(_names(span)):
            wrong = "the specialist's own answer, which nobody judged"
        if wrong is None:
            found.append(_candidate(trace, asked, span, span.output[-1], accepted, trust))
            accepted = ()
        else:
            why = wrong
    return found or why


def canonical(accepted: AcceptedCall) -> ToolCall:
    """The call to learn: the first accepted values, without what may be left out."""
    arguments = {
        name: values[0]
        for name, values in accepted.arguments.items()
        if values and name not in accepted.optional
    }
    return ToolCall(
        id="call_0", name=accepted.name, arguments=json.dumps(arguments, ensure_ascii=False)
    )


def _asked(trace: Trace, agent: str | None) -> list[Span]:
    """The calls of models that one agent made itself; of the root where none is named."""
    spans = {span.id: span for span in trace.spans}
    root = trace.spans[0]
    whose = [root]
    frame = root.kind == "agent" and not root.input and not root.output
    if root.kind == "step" or frame:
        # What others watch often begins with a request or a chain; the agent in it is meant. Those
        # in a frame that neither was asked nor answered hand one conversation over: all are meant.
        agents = [one for one in trace.spans[1:] if one.kind == "agent"]
        inside = [one for one in agents if _above(one, spans) in (None, root)]
        whose += inside if frame else inside[:1]
    found = []
    for span in trace.spans:
        if span.kind != "model":
            continue
        above = _above(span, spans)
        if agent is not None:
            mine = above is not None and above.kind == "agent" and above.name == agent
        else:
            mine = above is None or any(above is one for one in whose)
        if mine:
            found.append(span)
    return found


def _above(span: Span, spans: Mapping[str, Span]) -> Span | None:
    """Whose part the span is: chains and other steps in between do nothing of their own. At the
    top, the step itself."""
    above = spans.get(span.parent or "")
    seen = {span.id}
    while above is not None and above.kind == "step" and above.id not in seen:
        seen.add(above.id)
        higher = spans.get(above.parent or "")
        if higher is None:
            break
        above = higher
    return above


def _names(span: Span) -> set[str]:
    """By what names the model that was asked is known."""
    given = (span.attributes.get(name) for name in (genai.REQUEST_MODEL, genai.RESPONSE_MODEL))
    return {span.name, *(name for name in given if isinstance(name, str))}


def _right(said: Feedback | None) -> Message | None:
    if said is None:
        return None
    if said.answer is not None:
        return said.answer
    if said.verdict == "bad" and said.accepted:
        calls = tuple(canonical(call) for call in said.accepted[:1])
        return Message(role="assistant", tool_calls=calls)
    return None


def _answered(asked: list[Span], right: Message) -> Span:
    return asked[0] if right.tool_calls else asked[-1]


def _all_text(span: Span) -> bool:
    """Whether a model that reads text only would know all that was asked."""
    shown = any(image.sent for message in span.input for image in message.images or ())
    return not shown and not span.attributes.get(genai.UNREAD)


def _wrong(trace: Trace, span: Span) -> str | None:
    """Why the span's answer is not worth learning; `None` where it is."""
    if span.error is not None:
        return "the model failed"
    reasons = span.attributes.get(genai.FINISH_REASONS, ())
    for reason in reasons if isinstance(reasons, list | tuple) else (str(reasons),):
        if reason in _CUT:
            return _CUT[reason]
    if not _all_text(span):
        return _NOT_TEXT
    if not span.input or not any(message.role != "system" for message in span.input):
        return "no question"
    if not span.output:
        return "no answer"
    answer = span.output[-1]
    if not answer.tool_calls and not (answer.content or "").strip():
        return "no answer"
    place = trace.spans.index(span)
    for later in trace.spans[place + 1 :]:
        if later.kind == "model":
            break
        if later.kind == "tool" and later.error is not None and answer.tool_calls:
            return "the tool refused the call"
    return None


def _offered(trace: Trace, asked: list[Span], span: Span) -> tuple[ToolSpec, ...]:
    """The tools of the agent whose call it is, as some tell them once instead of with each call."""
    above = _above(span, {one.id: one for one in trace.spans})
    return above.tools if above is not None and not any(one.tools for one in asked) else ()


def _candidate(
    trace: Trace,
    asked: list[Span],
    span: Span,
    answer: Message,
    accepted: tuple[AcceptedCall, ...],
    trust: int,
) -> Candidate:
    position = next(i for i, one in enumerate(asked) if one is span)
    return Candidate(
        id=trace.id if len(asked) == 1 else f"{trace.id}-{position}",
        source=trace.id,
        start_ns=span.start_ns,
        trust=trust,
        messages=span.input,
        tools=span.tools or _offered(trace, asked, span),
        answer=answer,
        accepted=accepted if answer.tool_calls else (),
    )
