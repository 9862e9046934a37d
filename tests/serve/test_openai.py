import errno
import http.client
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.core.errors import EngineError, MissingExtra, ModelError, StoreError
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.records import Message, genai
from kickwheel.serve.errors import Refused
from kickwheel.serve.request import read
from tests.serve.conftest import Broken, Echo, Rooms, Served

TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "Tells the weather.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "forecast")
]
QUESTION: Any = [{"role": "user", "content": "say it again"}]


def _text(text: str) -> Any:
    return {"type": "text", "text": text}


def asked(served: Served) -> ChatRequest:
    echo = served.rooms.live["echo"]
    assert isinstance(echo, Echo)
    return echo.asked[-1]


def test_a_whole_answer_comes_with_its_usage(served: Served) -> None:
    answer = served.client().chat.completions.create(model="echo", messages=QUESTION)
    assert answer.choices[0].message.content == "say it again"
    assert (answer.choices[0].finish_reason, answer.model) == ("stop", "echo")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == 10
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer._request_id == answer.id


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_streamed_answer_has_usage_only_where_it_was_asked_for(
    served: Served, wants_usage: bool
) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if wants_usage else {}
    stream = served.client().chat.completions.create(
        model="echo", messages=QUESTION, stream=True, **options
    )
    chunks = list(stream)
    texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(texts) == "say it again"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, None, None, "stop"]
    assert len({c.id for c in chunks}) == 1
    if wants_usage:
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 10
        assert all(c.usage is None for c in chunks[:-1])
    else:
        assert all(c.choices and c.usage is None for c in chunks)


def test_a_text_with_line_ends_of_every_kind_stays_one_event(served: Served) -> None:
    text = "a\nb\r\nc\x85d\u2028e\u2029f\x0bg\x1ch ü 😀"
    body = {"model": "echo", "messages": [{"role": "user", "content": text}], "stream": True}
    with httpx2.stream("POST", f"{served.url}/v1/chat/completions", json=body) as answer:
        found = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in found)
    chunks = [json.loads(line.removeprefix("data: ")) for line in found[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == text


def test_usage_is_recorded_by_us_whatever_the_client_asked(served: Served) -> None:
    list(served.client().chat.completions.create(model="echo", messages=QUESTION, stream=True))
    served.client().chat.completions.create(model="echo", messages=QUESTION)
    served.recorder.flush()
    assert [(t.input_tokens, t.output_tokens) for t in served.traces.list()] == [(7, 3), (7, 3)]


def test_usage_that_is_estimated_says_so(served: Served) -> None:
    class Uncounted(Echo):
        async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
            yield TextDelta("well")
            yield Done("stop", Usage(prompt_tokens=5, output_tokens=1, estimated=True))

    served.rooms.live |= {"uncounted": Uncounted()}
    for model, said in (("uncounted", True), ("echo", None)):
        usage = served.client().chat.completions.create(model=model, messages=QUESTION).usage
        assert usage is not None
        assert (usage.model_extra or {}).get("estimated") is said
    served.recorder.flush()
    newest, before = (served.traces.get(t.id).spans[0] for t in served.traces.list())
    assert genai.USAGE_ESTIMATED not in newest.attributes
    assert before.attributes[genai.USAGE_ESTIMATED] is True


def test_calls_come_whole_and_in_pieces_alike(served: Served) -> None:
    client = served.client()
    whole = client.chat.completions.create(model="caller", messages=QUESTION, tools=TOOLS)
    calls = whole.choices[0].message.tool_calls
    assert calls is not None
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [  # type: ignore[union-attr]
        ("call_0", "weather", '{"city": "Rome 0"}'),
        ("call_1", "forecast", '{"city": "Rome 1"}'),
    ]
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.choices[0].message.content is None
    with client.chat.completions.stream(model="caller", messages=QUESTION, tools=TOOLS) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.tool_calls is not None
    assert [c.function.arguments for c in streamed.choices[0].message.tool_calls] == [
        '{"city": "Rome 0"}',
        '{"city": "Rome 1"}',
    ]
    heads = [
        call
        for chunk in client.chat.completions.create(
            model="caller", messages=QUESTION, tools=TOOLS, stream=True
        )
        if chunk.choices
        for call in chunk.choices[0].delta.tool_calls or ()
        if call.function is not None and call.function.name is not None
    ]
    assert [(h.index, h.id, h.type) for h in heads] == [
        (0, "call_0", "function"),
        (1, "call_1", "function"),
    ]


def test_what_the_client_asks_for_reaches_the_model(served: Served) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    served.client().chat.completions.create(
        model="echo",
        messages=[
            {"role": "developer", "content": "be short"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}],
            },
        ],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "forecast"}},
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        temperature=0,
        top_p=0.5,
        seed=5,
        stop=["a", "b"],
        max_tokens=3,
        max_completion_tokens=9,
        frequency_penalty=0.25,
        extra_body={"top_k": 4},
    )
    request = asked(served)
    assert [(m.role, m.content) for m in request.messages] == [
        ("developer", "be short"),
        ("user", "one two"),
    ]
    assert [tool.name for tool in request.tools] == ["weather", "forecast"]
    assert request.tool_choice == "forecast"
    assert request.json_schema == schema
    assert (request.temperature, request.top_p, request.seed) == (0, 0.5, 5)
    assert (request.stop, request.max_tokens) == (("a", "b"), 9)
    assert request.extra == {"frequency_penalty": 0.25, "top_k": 4}


