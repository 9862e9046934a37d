"""What a span says in OpenInference's terms, as Phoenix and its instrumentations write them.

Attributes come flat (`llm.input_messages.0.message.role`), nested, or half and half, as in a
dataframe whose columns hold lists of objects with dotted keys.

Source: OpenInference's semantic conventions, `openinference-semantic-conventions` 0.1.42; and what
its instrumentations send beside them (`docs/otlp.md` has their versions).
"""

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kickwheel.records import Message, SpanKind, ToolSpec, genai
from kickwheel.records.message import Role
from kickwheel.records.trace import Value
from kickwheel.trace.forms import loose
from kickwheel.trace.forms.form import amount, attributes, loaded, number

KIND = "openinference.span.kind"
_KINDS: dict[str, SpanKind] = {
    "LLM": "model",
    "EMBEDDING": "retrieval",
    "RETRIEVER": "retrieval",
    "RERANKER": "retrieval",
    "TOOL": "tool",
    "GUARDRAIL": "guard",
    "AGENT": "agent",
    "CHAIN": "step",
    "PROMPT": "step",
    "DECISION": "model",
    "EVALUATOR": "step",
    "UNKNOWN": "step",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the attributes say, in our terms."""

    kind: SpanKind
    input: tuple[Message, ...]
    output: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    attributes: Mapping[str, Value]


def told(found: Mapping[str, Any], name: str, kind: str | None = None) -> Told:
    """What a span's attributes say.

    Args:
        name: of the span: a tool's, where the attributes name none.
        kind: of the span, where it stands apart from the attributes.
    Raises:
        ValueError: a message has parts that are no text, or a call no name.
    """
    tree = nested(found)
    sort = str(kind or _at(tree, KIND) or "UNKNOWN").upper()
    ours = _KINDS.get(sort, "step")
    llm = tree.get("llm")
    llm = llm if isinstance(llm, Mapping) else {}
    asked = _messages(llm.get("input_messages"), "user")
    if not any(message.content or message.tool_calls for message in asked):
        asked = ()  # LangGraph's graphs name a role and nothing that it said.
    answered = _messages(llm.get("output_messages"), "assistant")
    about = attributes(_about(tree, llm, ours, sort, name))
    if ours == "tool":
        result = _result(tree)
        identity = str(about.get(genai.TOOL_CALL_ID) or loose.answered(result) or "call_0")
        # A name that no attribute can hold is none.
        tool = str(about.setdefault(genai.TOOL_NAME, name))
        return Told(
            kind=ours,
            input=loose.tool_call(tool, _at(tree, "input.value"), identity),
            output=loose.tool_result(result, identity),
            tools=(),
            attributes=about,
        )
    return Told(
        kind=ours,
        input=asked or loose.messages(_question(tree, sort), "user"),
        output=answered or _output(tree),
        tools=_tools(llm.get("tools")),
        attributes=about,
    )


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes as a tree: dots lead down, numbers are positions in a list."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        node, (*way, last) = tree, str(key).split(".")
        for step in way:
            inner = node.get(step)
            if not isinstance(inner, dict):
                inner = node[step] = {}
            node = inner
        value = _deep(value)
        there = node.get(last)
        if isinstance(value, dict) and isinstance(there, dict):
            value = {**there, **value}
        elif isinstance(there, dict):
            continue
        node[last] = value
    return {key: _lists(value) for key, value in tree.items()}


def _deep(value: Any) -> Any:
    if isinstance(value, Mapping):
        return nested(value)
    if isinstance(value, list):
        return [_deep(one) for one in value]
    return value


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _lists(one) for key, one in value.items()}
    if inner and all(key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def _at(tree: Mapping[str, Any], path: str) -> Any:
    node: Any = tree
    for step in path.split("."):
        node = node.get(step) if isinstance(node, Mapping) else None
    return node


def _messages(value: object, role: Role) -> tuple[Message, ...]:
    value = loaded(value)
    if not isinstance(value, list):
        return ()
    said: list[Message] = []
    for position, entry in enumerate(value):
        entry = nested(entry) if isinstance(entry, Mapping) else {}
        inner = entry.get("message")
        one = dict(inner) if isinstance(inner, Mapping) else dict(entry)
        contents = one.get("contents")
        if isinstance(contents, list) and not one.get("content"):
            one["content"] = [_part(part) for part in contents]
        results = entry.get("function")
        if one.get("role") == "function" and isinstance(results, list):
            # AutoGen's instrumentation puts the results beside the message.
            said += [_answer(loaded(result)) for result in results]
            continue
        one.setdefault("content", None)
        one.setdefault("role", role)
        calls = one.get("tool_calls")
        if isinstance(calls, list):
            one["tool_calls"] = [_call(call) for call in calls]
        try:
            said += loose.messages(one, role)
        except ValueError as error:
            raise ValueError(f"messages[{position}]: {error}") from error
    return tuple(said)


def _part(part: object) -> Any:
    inner = part.get("message_content") if isinstance(part, Mapping) else None
    return inner if isinstance(inner, Mapping) else part


def _call(call: object) -> Any:
    inner = call.get("tool_call") if isinstance(call, Mapping) else None
    found: Any = inner if isinstance(inner, Mapping) else call
    function = found.get("function") if isinstance(found, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return found
    # CrewAI's instrumentation writes Python's text of the name.
    return {**found, "function": {**function, "name": function["name"].strip("'")}}


def _answer(result: object) -> Message:
    told = result if isinstance(result, Mapping) else {"content": result}
    by = told.get("call_id")
    content = loose.text(told.get("content"))
    return Message(role="tool", content=content, tool_call_id=None if by is None else str(by))


def _question(tree: Mapping[str, Any], sort: str) -> Any:
    """What came in; of an agent of smolagents the task, which stands among its options."""
    value = _at(tree, "input.value")
    given = loaded(value)
    task = given.get("task") if sort == "AGENT" and isinstance(given, Mapping) else None
    return task if isinstance(task, str) else value


def _result(tree: Mapping[str, Any]) -> Any:
    """What a tool gave; a text that is written as JSON is that text."""
    value = _at(tree, "output.value")
    quoted = isinstance(value, str) and value[:1] == '"' == value[-1:]
    if quoted and _at(tree, "output.mime_type") == "application/json":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _output(tree: Mapping[str, Any]) -> tuple[Message, ...]:
    documents = _at(tree, "retrieval.documents")
    if isinstance(documents, list) and documents:
        found = [one.get("document", one) if isinstance(one, Mapping) else one for one in documents]
        return (Message(role="assistant", content=json.dumps(found, ensure_ascii=False)),)
    return loose.messages(_at(tree, "output.value"), "assistant")


def _tools(value: object) -> tuple[ToolSpec, ...]:
    value = loaded(value)
    if not isinstance(value, list):
        return ()
    schemas = []
    for entry in value:
        entry = nested(entry) if isinstance(entry, Mapping) else {}
        tool = entry.get("tool")
        schema = loaded(_at(entry, "tool.json_schema"))
        schemas.append(schema if isinstance(schema, Mapping) else _spelled(tool or entry))
    return loose.tools(schemas)


def _spelled(tool: Any) -> Any:
    """The tool with whole schemas of its arguments, which CrewAI's instrumentation writes as
    Python's text of them."""
    schema: Any = _at(tool, "function.parameters") if isinstance(tool, Mapping) else None
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping) or not any(
        isinstance(one, str) for one in properties.values()
    ):
        return tool
    whole = {**schema, "properties": {name: _literal(p, {}) for name, p in properties.items()}}
    if isinstance(schema.get("required"), list):
        whole["required"] = [_literal(name, name) for name in schema["required"]]
    return {**tool, "function": {**tool["function"], "parameters": whole}}


