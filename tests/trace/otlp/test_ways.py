"""Ways that single frameworks and instrumentations have beside the dialects, as their spans came
when `tests/bridges` ran them; shortened."""

import json
from typing import Any

from kickwheel.records import Message, Span, ToolCall, genai
from kickwheel.trace.otlp.observed import Event, Observed
from kickwheel.trace.otlp.read import understood

GIVEN = {"city": "Oslo"}
CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Oslo"}')
QUESTION = Message(role="user", content="Oslo?")
CALLED = Message(role="assistant", tool_calls=(CALL,))
CAME = Message(role="tool", content="sunny", tool_call_id="call_1")
ANSWER = Message(role="assistant", content="It is sunny.")
OPENAI = {"id": "call_1", "type": "function"}
OPENAI |= {"function": {"name": "weather", "arguments": CALL.arguments}}
KIND = "openinference.span.kind"
MIME = "application/json"


def seen(told: dict[str, Any], *events: tuple[str, dict[str, Any]], name: str = "span") -> Span:
    """What we make of a span; texts, as they came, where a value is no text."""
    flat = {k: v if isinstance(v, str | int) else json.dumps(v) for k, v in told.items()}
    happened = tuple(Event(name=f"gen_ai.{what}", attributes=said) for what, said in events)
    return understood(
        Observed(trace="1" * 32, id="2" * 16, name=name, attributes=flat, events=happened)
    )


def tool(told: dict[str, Any], name: str = "weather") -> Span:
    return seen({KIND: "TOOL", **told}, name=name)


class TestStrands:
    USE = json.dumps([{"toolUse": {"toolUseId": "call_1", "name": "weather", "input": GIVEN}}])
    TEXT = json.dumps([{"text": "Oslo?"}])

    def test_its_events_have_bedrocks_parts(self) -> None:
        result = {"toolUseId": "call_1", "status": "success", "content": [{"text": "sunny"}]}
        span = seen(
            {genai.OPERATION: "chat"},
            ("user.message", {"content": self.TEXT}),
            ("assistant.message", {"content": self.USE}),
            ("tool.message", {"content": json.dumps([{"toolResult": result}])}),
            ("choice", {"finish_reason": "end_turn", "message": '[{"text": "It is sunny."}]'}),
        )
        assert span.input == (QUESTION, CALLED, CAME)
        assert span.output == (ANSWER,)
        assert span.attributes[genai.FINISH_REASONS] == ["stop"]

    def test_a_call_is_an_answer_and_thoughts_are_left_out(self) -> None:
        thought = {"reasoningContent": {"reasoningText": {"text": "Let me see."}}}
        message = json.dumps([thought, *json.loads(self.USE)])
        span = seen({genai.OPERATION: "chat"}, ("choice", {"message": message}))
        assert span.output == (CALLED,)
        assert genai.UNREAD not in span.attributes

    def test_a_result_may_be_json(self) -> None:
        result = {"toolUseId": "call_1", "content": [{"json": {"sky": "blue"}}]}
        content = json.dumps([{"toolResult": result}])
        span = seen({genai.OPERATION: "chat"}, ("tool.message", {"content": content}))
        assert span.input[0].content == '{"sky": "blue"}'

    def test_a_tool_tells_arguments_and_result_in_events(self) -> None:
        span = seen(
            {genai.OPERATION: "execute_tool", genai.TOOL_NAME: "weather"},
            ("tool.message", {"role": "tool", "content": json.dumps(GIVEN), "id": "call_1"}),
            ("choice", {"message": '[{"text": "sunny"}]', "id": "call_1"}),
        )
        assert (span.kind, span.name) == ("tool", "weather")
        assert (span.input, span.output) == ((CALLED,), (CAME,))

    def test_its_tools_have_bedrocks_schemas(self) -> None:
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        defined = {"name": "weather", "description": "", "inputSchema": {"json": schema}}
        span = seen({genai.OPERATION: "invoke_agent", genai.TOOL_DEFINITIONS: [defined]})
        assert [spec.parameters for spec in span.tools] == [schema]


