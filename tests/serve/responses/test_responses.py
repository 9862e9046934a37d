"""/v1/responses with the real openai client."""

from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from kickwheel.models.chat import ChatRequest, Done, TextDelta, Usage
from tests.serve.conftest import Echo, Rooms, Served, running

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "How it is there.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


def asked(served: Served) -> ChatRequest:
    echo = served.rooms.live["echo"]
    assert isinstance(echo, Echo)
    return echo.asked[-1]


def test_a_text_is_answered_with_a_message(served: Served) -> None:
    answer = served.client().responses.create(model="echo", input="say it again")
    assert (answer.object, answer.status, answer.model) == ("response", "completed", "echo")
    assert answer.output_text == "say it again"
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 3)
    assert (answer.usage.total_tokens, answer.usage.input_tokens_details.cached_tokens) == (10, 2)
    assert answer.error is None
    assert answer.incomplete_details is None


def test_a_response_goes_on_from_the_one_before_with_new_instructions(served: Served) -> None:
    client = served.client()
    first = client.responses.create(model="echo", input="one", instructions="be short")
    second = client.responses.create(model="echo", input="two", previous_response_id=first.id)
    third = client.responses.create(
        model="echo", input="three", previous_response_id=second.id, instructions="be long"
    )
    assert third.previous_response_id == second.id
    assert [(m.role, m.content) for m in asked(served).messages] == [
        ("system", "be long"),
        ("user", "one"),
        ("assistant", "one"),
        ("user", "two"),
        ("assistant", "two"),
        ("user", "three"),
    ]


def test_only_the_results_of_calls_are_sent_with_the_id_of_the_response_that_made_them(
    served: Served,
) -> None:
    client = served.client()
    forecast = {**WEATHER, "name": "forecast"}
    first = client.responses.create(model="caller", input="How is Rome?", tools=[WEATHER, forecast])
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(c.call_id, c.name, c.arguments) for c in calls] == [
        ("call_0", "weather", '{"city": "Rome 0"}'),
        ("call_1", "forecast", '{"city": "Rome 1"}'),
    ]
    client.responses.create(
        model="echo",
        previous_response_id=first.id,
        input=[
            {"type": "function_call_output", "call_id": "call_0", "output": "sun"},
            {
                "type": "function_call_output",
                "call_id": "call_1",
                "output": [{"type": "input_text", "text": "rain"}],
            },
        ],
    )
    question, turn, *results = asked(served).messages
    assert question.content == "How is Rome?"
    assert [call.id for call in turn.tool_calls] == ["call_0", "call_1"]
    assert [(m.role, m.tool_call_id, m.content) for m in results] == [
        ("tool", "call_0", "sun"),
        ("tool", "call_1", "rain"),
    ]


TEXT_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


def test_a_streamed_response_tells_its_events_in_order(served: Served) -> None:
    events = list(served.client().responses.create(model="echo", input="good day", stream=True))
    assert [event.type for event in events] == TEXT_EVENTS
    assert [event.sequence_number for event in events] == list(range(len(events)))
    first, last = events[0], events[-1]
    assert first.type == "response.created"
    assert last.type == "response.completed"
    assert (first.response.status, first.response.output) == ("in_progress", [])
    assert (last.response.id, last.response.output_text) == (first.response.id, "good day")
    kept = served.client().responses.retrieve(first.response.id)
    assert kept == last.response


def test_streamed_calls_come_in_pieces_and_whole(served: Served) -> None:
    with served.client().responses.stream(
        model="caller", input="How is Rome?", tools=[WEATHER]
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.type for event in events][2:] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    (call,) = final.output
    assert call.type == "function_call"
    assert (call.call_id, call.arguments) == ("call_0", '{"city": "Rome 0"}')


class Answer(BaseModel):
    """What the tests want parsed."""

    city: str


def test_an_answer_is_parsed_into_a_model(served: Served) -> None:
    parsed = served.client().responses.parse(
        model="echo", input='{"city":"Rome"}', text_format=Answer
    )
    assert parsed.output_parsed == Answer(city="Rome")
    assert asked(served).json_schema == {
        **Answer.model_json_schema(),
        "additionalProperties": False,
    }
    assert parsed.text is not None
    assert parsed.text.format is not None
    assert parsed.text.format.type == "json_schema"


def test_what_is_stored_is_there_after_a_restart_and_can_be_deleted(
    tmp_path: Path, rooms: Rooms
) -> None:
    with running(tmp_path / "store", rooms) as served:
        made = served.client().responses.create(model="echo", input="hi", metadata={"a": "b"})
        unkept = served.client().responses.create(model="echo", input="hi", store=False)
    with running(tmp_path / "store", rooms) as served:
        client = served.client()
        assert client.responses.retrieve(made.id) == made
        assert made.metadata == {"a": "b"}
        with pytest.raises(openai.NotFoundError, match="not stored"):
            client.responses.retrieve(unkept.id)
        client.responses.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(made.id)
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="echo", input="more", previous_response_id=made.id)
        assert caught.value.code == "previous_response_not_found"


def test_input_items_come_in_pages(served: Served) -> None:
    client = served.client()
    made = client.responses.create(
        model="echo",
        input=[{"role": "user", "content": f"question {n}"} for n in range(5)],
    )
    pages = client.responses.input_items.list(made.id, limit=2, order="asc")
    assert pages.has_more
    texts = [item.content[0].text for item in pages]  # type: ignore[union-attr]
    assert texts == [f"question {n}" for n in range(5)]


