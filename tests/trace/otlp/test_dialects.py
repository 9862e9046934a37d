"""What each dialect writes of one conversation is the same conversation to us."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.records import Message, Span, ToolCall, ToolSpec, genai, wire
from kickwheel.trace.otlp.observed import ERROR, Event, Group, Observed
from kickwheel.trace.otlp.read import read, understood

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CALL = ToolCall(id="call_7", name="find", arguments='{"city": "Rome"}')
ASKED = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Rome?"),
    Message(role="assistant", tool_calls=(CALL,)),
    Message(role="tool", content="sunny", tool_call_id="call_7"),
)
ANSWERED = (Message(role="assistant", content="It is sunny."),)
TOOLS = (ToolSpec(name="find", description="Finds.", parameters=SCHEMA),)


def a_span(
    attributes: dict[str, Any] | None = None, *events: Event, name: str = "span", **more: Any
) -> Observed:
    return Observed(
        trace="0af7651916cd43dd8448eb211c80319c",
        id="00f067aa0ba902b7",
        name=name,
        start_ns=1,
        end_ns=2,
        attributes=attributes or {},
        events=events,
        **more,
    )


def part(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


PARTS_ASKED = [
    {"role": "user", "parts": [part("text", content="Rome?")]},
    {
        "role": "assistant",
        "parts": [
            part("reasoning", content="Let me see."),
            part("tool_call", id="call_7", name="find", arguments={"city": "Rome"}),
        ],
    },
    {"role": "tool", "parts": [part("tool_call_response", id="call_7", response="sunny")]},
]
PARTS_ANSWERED = [
    {
        "role": "assistant",
        "parts": [part("text", content="It is "), part("text", content="sunny.")],
        "finish_reason": "stop",
    }
]
DEFINITIONS = [part("function", name="find", description="Finds.", parameters=SCHEMA)]
CURRENT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.output_tokens": 7,
}
CONTENT = {
    "gen_ai.system_instructions": [part("text", content="Be brief.")],
    "gen_ai.input.messages": PARTS_ASKED,
    "gen_ai.output.messages": PARTS_ANSWERED,
    "gen_ai.tool.definitions": DEFINITIONS,
}

TRACELOOP = {
    "llm.request.type": "chat",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.usage.prompt_tokens": 20,
    "gen_ai.usage.completion_tokens": 7,
    "gen_ai.prompt.0.role": "system",
    "gen_ai.prompt.0.content": "Be brief.",
    "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": "Rome?",
    "gen_ai.prompt.2.role": "assistant",
    "gen_ai.prompt.2.tool_calls.0.id": "call_7",
    "gen_ai.prompt.2.tool_calls.0.name": "find",
    "gen_ai.prompt.2.tool_calls.0.arguments": '{"city": "Rome"}',
    "gen_ai.prompt.3.role": "tool",
    "gen_ai.prompt.3.content": "sunny",
    "gen_ai.prompt.3.tool_call_id": "call_7",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "It is sunny.",
    "gen_ai.completion.0.finish_reason": "stop",
    "llm.request.functions.0.name": "find",
    "llm.request.functions.0.description": "Finds.",
    "llm.request.functions.0.parameters": json.dumps(SCHEMA),
}
OPENAI_CALL = {
    "id": "call_7",
    "type": "function",
    "function": {"name": "find", "arguments": '{"city": "Rome"}'},
}
LANGSMITH = {
    "langsmith.span.kind": "llm",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-5-mini",
    "gen_ai.usage.input_tokens": 20,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.response.finish_reasons": ["stop"],
    "gen_ai.tool.definitions": json.dumps(
        [{"type": "function", "function": {**DEFINITIONS[0], "parameters": SCHEMA}}]
    ),
    "gen_ai.prompt": json.dumps(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Rome?"},
                {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]},
                {"role": "tool", "content": "sunny", "tool_call_id": "call_7"},
            ]
        }
    ),
    "gen_ai.completion": json.dumps(
        {"messages": [{"role": "assistant", "content": "It is sunny."}]}
    ),
}
EVENTS = (
    Event(name="gen_ai.system.message", attributes={"content": "Be brief."}),
    Event(name="gen_ai.user.message", attributes={"content": "Rome?"}),
    Event(name="gen_ai.assistant.message", attributes={"tool_calls": json.dumps([OPENAI_CALL])}),
    Event(name="gen_ai.tool.message", attributes={"content": "sunny", "id": "call_7"}),
    Event(
        name="gen_ai.choice",
        attributes={
            "index": 0,
            "finish_reason": "stop",
            "message": json.dumps({"role": "assistant", "content": "It is sunny."}),
        },
    ),
)
LLM = "llm.input_messages"
OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.provider": "openai",
    "llm.model_name": "gpt-5-mini",
    "llm.token_count.prompt": 20,
    "llm.token_count.completion": 7,
    "llm.finish_reason": "stop",
    "input.value": '{"messages": "…"}',
    "output.value": "It is sunny.",
    f"{LLM}.0.message.role": "system",
    f"{LLM}.0.message.content": "Be brief.",
    f"{LLM}.1.message.role": "user",
    f"{LLM}.1.message.contents.0.message_content.type": "text",
    f"{LLM}.1.message.contents.0.message_content.text": "Rome?",
    f"{LLM}.2.message.role": "assistant",
    f"{LLM}.2.message.tool_calls.0.tool_call.id": "call_7",
    f"{LLM}.2.message.tool_calls.0.tool_call.function.name": "find",
    f"{LLM}.2.message.tool_calls.0.tool_call.function.arguments": '{"city": "Rome"}',
    f"{LLM}.3.message.role": "tool",
    f"{LLM}.3.message.content": "sunny",
    f"{LLM}.3.message.tool_call_id": "call_7",
    "llm.output_messages.0.message.role": "assistant",
    "llm.output_messages.0.message.content": "It is sunny.",
    "llm.tools.0.tool.json_schema": json.dumps(
        {"type": "function", "function": {**DEFINITIONS[0], "parameters": SCHEMA}}
    ),
}

SPANS = {
    "current, as JSON": a_span(CURRENT | {n: json.dumps(v) for n, v in CONTENT.items()}),
    "current, nested": a_span(CURRENT | CONTENT),
    "current, in an event": a_span(
        CURRENT,
        Event(name="gen_ai.client.inference.operation.details", attributes=CONTENT),
    ),
    "Traceloop": a_span(TRACELOOP),
    "LangSmith": a_span(LANGSMITH),
    "events": a_span({**CURRENT, "gen_ai.tool.definitions": DEFINITIONS}, *EVENTS),
    "OpenInference": a_span(OPENINFERENCE),
}


@pytest.mark.parametrize("dialect", SPANS)
def test_the_same_call_of_a_model_is_the_same_span(dialect: str) -> None:
    span = understood(SPANS[dialect])
    assert span.kind == "model"
    assert span.input == ASKED
    assert span.output == ANSWERED
    assert span.tools == TOOLS
    assert {
        name: span.attributes[name]
        for name in (genai.PROVIDER, genai.REQUEST_MODEL, genai.INPUT_TOKENS, genai.OUTPUT_TOKENS)
    } == {
        genai.PROVIDER: "openai",
        genai.REQUEST_MODEL: "gpt-5-mini",
        genai.INPUT_TOKENS: 20,
        genai.OUTPUT_TOKENS: 7,
    }
    assert span.attributes[genai.FINISH_REASONS] == ["stop"]
    assert not any("essage" in name or "prompt" in name for name in span.attributes)
    assert genai.UNREAD not in span.attributes


TOOL_SPANS = {
    "current": {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "find",
        "gen_ai.tool.call.id": "call_7",
        "gen_ai.tool.call.arguments": {"city": "Rome"},
        "gen_ai.tool.call.result": "sunny",
    },
    "Traceloop": {
        "traceloop.span.kind": "tool",
        "traceloop.entity.name": "find",
        "gen_ai.tool.call.id": "call_7",
        "traceloop.entity.input": '{"city": "Rome"}',
        "traceloop.entity.output": "sunny",
    },
    "OpenInference": {
        "openinference.span.kind": "TOOL",
        "tool.name": "find",
        "tool_call.id": "call_7",
        "input.value": '{"city": "Rome"}',
        "output.value": "sunny",
    },
}


@pytest.mark.parametrize("dialect", TOOL_SPANS)
def test_the_same_run_of_a_tool_is_the_same_span(dialect: str) -> None:
    span = understood(a_span(TOOL_SPANS[dialect], name="find"))
    assert (span.kind, span.name) == ("tool", "find")
    assert span.input == (Message(role="assistant", tool_calls=(CALL,)),)
    assert span.output == (Message(role="tool", content="sunny", tool_call_id="call_7"),)


@pytest.mark.parametrize(
    ("attributes", "kind", "name"),
    [
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk"}, "agent", "desk"),
        ({"gen_ai.operation.name": "embeddings"}, "model", "span"),
        ({"openinference.span.kind": "AGENT"}, "agent", "span"),
        ({"openinference.span.kind": "RETRIEVER"}, "retrieval", "span"),
        ({"openinference.span.kind": "GUARDRAIL"}, "guard", "span"),
        ({"openinference.span.kind": "CHAIN"}, "step", "span"),
        ({"traceloop.span.kind": "workflow", "traceloop.entity.name": "all"}, "step", "all"),
        ({"langsmith.span.kind": "retriever"}, "retrieval", "span"),
        ({"http.request.method": "GET"}, "step", "span"),
        ({}, "step", "span"),
    ],
)
def test_what_a_span_is(attributes: dict[str, Any], kind: str, name: str) -> None:
    span = understood(a_span(attributes))
    assert (span.kind, span.name) == (kind, name)


def test_what_is_nobodys_word_stays_and_odd_values_are_kept_as_text() -> None:
    odd = {"a": 1, "b": [1, 2], "c": {"d": True}, "e": float("nan"), "f": 2**70, "g": None}
    assert understood(a_span(odd)).attributes == {
        "a": 1,
        "b": "[1, 2]",
        "c": '{"d": true}',
        "e": "nan",
        "f": str(2**70),
    }


def test_what_cannot_be_kept_of_a_message_is_named() -> None:
    image = part("blob", mime_type="image/png", content="AAAA")
    said = [{"role": "user", "parts": [part("text", content="This?"), image]}]
    span = understood(a_span({**CURRENT, "gen_ai.input.messages": json.dumps(said)}))
    assert span.input == (Message(role="user", content="This?"),)
    assert span.attributes[genai.UNREAD] == ["a part of type blob"]


def test_an_image_beside_text_leaves_the_text() -> None:
    start = f"{LLM}.1.message.contents.1.message_content"
    image = {f"{start}.type": "image", f"{start}.image.image.url": "data:image/png;base64,AAAA"}
    span = understood(a_span(OPENINFERENCE | image))
    assert (span.kind, span.input) == ("model", ASKED)
    assert span.attributes[genai.UNREAD] == ["a part of type image"]


@pytest.mark.parametrize(
    "value",
    ["[", "nonsense", "[1, 2]", '[{"parts": 3}]', '[{"parts": [null]}]', 7, ["x"], {"role": 1}],
)
def test_broken_messages_break_nothing(value: Any) -> None:
    for name in ("gen_ai.input.messages", "gen_ai.tool.definitions", "gen_ai.prompt"):
        understood(a_span({**CURRENT, name: value}))
    understood(a_span({"openinference.span.kind": "LLM", "llm.input_messages": value}))
    understood(a_span({"openinference.span.kind": "LLM", "llm.input_messages.0.message": value}))
    understood(a_span({"gen_ai.prompt." + "0." * 3000: value, "llm." + "0." * 3000: value}))
    understood(a_span({}, *(Event(name=e.name, attributes={"message": value}) for e in EVENTS)))


def test_errors_are_told_by_the_status_else_by_the_exception() -> None:
    raised = Event(
        name="exception",
        attributes={"exception.type": "KeyError", "exception.message": "'x'"},
    )
    assert understood(a_span({}, raised)).error is None
    assert understood(a_span({}, raised, status=ERROR)).error == "KeyError: 'x'"
    assert understood(a_span({}, status=ERROR, status_message="no")).error == "no"
    assert understood(a_span({"error.type": "timeout"}, status=ERROR)).error == "timeout"
    assert understood(a_span(status=ERROR)).error == "failed"


def test_whose_traffic_it_is_is_told_by_the_service_else_by_the_agent() -> None:
    agent = a_span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk"})
    for service, workload, whose in (
        ("shop", None, "shop"),
        ("unknown_service:python", None, "desk"),
        ("shop", "given", "given"),
    ):
        groups = [Group(resource={"service.name": service}, spans=(agent,))]
        assert read(groups, workload).arrivals[0].workload == whose
    assert read([Group(spans=(a_span(),))]).arrivals[0].workload == "otlp"


NAMES = sorted(
    {name for span in SPANS.values() for name in span.attributes}
    | {name for tool in TOOL_SPANS.values() for name in tool}
    | {"pydantic_ai.all_messages", "llm.input_messages", "llm.tools.0", "gen_ai.completion.0"}
    | {"llm.tools", "llm.input_messages.0.function.0", "graph.node.id", "output.mime_type"}
    | {"gen_ai.event.content", "gen_ai.response.finish_reason", "message", "content", "id"}
)
KEYS = sorted(
    {"role", "type", "parts", "content", "id", "kwargs", "messages", "name", "args", "data"}
    | {"function", "arguments", "parameters", "properties", "required", "tool_calls", "call_id"}
    | {"toolUse", "toolResult", "reasoningContent", "json", "object", "output", "blocks", "task"}
)
WORDS = ["", "LLM", "TOOL", "chat", "execute_tool", "[", "{}", "[[]]", "[null]", "x"]
WORDS += ["AGENT", "response", "tool", "function", '"x"', "application/json", "'x'", "{'x': "]
odd_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        odd_values | odd_values.map(repr) | odd_values.map(json.dumps),
        max_size=6,
    )
)
def test_nothing_that_a_program_writes_under_these_names_breaks_its_span(
    attributes: dict[str, Any],
) -> None:
    events = [Event(name=event.name, attributes=attributes) for event in EVENTS]
    span = understood(a_span(attributes, *events))
    assert wire.from_bytes(wire.to_bytes(span), Span) == span


@given(odd_values, odd_values, st.sampled_from(["gen_ai.prompt", "gen_ai.completion"]))
def test_nothing_that_langchain_may_wrap_breaks_its_span(inner: Any, other: Any, name: str) -> None:
    for value in (
        {"generations": [[inner, {"message": other}]]},
        {"generations": inner},
        {"messages": [inner, other]},
        {"messages": [[inner], other]},
        {"output": inner},
    ):
        for kind in ("llm", "tool"):
            understood(a_span({"langsmith.span.kind": kind, name: json.dumps(value, default=str)}))