class TestAdk:
    @staticmethod
    def answered(*messages: list[dict[str, Any]]) -> Span:
        said = [{"role": "assistant", "parts": parts} for parts in messages]
        return seen({genai.OPERATION: "generate_content", genai.OUTPUT_MESSAGES: said})

    def test_the_pieces_of_a_stream_are_not_answers_of_their_own(self) -> None:
        words = ["It", " is", " sunny.", "It is sunny."]
        span = self.answered(*([{"type": "text", "content": word}] for word in words))
        assert span.output == (ANSWER,)
        part = {"type": "tool_call", "id": "call_1", "name": "weather"}
        span = self.answered([{**part, "arguments": {}}], [{**part, "arguments": GIVEN}])
        assert span.output == (CALLED,)

    def test_several_answers_stay(self) -> None:
        span = self.answered(*([{"type": "text", "content": word}] for word in ("yes", "no")))
        assert [message.content for message in span.output] == ["yes", "no"]

    def test_a_workflow_is_a_step_with_its_name(self) -> None:
        span = seen({genai.OPERATION: "invoke_workflow", "gen_ai.workflow.name": "desk"})
        assert (span.kind, span.name) == ("step", "desk")


def test_semantic_kernels_log_records_as_events_are_messages() -> None:
    records: list[tuple[str, Any]] = [
        ("user.message", {"role": "user", "content": "Oslo?"}),
        ("assistant.message", {"role": "assistant", "tool_calls": [OPENAI], "name": "desk"}),
        ("tool.message", {"role": "tool", "content": "sunny", "tool_call_id": "call_1"}),
        ("choice", {"message": {"role": "assistant", "content": "It is sunny."}, "index": 0}),
    ]
    span = seen(
        {
            genai.OPERATION: "chat",
            "gen_ai.system": "openai",
            "gen_ai.response.finish_reason": "FinishReason.STOP",
        },
        *((name, {"gen_ai.event.content": json.dumps(said)}) for name, said in records),
    )
    assert span.input == (QUESTION, CALLED, CAME)
    assert span.output == (ANSWER,)
    assert span.attributes == {
        genai.OPERATION: "chat",
        genai.PROVIDER: "openai",
        genai.FINISH_REASONS: ["stop"],
    }


def test_openai_agents_streams_are_answered_with_responses() -> None:
    item = {"type": "function_call", "call_id": "call_1", "name": "weather"}
    item |= {"arguments": CALL.arguments, "id": "__fake_id__", "status": None}
    text = {"type": "output_text", "text": "It is sunny.", "annotations": []}
    message = {"type": "message", "role": "assistant", "content": [text], "id": "__fake_id__"}
    for output, said in (([item], CALLED), ([message], ANSWER)):
        response = {"object": "response", "id": "__fake_id__", "output": output}
        for value in ([response], response):
            span = seen({KIND: "LLM", "output.value": value, "llm.token_count.prompt": 50})
            assert span.output == (said,)


def test_a_model_of_llamaindex_around_a_model_is_a_step() -> None:
    arguments = {"input.value": {"messages": ["ChatMessage(role=…)"]}, "input.mime_type": MIME}
    assert seen({KIND: "LLM", **arguments}).kind == "step"
    assert seen({KIND: "LLM", **arguments, "llm.token_count.prompt": 50}).kind == "model"
    assert seen({KIND: "LLM", "input.value": "Oslo?"}).kind == "model"


