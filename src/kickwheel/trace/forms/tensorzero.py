"""TensorZero's tables, a row each, as ClickHouse writes them (JSONEachRow, CSVWithNames) or its
client gives them:

    ChatInference, JsonInference   one inference, a trace of its own
    ModelInference                 a question to a model within one
    BooleanMetricFeedback          a verdict on an inference, or on all of an episode
    DemonstrationFeedback          the answer that would have been right
    FloatMetricFeedback            a number: no verdict, so an attribute `tensorzero.metric.<name>`
    CommentFeedback                words: an attribute `tensorzero.comment`

Rows of all tables may stand in one file, in any order; feedback may also come later, by itself.
Objects are objects, or texts that hold their JSON. A boolean metric that is to be minimised says
the opposite, which no row tells.

Source: TensorZero's documentation, `docs/gateway/data-model.mdx` (tables, columns) and
`docs/gateway/api-reference/inference.mdx` (content blocks).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kickwheel.records import Feedback, Message, Role, Span, ToolCall, ToolSpec, genai
from kickwheel.trace.forms import loose
from kickwheel.trace.forms.form import (
    Piece,
    Remark,
    amount,
    attributes,
    loaded,
    mapping,
    number,
    short,
    span_id,
    text,
    time_ns,
    trace_id,
)
from kickwheel.trace.forms.rows import Row

_REASONS = {"tool_call": "tool_calls", "stop_sequence": "stop"}


class TensorZero:
    """TensorZero's inferences and feedback."""

    name = "tensorzero"
    about = "TensorZero's tables of inferences and feedback"
    grouped = True

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Whether the keys are a table's of TensorZero."""
        keys = entry.keys()
        return (
            {"function_name", "episode_id", "input"} <= keys
            or {"inference_id", "raw_response"} <= keys
            or {"target_id", "value"} <= keys
            or {"inference_id", "value"} <= keys
        )

    def read(self, row: Row, entry: Mapping[str, Any]) -> Sequence[Piece | Remark]:
        """What a row of any of the tables says."""
        if "function_name" in entry:
            return [_inference(entry)]
        if "raw_response" in entry or "input_messages" in entry:
            return [_question(entry)]
        if "value" in entry and ("target_id" in entry or "inference_id" in entry):
            return [_said(entry)]
        keys = ", ".join(list(entry)[:6]) or "nothing"
        raise ValueError(f"a row of none of TensorZero's tables: it has {keys}")


def _inference(entry: Mapping[str, Any]) -> Piece:
    identity = text(entry, "id" if "id" in entry else "inference_id")
    start_ns = time_ns(entry.get("timestamp")) or _uuid_ns(identity)
    name = text(entry, "function_name")
    params = loaded(entry.get("inference_params"))
    chat = params.get("chat_completion") if isinstance(params, Mapping) else None
    chat = chat if isinstance(chat, Mapping) else {}
    found = {
        genai.OPERATION: "chat",
        genai.TEMPERATURE: chat.get("temperature"),
        genai.MAX_TOKENS: chat.get("max_tokens"),
        genai.SEED: chat.get("seed"),
        "tensorzero.function": name,
        "tensorzero.variant": entry.get("variant_name"),
        "tensorzero.episode": entry.get("episode_id"),
    }
    ttft = number(entry.get("ttft_ms"))
    if ttft is not None:
        found[genai.TIME_TO_FIRST_CHUNK_S] = ttft / 1000
    tags = loaded(entry.get("tags"))
    if isinstance(tags, Mapping):
        found |= {f"tensorzero.tag.{key}": value for key, value in tags.items()}
    root = Span(
        id=span_id(identity),
        kind="model",
        name=name,
        start_ns=start_ns,
        end_ns=start_ns + (number(entry.get("processing_time_ms")) or 0) * 1_000_000,
        attributes=attributes(found),
        input=_input(loaded(entry.get("input"))),
        output=_output(loaded(entry.get("output"))),
        tools=_tools(entry),
    )
    if not root.input:
        raise ValueError("input has no messages")
    episode = entry.get("episode_id")
    names = (str(episode),) if isinstance(episode, str) and episode else ()
    return Piece(trace=trace_id(identity), root=root, called=name, names=names)


def _question(entry: Mapping[str, Any]) -> Piece:
    """A row of ModelInference: the inference itself where it is the only one, else below it."""
    identity, inference = text(entry, "id"), text(entry, "inference_id")
    start_ns = time_ns(entry.get("timestamp")) or _uuid_ns(identity)
    reason = entry.get("finish_reason")
    found = {
        genai.OPERATION: "chat",
        genai.REQUEST_MODEL: entry.get("model_name"),
        genai.PROVIDER: entry.get("model_provider_name"),
        genai.INPUT_TOKENS: number(entry.get("input_tokens")),
        genai.OUTPUT_TOKENS: number(entry.get("output_tokens")),
        genai.FINISH_REASONS: [_REASONS.get(reason, reason)] if isinstance(reason, str) else None,
    }
    asked = {"system": entry.get("system"), "messages": loaded(entry.get("input_messages"))}
    span = Span(
        id=span_id(identity),
        parent=span_id(inference),
        kind="model",
        name=str(entry.get("model_name") or "model"),
        start_ns=start_ns,
        end_ns=start_ns + (number(entry.get("response_time_ms")) or 0) * 1_000_000,
        attributes=attributes(found),
        input=_input(asked),
        output=_output(loaded(entry.get("output"))),
    )
    return Piece(trace=trace_id(inference), spans=(span,))


