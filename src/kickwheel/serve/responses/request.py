"""A request for a response as it comes over the wire, read into what a model is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kickwheel.models.chat import ChatRequest
from kickwheel.records import Message, ToolSpec
from kickwheel.records.responses import items_from_input, messages_from_items, tool_from_response
from kickwheel.serve.errors import Refused
from kickwheel.serve.request import choice, fields, mistake, number, tools_of

_NAMED_ALIKE = (
    *("parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"),
    *("service_tier", "user"),
)
"""Fields that chat requests have under the same name, and that models may understand."""
_NOT_HERE = {
    "conversation": "send previous_response_id instead",
    "prompt": "send its text as instructions",
    "context_management": "leave it out; agents of ours have memory",
}
_LEFT = ("include", "truncation", "max_tool_calls", "top_logprobs", "stream_options", "moderation")
"""Fields that change nothing here."""


class ResponseBody(msgspec.Struct):
    """The fields of a request that we understand; others are passed on to the model."""

    model: str
    input: str | list[Any] = ""
    instructions: str | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    metadata: dict[str, str] | None = None
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    background: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that was read."""

    body: ResponseBody
    items: Sequence[Mapping[str, Any]]
    """The input, as whole items."""
    offered: Sequence[Any]
    """The tools as they were sent."""
    tools: tuple[ToolSpec, ...]
    tool_choice: str
    json_schema: Mapping[str, Any] | None
    extra: Mapping[str, Any]
    """What is passed on to the model."""

    @property
    def stored(self) -> bool:
        """Whether the response is kept."""
        return self.body.store is not False

    def request(self, before: Sequence[Mapping[str, Any]] = ()) -> ChatRequest:
        """What a model is asked.

        Args:
            before: items of the responses that this one goes on from.
        Raises:
            Refused: the items make up no conversation (400).
        """
        body = self.body
        try:
            messages = messages_from_items(self.items, before)
        except ValueError as error:
            raise Refused(400, str(error), param="input") from error
        if body.instructions:
            messages = (Message(role="system", content=body.instructions), *messages)
        if not messages:
            raise Refused(400, "input is empty: say what is asked.", param="input")
        return ChatRequest(
            messages=messages,
            tools=self.tools,
            tool_choice=self.tool_choice,
            json_schema=self.json_schema,
            temperature=body.temperature,
            top_p=body.top_p,
            max_tokens=body.max_output_tokens,
            whole=not body.stream,
            extra=self.extra,
        )


def read(data: bytes) -> Asked:
    """The request that the body holds.

    Raises:
        Refused: it breaks the protocol, or wants what is not here (400); the text and `param` say
            where and what is understood.
    """
    plain, offered = fields(data)
    for name, instead in _NOT_HERE.items():
        if plain.get(name) is not None:
            raise Refused(400, f"{name} is not understood here: {instead}.", param=name)
    try:
        body = msgspec.convert(plain, ResponseBody)
        entries = msgspec.json.decode(offered, type=list[Any] | None) or []
    except msgspec.ValidationError as error:
        raise mistake(error) from error
    _check(body)
    try:
        items = items_from_input(body.input) if body.input else []
    except ValueError as error:
        raise Refused(400, str(error), param="input") from error
    tools = tools_of(entries, tool_from_response)
    extra = {
        name: value
        for name, value in plain.items()
        if value is not None
        and (name in _NAMED_ALIKE or name not in (*ResponseBody.__struct_fields__, *_LEFT))
    }
    for key, section, name in (
        ("reasoning_effort", body.reasoning, "effort"),
        ("verbosity", body.text, "verbosity"),
    ):
        if section and section.get(name) is not None:
            extra[key] = section[name]
    return Asked(
        body=body,
        items=items,
        offered=entries,
        tools=tools,
        tool_choice=choice(_as_in_chat(body.tool_choice), tools),
        json_schema=_schema(body.text),
        extra=extra,
    )


def _check(body: ResponseBody) -> None:
    number("temperature", body.temperature, 0, 2)
    number("top_p", body.top_p, 0, 1)
    if body.max_output_tokens is not None and body.max_output_tokens < 1:
        what = f"max_output_tokens must be at least 1, not {body.max_output_tokens}"
        raise Refused(400, what, param="max_output_tokens")
    if body.background and body.store is False:
        what = "a background response is fetched later, so it must be stored: leave store out"
        raise Refused(400, what, param="store")
    metadata = body.metadata or {}
    if len(metadata) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in metadata.items()):
        what = "metadata may hold 16 entries, with keys of 64 and values of 512 characters"
        raise Refused(400, what, param="metadata")


def _as_in_chat(wanted: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
    if isinstance(wanted, dict) and wanted.get("type") == "function" and "name" in wanted:
        return {"type": "function", "function": {"name": wanted["name"]}}
    return wanted


def _schema(text: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    match (text or {}).get("format"):
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {"type": "object"}
        case {"type": "json_schema", "schema": {} as schema}:
            return dict(schema)
    what = 'text.format must be {"type": …} of text, json_object, or json_schema with a schema'
    raise Refused(400, what, param="text.format")