def _literal(written: object, otherwise: object) -> Any:
    try:
        return ast.literal_eval(written) if isinstance(written, str) else written
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return otherwise


def _about(
    tree: Mapping[str, Any], llm: Mapping[str, Any], kind: SpanKind, sort: str, name: str
) -> dict[str, Any]:
    found: dict[str, Any] = {
        KIND: sort,
        "session.id": _at(tree, "session.id"),
        "user.id": _at(tree, "user.id"),
        "tag.tags": _at(tree, "tag.tags"),
    }
    metadata = loaded(_at(tree, "metadata"))
    if isinstance(metadata, Mapping):
        found |= {f"metadata.{key}": value for key, value in metadata.items()}
    if kind == "model":
        params = loaded(llm.get("invocation_parameters"))
        params = params if isinstance(params, Mapping) else {}
        reason = _at(llm, "finish_reason")
        found |= {
            genai.OPERATION: "chat",
            genai.PROVIDER: _at(llm, "provider") or _at(llm, "system"),
            genai.REQUEST_MODEL: _at(llm, "request.model_name")
            or params.get("model")
            or _at(llm, "model_name"),
            genai.RESPONSE_MODEL: _at(llm, "response.model_name") or _at(llm, "model_name"),
            genai.TEMPERATURE: amount(params.get("temperature")),
            genai.MAX_TOKENS: number(
                params.get("max_tokens") or params.get("max_completion_tokens")
            ),
            genai.SEED: number(params.get("seed")),
            genai.INPUT_TOKENS: number(_at(llm, "token_count.prompt")),
            genai.OUTPUT_TOKENS: number(_at(llm, "token_count.completion")),
            genai.CACHED_TOKENS: number(_at(llm, "token_count.prompt_details.cache_read")),
            genai.COST_USD: amount(_at(llm, "cost.total")),
            genai.FINISH_REASONS: [reason] if isinstance(reason, str) else None,
        }
    elif kind == "tool":
        # DSPy's names the tool only there.
        method = name.removesuffix(".acall").removesuffix(".__call__")
        found[genai.TOOL_NAME] = _at(tree, "tool.name") or method
        found[genai.TOOL_CALL_ID] = _at(tree, "tool_call.id") or _at(tree, "tool.id")
    elif sort == "AGENT":
        found[genai.AGENT_NAME] = _at(tree, "agent.name") or _at(tree, "graph.node.id") or name
    return {key: value for key, value in found.items() if value not in (None, "")}