class TestTools:
    """What tools were given and gave, as instrumentations write it."""

    def test_pythons_arguments_are_the_calls(self) -> None:
        for around in (
            {"kwargs": GIVEN},
            {"args": [], "sanitize_inputs_outputs": True, "kwargs": GIVEN},
        ):
            span = tool({"input.value": around, "input.mime_type": MIME})
            assert span.input[0].tool_calls[0].arguments == CALL.arguments
        span = tool({"input.value": {"args": ["Oslo"], "kwargs": {}}})
        assert json.loads(span.input[0].tool_calls[0].arguments)["args"] == ["Oslo"]

    def test_langchains_result_is_a_message_that_names_the_call(self) -> None:
        data = {"type": "tool", "content": "sunny", "tool_call_id": "call_1"}
        span = tool({"input.value": GIVEN, "output.value": {"type": "tool", "data": data}})
        assert (span.input, span.output) == ((CALLED,), (CAME,))

    def test_llamaindexs_result_has_blocks(self) -> None:
        output = {"blocks": [{"text": "sun"}, {"text": "ny"}], "raw_output": "sunny"}
        assert tool({"output.value": output}).output[0].content == "sunny"

    def test_dspys_result_is_json_and_its_name_the_spans(self) -> None:
        span = tool({"output.value": '"sunny"', "output.mime_type": MIME}, "weather.acall")
        assert (span.name, span.output[0].content) == ("weather", "sunny")
        assert tool({"output.value": '"sunny"'}).output[0].content == '"sunny"'


def test_smolagents_task_is_the_question_and_its_roles_are_those_its_models_get() -> None:
    given = {"task": "Oslo?", "stream": False, "max_steps": None}
    assert seen({KIND: "AGENT", "input.value": given}).input == (QUESTION,)
    asked = {
        f"llm.input_messages.{place}.message.{name}": value
        for place, role in enumerate(("tool-call", "tool-response"))
        for name, value in (
            ("role", role),
            ("contents.0.message_content.type", "text"),
            ("contents.0.message_content.text", "sunny"),
        )
    }
    span = seen({KIND: "LLM", **asked})
    assert [(m.role, m.content) for m in span.input] == [("assistant", "sunny"), ("user", "sunny")]


def test_autogens_results_stand_beside_the_message() -> None:
    result = {"name": "weather", "content": "sunny", "call_id": "call_1", "is_error": False}
    start = "llm.input_messages.0"
    span = seen({KIND: "LLM", f"{start}.message.role": "function", f"{start}.function.0": result})
    assert span.input == (CAME,)


def test_an_agent_is_named_by_its_node() -> None:
    span = seen({KIND: "AGENT", "graph.node.id": "desk"}, name="desk.on_messages_stream")
    assert (span.kind, span.name) == ("agent", "desk")


def test_crewais_calls_names_and_schemas_are_whole_again() -> None:
    start = "llm.input_messages.0.message"
    function = f"{start}.tool_calls.0.tool_call.function"
    parameters = {"properties": {"city": "{'type': 'string'}", "cut": "{'type': "}}
    offered = {"name": "weather", "parameters": {**parameters, "required": ["'city'"]}}
    span = seen(
        {
            KIND: "LLM",
            f"{start}.role": "assistant",
            f"{start}.tool_calls.0.tool_call.id": "call_1",
            f"{function}.name": "'weather'",
            f"{function}.arguments": CALL.arguments,
            "llm.tools": [{"type": "function", "function": offered}],
            "output.value": [OPENAI],
        }
    )
    assert span.input == span.output == (CALLED,)
    (spec,) = span.tools
    assert spec.parameters["properties"] == {"city": {"type": "string"}, "cut": {}}
    assert spec.parameters["required"] == ["city"]


def test_a_graph_of_langgraph_that_names_a_role_only_is_asked_what_came_in() -> None:
    data = {"type": "ai", "content": "It is sunny."}
    span = seen(
        {
            KIND: "CHAIN",
            "llm.input_messages.0.message.role": "user",
            "input.value": {"messages": [{"role": "user", "content": "Oslo?"}]},
            "output.value": {"messages": [{"type": "ai", "data": data}]},
        }
    )
    assert (span.kind, span.input, span.output) == ("step", (QUESTION,), (ANSWER,))