def test_tools_that_come_again_are_read_once() -> None:
    body = json.dumps({"model": "echo", "messages": QUESTION, "tools": TOOLS}).encode()
    other = json.dumps({"model": "agent", "messages": QUESTION, "tools": TOOLS, "seed": 1}).encode()
    assert read(body)[1].tools[0] is read(other)[1].tools[0]
    assert [tool.name for tool in read(body)[1].tools] == ["weather", "forecast"]


def test_a_conversation_with_calls_and_results_is_taken(served: Served) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages: Any = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    answer = served.client().chat.completions.create(
        model="echo", messages=messages, response_format={"type": "json_object"}, stop="x"
    )
    assert answer.choices[0].message.content == "sunny"
    assert asked(served).messages[1].tool_calls[0].name == "weather"
    assert asked(served).json_schema == {"type": "object"}
    assert asked(served).stop == ("x",)


@pytest.mark.parametrize(
    ("change", "param", "told"),
    [
        ({"n": 2}, "n", "n must be 1"),
        ({"messages": []}, "messages", "messages is empty"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages", 'no role "robot"'),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages",
            "the URL of a picture must begin with data: or https://",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages",
            "parts must be text or image_url; this one is input_audio",
        ),
        ({"temperature": 3}, "temperature", "from 0 to 2"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"tool_choice": "required"}, "tool_choice", "no tools"),
        ({"tool_choice": "some"}, "tool_choice", 'no tool_choice "some"'),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "wether"}}},
            "tool_choice",
            'Did you mean "weather"',
        ),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools", "two tools are named"),
        ({"tools": [{"type": "custom"}]}, "tools", "tools[0]"),
        ({"response_format": {"type": "yaml"}}, "response_format", "json_schema"),
        ({"stop": 5}, "stop", "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "only with stream"),
        ({"seed": "five"}, "seed", "expected `int"),
    ],
)
def test_a_request_that_breaks_the_protocol_is_told_what_is_wrong(
    served: Served, change: dict[str, Any], param: str, told: str
) -> None:
    body = {"model": "echo", "messages": QUESTION, **change}
    with pytest.raises(openai.BadRequestError) as raised:
        served.client().post("/chat/completions", body=body, cast_to=object)
    error = raised.value
    assert told in error.message
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert error.request_id


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"[1]",
        b"\xff\xfe",
        b'{"model": "echo"}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "\xff"}]}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "tools": ["\xff"]}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "tools": 5}',
        b'{"model": ' + b"[" * 100_000,
        b'{"model": "echo", "messages": [], "tools": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_request_is_refused(served: Served, body: bytes) -> None:
    answer = httpx2.post(f"{served.url}/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert answer.headers["x-request-id"]


def test_an_unknown_model_is_404_and_the_nearest_is_named(served: Served) -> None:
    with pytest.raises(openai.NotFoundError, match='Did you mean "echo"') as raised:
        served.client().chat.completions.create(model="ecko", messages=QUESTION)
    assert raised.value.code == "model_not_found"


def test_a_models_error_is_passed_on_with_its_time_to_wait(served: Served) -> None:
    with pytest.raises(openai.RateLimitError, match="too many at once") as raised:
        served.client().chat.completions.create(model="busy", messages=QUESTION, stream=True)
    assert raised.value.response.headers["retry-after-ms"] == "1500"
    assert raised.value.response.headers["retry-after"] == "2"
    served.recorder.flush()
    assert served.traces.list()[0].error == "ModelError: too many at once"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (EngineError("gone"), 503),
        (StoreError("full"), 503),
        (OSError(errno.ENOSPC, "No space left on device"), 503),
        (TimeoutError(), 504),
        (ModelError("odd", status=200), 502),
        (MissingExtra("tuning", "tune"), 501),
    ],
)
def test_each_error_has_its_status(served: Served, error: Exception, status: int) -> None:
    served.rooms.live["sick"] = Broken(error)
    with pytest.raises(openai.APIStatusError) as raised:
        served.client().chat.completions.create(model="sick", messages=QUESTION)
    assert raised.value.status_code == status


def test_a_bug_tells_nothing_of_its_inside(served: Served) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        served.client().chat.completions.create(model="bug", messages=QUESTION)
    assert "secret detail" not in raised.value.message
    assert raised.value.request_id in raised.value.message


