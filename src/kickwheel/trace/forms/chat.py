"""Chats in OpenAI's terms, an entry each:

    {"messages": […, the answer], "tools": […]}           OpenAI's fine-tuning form
    {"messages": […], "tools": […], "response": {…}}      a chat request and what came back
    {"request": {…}, "response": {…}}                     the same, apart
    {"timestamp", "workload_id", "client_id", "request", "response"}
                                                          NVIDIA's Data Flywheel Blueprint
    {"_index", "_id", "_source": {…}}                     the same, as Elasticsearch gives it

and beside them, in any form, what is known of the answer:

    "feedback": {"verdict": "good" | "bad", "answer": {a message}, "note": "…"}
    "accepted": [{"name": "…", "arguments": {"city": ["NYC", "New York"]}, "optional": ["date"]}]

Source: NVIDIA-AI-Blueprints/data-flywheel, `src/lib/integration/es_client.py` (the index's
mapping), `record_exporter.py` (what is read of `hits.hits[]._source`) and `src/scripts/
load_test_data.py` (files without `workload_id` are of the fine-tuning form);
`nvidia-nat-data-flywheel` 1.9.0, `schema/sink/elasticsearch/dfw_es_record.py` (NAT's records).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from kickwheel.records import AcceptedCall, Feedback, Message, Span, Trace, genai
from kickwheel.records.openai import message_from_openai, messages_from_openai, tool_from_openai
from kickwheel.records.trace import Value
from kickwheel.trace import jsonl
from kickwheel.trace.forms import form
from kickwheel.trace.forms.form import Piece, located, mapping, sequence, short, sort, time_ns
from kickwheel.trace.forms.rows import Row

_ROLES = {"human": "user", "ai": "assistant"}


class Chat:
    """OpenAI's chats, and the records of NVIDIA's Data Flywheel Blueprint."""

    name = "chat"
    about = "OpenAI chats, the fine-tuning form, Data Flywheel Blueprint records"
    grouped = False

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Whether there are messages, a request, or what Elasticsearch wraps around them."""
        source = entry.get("_source")
        entry = source if isinstance(source, Mapping) else entry
        return "messages" in entry or "request" in entry

    def read(self, row: Row, entry: Mapping[str, Any]) -> Sequence[Piece]:
        """The chat, as a trace of one span."""
        identity = hashlib.sha256(row.raw.strip()).hexdigest()
        source = entry.get("_source")
        entry = source if isinstance(source, Mapping) else entry
        return [_piece(_record(entry) if "workload_id" in entry else entry, identity)]


def read(line: bytes, *, workload: str, source: str) -> Trace:
    """The trace that a line of traffic holds, not yet redacted.

    Args:
        workload: whose traffic it is, where the line does not say.
        source: where the line stands, `chats.jsonl:212`.
    Raises:
        ValueError: it is broken; the text says how.
    """
    entry = jsonl.value(line)
    if not isinstance(entry, Mapping):
        raise ValueError(f"must be a JSON object, not {sort(entry)}")
    piece = _piece(entry, hashlib.sha256(line.strip()).hexdigest())
    return Trace(
        id=piece.trace,
        workload=piece.workload or workload,
        source=source,
        spans=piece.spans,
        feedback=piece.feedback,
    )


