"""Langfuse's exports: to blob storage (JSONL, JSON, CSV; snake_case), from its pages, a trace's
download and its API (camelCase), in one file or several:

    observations   the spans; a trace's stand together by its id
    traces         what a trace was called, asked and answered
    scores         BOOLEAN: a verdict. CORRECTION: the right answer. NUMERIC, CATEGORICAL and TEXT
                   are no verdicts: attributes `langfuse.score.<name>`

Scores may also come later, by themselves.

The tables of its pages have scores as columns, averaged by name: those are no scores, and are left
out.

Source: Langfuse's documentation, «Blob Storage Export Field Reference» (fields, types); its code,
`web/src/features/traces/server/buildTraceExport.ts` (download) and `worker/src/features/
database-read-stream/observation-stream.ts` (tables); the types of its SDK, `langfuse` 5.0.4.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from kickwheel.records import Feedback, Message, Span, SpanKind, ToolSpec, genai
from kickwheel.trace.forms import loose
from kickwheel.trace.forms.form import (
    Piece,
    Remark,
    amount,
    attributes,
    loaded,
    number,
    short,
    span_id,
    text,
    time_ns,
    trace_id,
)
from kickwheel.trace.forms.rows import Row

_KINDS: dict[str, SpanKind] = {
    "GENERATION": "model",
    "EMBEDDING": "retrieval",
    "RETRIEVER": "retrieval",
    "TOOL": "tool",
    "GUARDRAIL": "guard",
    "AGENT": "agent",
    "CHAIN": "step",
    "SPAN": "step",
    "EVENT": "step",
    "EVALUATOR": "step",
}
_CASE = re.compile(r"(?<=[a-z0-9])([A-Z])")


class Langfuse:
    """Langfuse's traces, observations and scores."""

    name = "langfuse"
    about = "Langfuse's exports of observations, traces and scores"
    grouped = True

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Whether the keys are those of an observation, a score or a trace."""
        keys = _snake(entry).keys()
        return (
            {"trace_id", "type", "start_time"} <= keys
            or {"data_type", "name", "source"} <= keys
            or ({"id", "timestamp", "name"} <= keys and bool({"tags", "session_id"} & keys))
        )

    def read(self, row: Row, entry: Mapping[str, Any]) -> Sequence[Piece | Remark]:
        """What an observation, a trace (with the observations and scores in it) or a score says."""
        entry = _snake(entry)
        if "type" in entry and "start_time" in entry:
            return [_observation(entry)]
        if "data_type" in entry:
            return [_score(entry)]
        if "timestamp" in entry:
            return _trace(entry)
        keys = ", ".join(list(entry)[:6]) or "nothing"
        raise ValueError(f"no observation, trace or score of Langfuse: it has {keys}")


def _observation(entry: Mapping[str, Any]) -> Piece:
    identity, trace = text(entry, "id"), text(entry, "trace_id")
    sort = text(entry, "type").upper()
    if sort not in _KINDS:
        raise ValueError(f'no observation is of type "{sort}"')
    kind = _KINDS[sort]
    start_ns = time_ns(entry.get("start_time"), "start_time")
    if not start_ns:
        raise ValueError("start_time is missing")
    end_ns = max(start_ns, time_ns(entry.get("end_time"), "end_time"))
    parent = entry.get("parent_observation_id")
    failed = str(entry.get("level") or "").upper() == "ERROR"
    name = str(entry.get("name") or sort.lower())
    said, answered, offered = _exchange(entry, kind)
    span = Span(
        id=span_id(identity),
        parent=span_id(parent) if isinstance(parent, str) and parent else None,
        kind=kind,
        name=name,
        start_ns=start_ns,
        end_ns=end_ns,
        attributes=attributes(_about(entry, kind, sort, name, start_ns)),
        error=str(entry.get("status_message") or "failed") if failed else None,
        input=said,
        output=answered,
        tools=offered,
    )
    session = entry.get("session_id")
    names = [identity] + ([session] if isinstance(session, str) and session else [])
    return Piece(
        trace=trace_id(trace),
        spans=(span,),
        called=str(entry.get("trace_name") or ""),
        names=tuple(names),
    )


def _exchange(
    entry: Mapping[str, Any], kind: SpanKind
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[ToolSpec, ...]]:
    """What went in and came out, and the tools that were offered."""
    asked, answered = loaded(entry.get("input")), loaded(entry.get("output"))
    offered = loaded(entry.get("tool_definitions"))
    if kind == "tool":
        name, identity = str(entry.get("name") or "tool"), str(entry["id"])
        return loose.tool_call(name, asked, identity), loose.tool_result(answered, identity), ()
    if kind != "model":
        return loose.messages(asked, "user"), loose.messages(answered, "assistant"), ()
    if not offered and isinstance(asked, Mapping):
        offered = asked.get("tools")
    # Some write the tools as the first entries of the messages.
    if isinstance(asked, list):
        written = [one for one in asked if isinstance(one, Mapping) and _is_tool(one)]
        if written:
            offered = offered or [one.get("content") for one in written]
            asked = [one for one in asked if one not in written]
    said = loose.messages(answered, "assistant")
    calls = loaded(entry.get("tool_calls"))
    if isinstance(calls, list) and calls and not any(one.tool_calls for one in said):
        made = tuple(loose.call(one, position) for position, one in enumerate(calls))
        last = said[-1].content if said else None
        said = (*said[:-1], Message(role="assistant", content=last, tool_calls=made))
    return loose.messages(asked, "user"), said, loose.tools(offered)


def _is_tool(entry: Mapping[str, Any]) -> bool:
    content = entry.get("content")
    return (
        entry.get("role") == "tool"
        and isinstance(content, Mapping)
        and isinstance(content.get("function"), Mapping)
    )


def _about(
    entry: Mapping[str, Any], kind: SpanKind, sort: str, name: str, start_ns: int
) -> dict[str, Any]:
    usage, cost = loaded(entry.get("usage_details")), loaded(entry.get("cost_details"))
    usage = usage if isinstance(usage, Mapping) else {}
    cost = cost if isinstance(cost, Mapping) else {}
    params = loaded(entry.get("model_parameters"))
    params = params if isinstance(params, Mapping) else {}
    model = entry.get("provided_model_name") or entry.get("model")
    cached = number(usage.get("input_cached_tokens", usage.get("cache_read_input_tokens")))
    counted = number(usage.get("input"))
    found: dict[str, Any] = {
        "langfuse.observation.type": sort,
        "langfuse.environment": entry.get("environment"),
        "langfuse.user": entry.get("user_id"),
        "langfuse.session": entry.get("session_id"),
        "langfuse.prompt": entry.get("prompt_name"),
    }
    if kind == "model":
        first = time_ns(entry.get("completion_start_time"), "completion_start_time")
        found |= {
            genai.OPERATION: "chat",
            genai.REQUEST_MODEL: model,
            genai.TEMPERATURE: amount(params.get("temperature")),
            genai.MAX_TOKENS: number(params.get("max_tokens")),
            # Langfuse counts what came from a cache apart from the input.
            genai.INPUT_TOKENS: None if counted is None else counted + (cached or 0),
            genai.OUTPUT_TOKENS: number(usage.get("output")),
            genai.CACHED_TOKENS: cached,
            genai.COST_USD: amount(entry.get("total_cost")) or amount(cost.get("total")),
            genai.TIME_TO_FIRST_CHUNK_S: (first - start_ns) / 1e9 if first else None,
        }
    elif kind == "tool":
        found[genai.TOOL_NAME] = name
    elif sort == "AGENT":
        found[genai.AGENT_NAME] = name
    return {key: value for key, value in found.items() if value not in (None, "")}


def _trace(entry: Mapping[str, Any]) -> list[Piece | Remark]:
    identity = text(entry, "id")
    name = str(entry.get("name") or "")
    start_ns = time_ns(entry.get("timestamp"))
    found = {
        "langfuse.environment": entry.get("environment"),
        "langfuse.user": entry.get("user_id"),
        "langfuse.session": entry.get("session_id"),
        "langfuse.release": entry.get("release"),
        "langfuse.tags": loaded(entry.get("tags")),
    }
    root = Span(
        id=span_id(f"trace {identity}"),
        kind="agent",
        name=name or "trace",
        start_ns=start_ns,
        end_ns=start_ns,
        attributes=attributes({k: v for k, v in found.items() if v not in (None, "")}),
        input=loose.messages(entry.get("input"), "user"),
        output=loose.messages(entry.get("output"), "assistant"),
    )
    session = entry.get("session_id")
    names = (session,) if isinstance(session, str) and session else ()
    said: list[Piece | Remark] = [
        Piece(trace=trace_id(identity), root=root, called=name, names=names)
    ]
    # The API gives a trace with all that belongs to it.
    for position, inner in enumerate(_objects(entry.get("observations"))):
        try:
            said.append(_observation({"trace_id": identity, **_snake(inner)}))
        except ValueError as error:
            raise ValueError(f"observations[{position}]: {error}") from error
    for position, inner in enumerate(_objects(entry.get("scores"))):
        if "name" in inner:
            try:
                said.append(_score({"trace_id": identity, **_snake(inner)}))
            except ValueError as error:
                raise ValueError(f"scores[{position}]: {error}") from error
    return said


def _score(entry: Mapping[str, Any]) -> Remark:
    name = text(entry, "name")
    about = next(
        (str(entry[key]) for key in ("trace_id", "observation_id", "session_id") if entry.get(key)),
        "",
    )
    if not about:
        raise ValueError(f'the score "{name}" belongs to no trace, observation or session')
    sort = str(entry.get("data_type") or "NUMERIC").upper()
    written, comment = entry.get("string_value"), str(entry.get("comment") or "")
    value = amount(entry.get("value"))
    when = time_ns(entry.get("timestamp"))
    note = f"{name}: {comment}" if comment else name
    if sort == "BOOLEAN":
        if value not in (0.0, 1.0):
            raise ValueError(f'the score "{name}" must be 0 or 1, not {short(entry.get("value"))}')
        verdict = Feedback(verdict="good" if value else "bad", note=note, time_ns=when)
        return Remark(about=about, feedback=verdict)
    if sort == "CORRECTION":
        answer = loose.messages(written, "assistant")
        if not answer:
            raise ValueError("the correction is empty")
        right = Feedback(verdict="bad", answer=answer[-1], note=note, time_ns=when)
        return Remark(about=about, feedback=right)
    said = written if sort in ("CATEGORICAL", "TEXT") and written else value
    if said is None:
        raise ValueError(f'the score "{name}" has no value')
    noted = {f"langfuse.score.{name}": said}
    if comment:
        noted[f"langfuse.score.{name}.comment"] = comment
    return Remark(about=about, attributes=noted)


def _objects(value: object) -> list[Mapping[str, Any]]:
    value = loaded(value)
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _snake(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry under the names of the blob export."""
    return {_CASE.sub(lambda m: f"_{m[1].lower()}", key): value for key, value in entry.items()}
