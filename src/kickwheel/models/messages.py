"""Anthropic's Messages protocol: a request as its body, an answer from its events.

Source: docs.anthropic.com, Messages, Streaming, and Prompt caching.
"""

from typing import Any

from kickwheel.models.arguments import without_choices
from kickwheel.models.chat import (
    CallDelta,
    ChatRequest,
    Delta,
    Done,
    FinishReason,
    TextDelta,
    Usage,
)
from kickwheel.models.closed import form
from kickwheel.models.pictures import Eyes
from kickwheel.models.turns import SMALLEST_PREFIX, arguments, in_turns, others
from kickwheel.records import Message

LABEL = "label"
"""The key under which a label stands in an answer."""
_CACHED = {"type": "ephemeral"}
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class Reading:
    """The pieces of one answer, from the events of its stream."""

    def __init__(self, model: str) -> None:
        self.done: Done | None = None
        """The end, once the server told it."""
        self._model = model
        self._calls: dict[int, int] = {}
        self._silent: set[int] = set()
        """Calls of which no argument has come yet."""
        self._counts: dict[str, int] = {}
        self._finish: FinishReason | None = None

    def feed(self, event: Any) -> list[Delta]:
        """The pieces that an event brings."""
        match event.type:
            case "message_start":
                self._model = event.message.model or self._model
                self._count(event.message.usage)
            case "content_block_start" if event.content_block.type == "tool_use":
                index = self._calls[event.index] = len(self._calls)
                self._silent.add(event.index)
                block = event.content_block
                return [CallDelta(index, "", str(block.id), str(block.name))]
            case "content_block_delta" if event.delta.type == "text_delta":
                return [TextDelta(event.delta.text)] if event.delta.text else []
            case "content_block_delta" if event.delta.type == "input_json_delta":
                if event.delta.partial_json:
                    self._silent.discard(event.index)
                    return [CallDelta(self._calls[event.index], event.delta.partial_json)]
            case "content_block_stop" if event.index in self._silent:
                # A call without arguments: JSON knows no empty text.
                return [CallDelta(self._calls[event.index], "{}")]
            case "message_delta":
                self._count(event.usage)
                if event.delta.stop_reason:
                    self._finish = _FINISH.get(event.delta.stop_reason, "stop")
            case "message_stop" if self._finish is not None:
                self.done = Done(self._finish, self._usage(), self._model)
        return []

    def _count(self, usage: Any) -> None:
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ):
            value = getattr(usage, name, None)
            if isinstance(value, int):
                self._counts[name] = value

    def _usage(self) -> Usage:
        count = self._counts.get
        cached = count("cache_read_input_tokens", 0)
        written = count("cache_creation_input_tokens", 0)
        return Usage(
            prompt_tokens=count("input_tokens", 0) + cached + written,
            output_tokens=count("output_tokens", 0),
            cached_tokens=cached,
            written_tokens=written,
        )


def message_body(
    request: ChatRequest, model: str, max_tokens: int, eyes: Eyes | None = None
) -> dict[str, Any]:
    """The request as Anthropic's protocol has it, with marks where its cache pays.

    A prefix that is long enough is marked after what every conversation begins with (tools, system)
    and, where another step is to be expected, after the last turn: the next step reads all of
    this one. `seed`, which Anthropic does not know, is left out.
    """
    system, turns, called = in_turns(request.messages, sees=eyes is not None)
    schema, words = form(request, LABEL)
    system += [words] if words else []
    body: dict[str, Any] = {"model": model, "max_tokens": request.max_tokens or max_tokens}
    # A conversation with calls is refused where no tool is offered, as one that was handed on.
    if tools := request.tools or called:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": {"type": "object", **without_choices(tool.parameters)},
            }
            for tool in tools
        ]
        body["tool_choice"] = _choice(request.tool_choice if request.tools else "none")
        alone = request.extra.get("parallel_tool_calls") is False
        if alone and body["tool_choice"] != {"type": "none"}:
            body["tool_choice"]["disable_parallel_tool_use"] = True
    if system:
        body["system"] = [{"type": "text", "text": text} for text in system]
    body["messages"] = [
        {"role": side, "content": [block for message in said for block in _blocks(message, eyes)]}
        for side, said in turns
    ]
    _mark(body, goes_on=bool(request.tools) or len(turns) > 1)
    if schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if request.temperature is not None:
        body["temperature"] = min(request.temperature, 1.0)  # Where OpenAI's scale has its half.
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    body |= {key: value for key, value in others(request.extra).items() if key not in body}
    return body


def _mark(body: dict[str, Any], *, goes_on: bool) -> None:
    start = [*body.get("tools", ()), *body.get("system", ())]
    length = sum(len(str(entry)) for entry in start)
    if start and length >= SMALLEST_PREFIX:
        start[-1]["cache_control"] = _CACHED
    length += sum(len(str(message)) for message in body["messages"])
    if goes_on and body["messages"] and length >= SMALLEST_PREFIX:
        body["messages"][-1]["content"][-1]["cache_control"] = _CACHED


def _choice(choice: str) -> dict[str, Any]:
    known = {"auto": "auto", "none": "none", "required": "any"}.get(choice)
    return {"type": known} if known else {"type": "tool", "name": choice}


def _blocks(message: Message, eyes: Eyes | None) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id}
        if eyes is None or not message.images:
            return [{**result, "content": message.content}] if message.content else [result]
        return [{**result, "content": eyes.anthropic(message)}]
    blocks: list[dict[str, Any]] = []
    if eyes is not None and message.images:
        blocks += eyes.anthropic(message)
    elif message.content:
        blocks.append({"type": "text", "text": message.content})
    for call in message.tool_calls:
        use = {"type": "tool_use", "id": call.id, "name": call.name}
        blocks.append({**use, "input": arguments(call.arguments)})
    return blocks