def _record(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record of the blueprint in OpenAI's words: NAT's exporter writes LangChain's names of
    roles, arguments as objects, and what went wrong beside the response."""
    plain = dict(entry)
    request, response = entry.get("request"), entry.get("response")
    if isinstance(request, Mapping) and isinstance(request.get("messages"), list):
        plain["request"] = {**request, "messages": [_message(one) for one in request["messages"]]}
    if isinstance(response, Mapping):
        choices = response.get("choices")
        if isinstance(choices, list):
            said = [
                {**one, "message": _message(one["message"])}
                if isinstance(one, Mapping) and "message" in one
                else one
                for one in choices
            ]
            plain["response"] = {**response, "choices": said}
        elif entry.get("error_details"):
            plain["response"] = {**response, "error": entry["error_details"]}
    return plain


def _message(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    plain = {**entry, "role": _ROLES.get(str(entry.get("role")), entry.get("role"))}
    if plain["role"] is None:
        del plain["role"]
    calls = entry.get("tool_calls")
    if isinstance(calls, list):
        plain["tool_calls"] = [_call(one) for one in calls]
    return plain


def _call(entry: Any) -> Any:
    function = entry.get("function") if isinstance(entry, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), Mapping):
        return entry
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**entry, "function": {**function, "arguments": arguments}}


def _piece(entry: Mapping[str, Any], identity: str) -> Piece:
    request, response = _halves(entry)
    messages, answer, error = _exchange(request, response)
    tools = tuple(located(tool_from_openai, sequence(request, "tools"), "tools"))
    whose = entry.get("workload_id") or None
    if whose is not None and not isinstance(whose, str):
        raise ValueError("workload_id must be text")
    start_ns = time_ns(entry.get("timestamp")) or time_ns((response or {}).get("created"))
    span = Span(
        id=identity[32:48],
        kind="model",
        name=str(request.get("model") or "chat"),
        start_ns=start_ns,
        end_ns=start_ns,
        attributes=_attributes(entry, request, response),
        error=error,
        input=messages,
        output=() if answer is None else (answer,),
        tools=tools,
    )
    return Piece(
        trace=identity[:32], workload=whose, spans=(span,), feedback=_feedback(entry, answer)
    )


def _halves(entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    if "request" in entry:
        request = mapping(entry["request"], "request")
    elif "messages" in entry:
        request = entry
    else:
        keys = ", ".join(list(entry)[:6]) or "nothing"
        raise ValueError(f"no chat: neither messages nor request stand here, only {keys}")
    if entry.get("response") is not None:
        return request, mapping(entry["response"], "response")
    return request, entry if "choices" in entry else None


def _exchange(
    request: Mapping[str, Any], response: Mapping[str, Any] | None
) -> tuple[tuple[Message, ...], Message | None, str | None]:
    """The conversation, its answer, and what went wrong instead."""
    if "messages" not in request:
        raise ValueError("the request has no messages")
    messages = messages_from_openai(sequence(request, "messages"))
    answer, error = None, None
    if response is None:
        if not messages or messages[-1].role != "assistant":
            raise ValueError(
                "no answer: there is no response, and the last message is not the assistant's"
            )
        messages, answer = messages[:-1], messages[-1]
    else:
        choices = sequence(response, "choices")
        if choices:
            first = choices[0]
            message = first.get("message") if isinstance(first, Mapping) else None
            if message is None:
                raise ValueError("response.choices[0] has no message")
            answer = message_from_openai({"role": "assistant", **mapping(message, "message")})
        elif response.get("error") is not None:
            said = response["error"]
            error = said if isinstance(said, str) else short(said)
        else:
            raise ValueError("the response has neither choices nor an error")
    if not messages:
        raise ValueError("no question: there are no messages before the answer")
    return messages, answer, error


def _attributes(
    entry: Mapping[str, Any], request: Mapping[str, Any], response: Mapping[str, Any] | None
) -> dict[str, Value]:
    response = response or {}
    usage = response.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    reason = first.get("finish_reason") if isinstance(first, Mapping) else None
    found: dict[str, Any] = {
        genai.OPERATION: "chat",
        genai.REQUEST_MODEL: request.get("model"),
        genai.RESPONSE_MODEL: response.get("model"),
        genai.RESPONSE_ID: response.get("id"),
        genai.TEMPERATURE: request.get("temperature"),
        genai.MAX_TOKENS: request.get("max_tokens") or request.get("max_completion_tokens"),
        genai.SEED: request.get("seed"),
        genai.INPUT_TOKENS: usage.get("prompt_tokens"),
        genai.OUTPUT_TOKENS: usage.get("completion_tokens"),
        genai.FINISH_REASONS: [reason] if isinstance(reason, str) else None,
        "client_id": entry.get("client_id"),
    }
    return form.attributes(found)


def _feedback(entry: Mapping[str, Any], answer: Message | None) -> tuple[Feedback, ...]:
    accepted = tuple(located(_accepted, sequence(entry, "accepted"), "accepted"))
    said = entry.get("feedback")
    if said is None:
        return (Feedback(verdict="good", accepted=accepted),) if accepted else ()
    said = mapping(said, "feedback")
    verdict = said.get("verdict")
    if verdict not in ("good", "bad"):
        raise ValueError(f'feedback.verdict must be "good" or "bad", not {short(verdict)}')
    right = said.get("answer")
    if isinstance(right, str):
        right = {"content": right}
    message = None
    if right is not None:
        message = message_from_openai({"role": "assistant", **mapping(right, "feedback.answer")})
    return (
        Feedback(
            verdict=verdict,
            answer=message,
            accepted=accepted,
            note=str(said.get("note") or ""),
        ),
    )


def _accepted(entry: object) -> AcceptedCall:
    call = mapping(entry, "an accepted call")
    name, arguments = call.get("name"), call.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise ValueError('must be {"name": …, "arguments": {argument: [values]}}')
    for argument, values in arguments.items():
        if not isinstance(values, list):
            raise ValueError(f"arguments.{argument} must be the list of values that are right")
    optional = call.get("optional") or []
    if not isinstance(optional, list) or not all(isinstance(one, str) for one in optional):
        raise ValueError("optional must be a list of arguments' names")
    return AcceptedCall(
        name=name,
        arguments={argument: tuple(values) for argument, values in arguments.items()},
        optional=tuple(optional),
    )