def test_only_who_made_a_response_sees_it(tmp_path: Path, rooms: Rooms) -> None:
    with running(tmp_path / "store", rooms, keys=["mine", "yours"]) as served:
        mine, yours = served.client(api_key="mine"), served.client(api_key="yours")
        made = mine.responses.create(model="echo", input="secret")
        assert mine.responses.retrieve(made.id).id == made.id
        for ask in (yours.responses.retrieve, yours.responses.delete):
            with pytest.raises(openai.NotFoundError):
                ask(made.id)
        with pytest.raises(openai.BadRequestError, match="no response"):
            yours.responses.create(model="echo", input="x", previous_response_id=made.id)


def test_a_client_that_leaves_stops_the_model(served: Served) -> None:
    slow = served.rooms.live["slow"]
    stream = served.client().responses.create(model="slow", input="count", stream=True)
    assert next(iter(stream)).type == "response.created"
    stream.close()
    assert slow.cancelled.wait(5)  # type: ignore[attr-defined]


def test_an_error_before_the_stream_is_a_status_and_one_in_it_a_failed_response(
    served: Served,
) -> None:
    client = served.client()
    for stream in (False, True):
        with pytest.raises(openai.RateLimitError) as caught:
            client.responses.create(model="busy", input="x", stream=stream)
        assert caught.value.response.headers["retry-after-ms"] == "1500"
    events = list(client.responses.create(model="torn", input="x", stream=True))
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert (last.response.error.code, last.response.error.message) == (
        "server_error",
        "the engine died",
    )
    with pytest.raises(openai.InternalServerError, match="the engine died"):
        client.responses.create(model="torn", input="x")


def test_an_answer_that_was_cut_is_incomplete(served: Served) -> None:
    class Cut:
        name = "cut"

        async def stream(self, request: ChatRequest) -> Any:
            yield TextDelta("so f")
            yield Done("length", Usage(prompt_tokens=1, output_tokens=2))

    served.rooms.live["cut"] = Cut()
    answer = served.client().responses.create(model="cut", input="x", max_output_tokens=16)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    events = list(served.client().responses.create(model="cut", input="x", stream=True))
    assert events[-1].type == "response.incomplete"


def test_models_and_agents_leave_a_trace_under_the_responses_id(served: Served) -> None:
    for model in ("echo", "agent"):
        raw = served.client().responses.with_raw_response.create(model=model, input="say it")
        answer = raw.parse()
        assert isinstance(answer, Response)
        served.recorder.flush()
        trace = served.traces.get(raw.headers["x-trace-id"])
        assert answer.id == f"resp_{trace.id}"
        assert (trace.workload, trace.spans[0].input[-1].content) == (model, "say it")
    assert [span.kind for span in trace.spans] == ["agent", "model"]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"input": [{"type": "web_search_call"}]}, "input", "function_call_output"),
    ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input", "input_image"),
    ({"input": [{"role": "wizard", "content": "x"}]}, "input", "wizard"),
    ({"input": [7]}, "input", r"input\[0\]"),
    ({"input": []}, "input", "empty"),
    ({"input": {"a": 1}}, "input", "expected"),
    (
        {"input": [{"type": "function_call_output", "call_id": "c9", "output": "x"}]},
        "input",
        "c9",
    ),
    ({"tools": [{"type": "web_search"}]}, "tools", "web_search"),
    ({"tools": [WEATHER, WEATHER]}, "tools", "weather"),
    ({"tool_choice": {"type": "function", "name": "wether"}, "tools": [WEATHER]}, "", "weather"),
    ({"text": {"format": {"type": "yaml"}}}, "text.format", "json_schema"),
    ({"text": {"format": "json_schema"}}, "text.format", "json_schema"),
    ({"max_output_tokens": 0}, "max_output_tokens", "at least 1"),
    ({"temperature": 3}, "temperature", "from 0 to 2"),
    ({"metadata": {"a": 1}}, "", "expected"),
    ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
    ({"background": True, "store": False}, "store", "background"),
    ({"previous_response_id": "resp_no"}, "previous_response_id", "resp_no"),
]


@pytest.mark.parametrize(("body", "param", "says"), WRONG)
def test_what_is_not_understood_is_refused_with_what_is(
    served: Served, body: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as caught:
        served.client().post(
            "/responses", body={"model": "echo", "input": "x", **body}, cast_to=object
        )
    assert caught.value.param is not None
    assert caught.value.param.startswith(param)
    with pytest.raises(openai.NotFoundError, match="echo"):
        served.client().responses.create(model="ecko", input="x")


def test_feedback_finds_an_answer_by_its_own_id(served: Served) -> None:
    client = served.client()
    made = client.responses.create(model="echo", input="hi")
    client.post(f"/traces/{made.id}/feedback", body={"verdict": "bad"}, cast_to=object)
    assert served.traces.get(made.id.removeprefix("resp_")).feedback[0].verdict == "bad"


@pytest.mark.parametrize("number", ["²", "٣", "-1", "9" * 5000, "x", ""])
def test_a_number_that_is_none_is_refused(served: Served, number: str) -> None:
    made = served.client().responses.create(model="echo", input="hi")
    for path, key in (("", "starting_after"), ("/input_items", "limit")):
        with pytest.raises(openai.BadRequestError, match=key):
            served.client().get(
                f"/responses/{made.id}{path}",
                options={"params": {key: number, "stream": "true"}},
                cast_to=object,
            )