def _said(entry: Mapping[str, Any]) -> Remark:
    identity = entry.get("id")
    when = time_ns(entry.get("timestamp"))
    if not when and isinstance(identity, str):
        when = _uuid_ns(identity)
    value, name = entry["value"], entry.get("metric_name")
    if "target_id" not in entry:
        answer = _output(loaded(value))
        if not answer:
            raise ValueError("the demonstration is empty")
        right = Feedback(verdict="bad", answer=answer[0], note="demonstration", time_ns=when)
        return Remark(about=text(entry, "inference_id"), feedback=right)
    about = text(entry, "target_id")
    if isinstance(name, str) and name:
        verdict: Literal["good", "bad"] | None = None
        if isinstance(value, bool) or value in ("true", "false"):
            verdict = "good" if value in (True, "true") else "bad"
            return Remark(about=about, feedback=Feedback(verdict=verdict, note=name, time_ns=when))
        figure = amount(value)
        if figure is None:
            raise ValueError(f"the value of {name} is neither true, false nor a number")
        return Remark(about=about, attributes={f"tensorzero.metric.{name}": figure})
    if not isinstance(value, str):
        raise ValueError(f"a comment must be text, not {short(value)}")
    return Remark(about=about, attributes={"tensorzero.comment": value})


def _input(value: object) -> tuple[Message, ...]:
    asked = mapping(value, "input")
    system = loaded(asked.get("system"))
    said: list[Message] = []
    if system not in (None, "", {}):
        said.append(Message(role="system", content=loose.text(system)))
    entries = asked.get("messages")
    if not isinstance(entries, list):
        raise ValueError("input.messages must be a list")
    for position, entry in enumerate(entries):
        one = mapping(entry, f"messages[{position}]")
        try:
            said += _message(_role(one.get("role")), one.get("content"))
        except ValueError as error:
            raise ValueError(f"messages[{position}]: {error}") from error
    return tuple(said)


def _role(value: object) -> Role:
    if value == "user" or value == "assistant" or value == "system":
        return value
    raise ValueError(f"no role {short(value)}")


def _message(role: Role, content: object) -> list[Message]:
    """A message, and before it the results of tools that stand in it."""
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    results: list[Message] = []
    texts: list[str] = []
    calls: list[ToolCall] = []
    for block in blocks:
        one = mapping(block, "a content block")
        kind = one.get("type")
        if kind in ("text", "raw_text", "template"):
            # Older rows have a text's words in `value`; a template has its arguments.
            said = next((one[key] for key in ("text", "value", "arguments") if one.get(key)), "")
            texts.append(loose.text(said))
        elif kind == "tool_call":
            calls.append(loose.call(one, len(calls)))
        elif kind == "tool_result":
            results.append(
                Message(
                    role="tool",
                    content=loose.text(one.get("result")),
                    tool_call_id=str(one.get("id") or ""),
                )
            )
        elif kind not in ("thought", "unknown"):
            raise ValueError(f"a content block must be text, a call or a result, not {kind}")
    if not texts and not calls:
        return results
    said = Message(role=role, content="".join(texts) if texts else None, tool_calls=tuple(calls))
    return [*results, said]


def _output(value: object) -> tuple[Message, ...]:
    if value in (None, "", []):
        return ()
    if isinstance(value, Mapping) and ("raw" in value or "parsed" in value):
        raw, parsed = value.get("raw"), value.get("parsed")
        if raw is None and parsed is None:
            return ()
        written = raw if isinstance(raw, str) else json.dumps(parsed, ensure_ascii=False)
        return (Message(role="assistant", content=written),)
    if isinstance(value, list):
        return tuple(_message("assistant", value))
    return (Message(role="assistant", content=loose.text(value)),)


def _tools(entry: Mapping[str, Any]) -> tuple[ToolSpec, ...]:
    dynamic = loaded(entry.get("dynamic_tools"))
    params = loaded(entry.get("tool_params"))
    older = params.get("tools_available") if isinstance(params, Mapping) else None
    return loose.tools([one for told in (dynamic, older) if isinstance(told, list) for one in told])


def _uuid_ns(identity: str) -> int:
    """When a UUIDv7 was made; 0 of another id."""
    bare = identity.replace("-", "")
    if len(bare) != 32 or bare[12] != "7":
        return 0
    try:
        return int(bare[:12], 16) * 1_000_000
    except ValueError:
        return 0