def test_a_stream_that_breaks_ends_with_the_error(served: Served) -> None:
    said: list[str | None] = []
    stream = served.client().chat.completions.create(model="torn", messages=QUESTION, stream=True)
    with pytest.raises(openai.APIError, match="the engine died"):
        said.extend(chunk.choices[0].delta.content for chunk in stream)
    assert said == ["so far ", "so far "]
    served.recorder.flush()
    (root,) = next(served.traces.all()).spans
    assert root.error == "ModelError: the engine died"
    assert root.output[0].content == "so far so far "


def test_whole_answers_that_break_in_the_middle_are_errors(served: Served) -> None:
    with pytest.raises(openai.InternalServerError, match="the engine died"):
        served.client().chat.completions.create(model="torn", messages=QUESTION)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_cancels_the_model_at_once(served: Served, stream: bool) -> None:
    slow: Any = served.rooms.live["slow"]
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    body = json.dumps({"model": "slow", "messages": QUESTION, "stream": stream})
    connection.request("POST", "/v1/chat/completions", body)
    if stream:
        answer = connection.getresponse()
        assert answer.readline().startswith(b"data: ")
        answer.close()
    else:
        deadline = time.monotonic() + 10
        while not slow.running and time.monotonic() < deadline:
            time.sleep(0.01)
    connection.close()
    assert slow.cancelled.wait(10)
    served.recorder.flush()
    deadline = time.monotonic() + 10
    while not served.traces.count() and time.monotonic() < deadline:
        time.sleep(0.01)
    (trace,) = served.traces.all()
    assert trace.spans[0].error == "cancelled"
    assert slow.running == 0


def test_each_request_leaves_a_trace_under_the_id_of_its_answer(served: Served) -> None:
    raw = served.client().chat.completions.with_raw_response.create(
        model="echo", messages=QUESTION, tools=TOOLS, seed=3, temperature=0.5
    )
    answer = raw.parse()
    trace_id = raw.headers["x-trace-id"]
    assert answer.id == f"chatcmpl-{trace_id}"
    served.recorder.flush()
    trace = served.traces.get(trace_id)
    (root,) = trace.spans
    assert (trace.workload, root.kind, root.name) == ("echo", "model", "echo")
    assert root.input == (Message(role="user", content="say it again"),)
    assert root.output == (Message(role="assistant", content="say it again"),)
    assert [tool.name for tool in root.tools] == ["weather", "forecast"]
    told = dict(root.attributes)
    assert told.pop(genai.TIME_TO_FIRST_CHUNK_S) >= 0  # type: ignore[operator]
    assert told == {
        genai.OPERATION: "chat",
        genai.PROVIDER: "kickwheel",
        genai.REQUEST_MODEL: "echo",
        genai.RESPONSE_MODEL: "echo-0.1",
        genai.RESPONSE_ID: answer.id,
        genai.INPUT_TOKENS: 7,
        genai.OUTPUT_TOKENS: 3,
        genai.CACHED_TOKENS: 2,
        genai.FINISH_REASONS: ["stop"],
        genai.SEED: 3,
        genai.TEMPERATURE: 0.5,
    }


def test_an_agent_is_asked_like_a_model_and_its_steps_are_seen(served: Served) -> None:
    answer = served.client().chat.completions.create(model="agent", messages=QUESTION)
    assert answer.choices[0].message.content == "say it again"
    served.recorder.flush()
    root, step = next(served.traces.all()).spans
    assert (root.kind, step.kind, step.parent) == ("agent", "model", root.id)
    assert root.input == step.input
    assert root.output == (Message(role="assistant", content="say it again"),)


def test_models_are_listed_and_found_by_name(served: Served) -> None:
    client = served.client()
    served.rooms.live["ft:base:mine:1/2"] = Echo()
    assert {"echo", "agent", "ft:base:mine:1/2"} <= {model.id for model in client.models.list()}
    found = client.models.retrieve("ft:base:mine:1/2")
    assert (found.id, found.object, found.owned_by) == ("ft:base:mine:1/2", "model", "kickwheel")
    with pytest.raises(openai.NotFoundError, match='Did you mean "echo"'):
        client.models.retrieve("ecko")


def test_a_model_that_comes_while_the_server_runs_answers(served: Served, rooms: Rooms) -> None:
    client = served.client()
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="new", messages=QUESTION)
    rooms.live["new"] = Echo()
    assert client.chat.completions.create(model="new", messages=QUESTION).choices
    del rooms.live["new"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("new")


def _status(body: bytes) -> int:
    try:
        read(body)
    except Refused as refused:
        return refused.status
    return 200


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_a_request_or_refused(body: bytes) -> None:
    assert _status(body) in (200, 400)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "function", "name", "schema"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["messages", "tools", "tool_choice", "response_format", "stop", "n", "stream_options"]
        ),
        json_values,
    )
)
def test_whatever_json_comes_it_is_a_request_or_refused(fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "echo", "messages": QUESTION, **fields}).encode()
    assert _status(body) in (200, 400)
