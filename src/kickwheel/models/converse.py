"""Bedrock's Converse protocol: a request as its parameters, an answer from its events.

Source: docs.aws.amazon.com, Bedrock's API reference, ConverseStream.
"""

import json
from collections.abc import Mapping
from typing import Any

from kickwheel.models.arguments import without_choices
from kickwheel.models.chat import CallDelta, ChatRequest, Delta, FinishReason, TextDelta, Usage
from kickwheel.models.closed import form
from kickwheel.models.pictures import Eyes
from kickwheel.models.turns import SMALLEST_PREFIX, arguments, in_turns, others
from kickwheel.records import Message, ToolSpec

LABEL = "label"
"""The key under which a label stands in an answer."""
_CACHED = {"cachePoint": {"type": "default"}}
_CACHING = ("anthropic.claude", "amazon.nova")
"""In the names of models that take marks for a cache; others refuse a request with one."""
_FORMING = (
    *("anthropic.claude", "deepseek.", "google.", "minimax.", "mistral.", "moonshot"),
    *("nvidia.", "openai.", "qwen."),
)
"""In the names of models that are held to a schema; others refuse a request with one."""
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


class Reading:
    """The pieces of one answer, from the events of its stream."""

    def __init__(self, model: str) -> None:
        self.finish: FinishReason | None = None
        """Why it ended, once the server told it."""
        self.usage = Usage()
        self._calls: dict[int, int] = {}
        self._silent: set[int] = set()
        """Calls of which no argument has come yet."""

    def feed(self, event: Mapping[str, Any]) -> list[Delta]:
        """The pieces that an event brings."""
        ((kind, said),) = event.items()
        if kind == "contentBlockStart" and "toolUse" in said["start"]:
            block, use = said["contentBlockIndex"], said["start"]["toolUse"]
            index = self._calls[block] = len(self._calls)
            self._silent.add(block)
            return [CallDelta(index, "", use["toolUseId"], use["name"])]
        if kind == "contentBlockDelta":
            block, delta = said["contentBlockIndex"], said["delta"]
            if delta.get("text"):
                return [TextDelta(delta["text"])]
            if delta.get("toolUse", {}).get("input"):
                self._silent.discard(block)
                return [CallDelta(self._calls[block], delta["toolUse"]["input"])]
        elif kind == "contentBlockStop" and said["contentBlockIndex"] in self._silent:
            # A call without arguments: JSON knows no empty text.
            return [CallDelta(self._calls[said["contentBlockIndex"]], "{}")]
        elif kind == "messageStop":
            reason = said["stopReason"]
            if reason.startswith("malformed"):
                raise ValueError(f"the model wrote what cannot be used ({reason})")
            self.finish = _FINISH.get(reason, "stop")
        elif kind == "metadata":
            self.usage = _usage(said["usage"])
        return []


def converse_body(request: ChatRequest, model: str, eyes: Eyes | None = None) -> dict[str, Any]:
    """The request as Bedrock's Converse has it, with marks where its cache pays.

    Marks stand as in `messages.message_body`, for models that know them. `seed`, which Converse
    does not know, is left out; of `extra` what is not OpenAI's own goes to the model as it is.
    """
    system, turns, called = in_turns(request.messages, sees=eyes is not None)
    schema, words = form(request, LABEL, able=any(name in model for name in _FORMING))
    system += [words] if words else []
    body: dict[str, Any] = {"modelId": model}
    # Converse has no "none": tools are then not offered, unless there are calls of theirs. It
    # refuses a conversation with calls where none is, as one that an agent with tools handed on.
    tools = request.tools or called
    if tools and (request.tool_choice != "none" or called):
        body["toolConfig"] = {"tools": [{"toolSpec": _spec(tool)} for tool in tools]}
        choice = _choice(request.tool_choice) if request.tools else None
        if choice is not None:
            body["toolConfig"]["toolChoice"] = choice
    if system:
        body["system"] = [{"text": text} for text in system]
    body["messages"] = [
        {"role": side, "content": [block for message in said for block in _blocks(message, eyes)]}
        for side, said in turns
    ]
    if any(name in model for name in _CACHING):
        _mark(body, goes_on=bool(request.tools) or len(turns) > 1)
    config = {
        "maxTokens": request.max_tokens,
        "temperature": None if request.temperature is None else min(request.temperature, 1.0),
        "topP": request.top_p,
        "stopSequences": list(request.stop) or None,
    }
    if any(value is not None for value in config.values()):
        body["inferenceConfig"] = {k: v for k, v in config.items() if v is not None}
    if schema is not None:
        structure = {"jsonSchema": {"name": "answer", "schema": json.dumps(schema)}}
        body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
    extra = others(request.extra)
    if extra:
        body["additionalModelRequestFields"] = extra
    return body


def _mark(body: dict[str, Any], *, goes_on: bool) -> None:
    length = len(str(body.get("toolConfig", ""))) + len(str(body.get("system", "")))
    if "system" in body and length >= SMALLEST_PREFIX:
        body["system"].append(_CACHED)
    length += len(str(body["messages"]))
    if goes_on and body["messages"] and length >= SMALLEST_PREFIX:
        body["messages"][-1]["content"].append(_CACHED)


def _spec(tool: ToolSpec) -> dict[str, Any]:
    schema = {"type": "object", **without_choices(tool.parameters)}
    spec = {"name": tool.name, "inputSchema": {"json": schema}}
    return {**spec, "description": tool.description} if tool.description else spec


def _choice(choice: str) -> dict[str, Any] | None:
    if choice in ("auto", "none"):
        return None
    return {"any": {}} if choice == "required" else {"tool": {"name": choice}}


def _blocks(message: Message, eyes: Eyes | None) -> list[dict[str, Any]]:
    if message.role == "tool":
        content: list[dict[str, Any]] = [{"text": message.content or "(nothing)"}]
        if eyes is not None and message.images:
            content = eyes.bedrock(message)
        return [{"toolResult": {"toolUseId": message.tool_call_id, "content": content}}]
    blocks: list[dict[str, Any]] = []
    if eyes is not None and message.images:
        blocks += eyes.bedrock(message)
    elif message.content:
        blocks.append({"text": message.content})
    for call in message.tool_calls:
        use = {"toolUseId": call.id, "name": call.name, "input": arguments(call.arguments)}
        blocks.append({"toolUse": use})
    return blocks


def _usage(said: Mapping[str, Any]) -> Usage:
    cached, written = said.get("cacheReadInputTokens", 0), said.get("cacheWriteInputTokens", 0)
    return Usage(
        prompt_tokens=said["inputTokens"] + cached + written,
        output_tokens=said["outputTokens"],
        cached_tokens=cached,
        written_tokens=written,
    )
