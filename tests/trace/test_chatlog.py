"""Files of other people's traffic, into a real store."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.core.errors import DataError, StoreError
from kickwheel.core.store import open_store
from kickwheel.records import AcceptedCall, Feedback, Message, ToolCall, Trace, genai
from kickwheel.trace import chatlog
from kickwheel.trace.forms import chat
from kickwheel.trace.store import Traces

USER = {"role": "user", "content": "Find jazz in Napa"}
CALL = {
    "id": "call_7",
    "type": "function",
    "function": {"name": "find", "arguments": '{"city": "Napa"}'},
}
ANSWER = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOL = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Finds.",
        "parameters": {
            "type": "object",
            "properties": {"what": {"type": "string"}, "city": {"type": "string"}},
        },
    },
}
RESPONSE = {
    "id": "chatcmpl-1",
    "model": "gpt-5-mini-2026",
    "created": 1760000000,
    "choices": [{"index": 0, "message": ANSWER, "finish_reason": "tool_calls"}],
    "usage": {"prompt_tokens": 120, "completion_tokens": 9},
}
REQUEST = {"model": "gpt-5-mini", "messages": [USER], "tools": [TOOL], "temperature": 0.5}


@pytest.fixture
def traces(tmp_path: Path) -> Iterator[Traces]:
    with open_store(tmp_path / "store") as store:
        yield Traces(store)


def write(folder: Path, *lines: Any, name: str = "chats.jsonl") -> Path:
    file = folder / name
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "line",
    [
        {"messages": [USER, ANSWER], "tools": [TOOL]},
        {**REQUEST, "response": RESPONSE},
        {"request": REQUEST, "response": RESPONSE},
        {
            "timestamp": 1760000000,
            "workload_id": "concierge",
            "client_id": "app",
            "request": REQUEST,
            "response": RESPONSE,
        },
    ],
)
def test_every_form_is_the_same_question_and_answer(
    line: dict[str, Any], traces: Traces, tmp_path: Path
) -> None:
    landed = chatlog.import_(write(tmp_path, line), traces, workload="concierge")
    assert (landed.new, landed.known, landed.broken) == (1, 0, ())
    (trace,) = traces.all("concierge")
    (span,) = trace.spans
    assert span.input == (Message(role="user", content="Find jazz in Napa"),)
    call = ToolCall(id="call_7", name="find", arguments='{"city": "Napa"}')
    assert span.output == (Message(role="assistant", tool_calls=(call,)),)
    assert [tool.name for tool in span.tools] == ["find"]
    assert list(span.tools[0].parameters["properties"]) == ["what", "city"]
    assert trace.source == "chats.jsonl:1"


def test_what_a_response_says_of_itself_stands_in_the_attributes(
    traces: Traces, tmp_path: Path
) -> None:
    line = {"timestamp": "2026-03-01T12:00:00Z", "request": REQUEST, "response": RESPONSE}
    chatlog.import_(write(tmp_path, line), traces)
    (trace,) = traces.all("chats")
    span = trace.spans[0]
    assert span.start_ns == 1_772_366_400_000_000_000
    assert span.attributes == {
        genai.OPERATION: "chat",
        genai.REQUEST_MODEL: "gpt-5-mini",
        genai.RESPONSE_MODEL: "gpt-5-mini-2026",
        genai.RESPONSE_ID: "chatcmpl-1",
        genai.TEMPERATURE: 0.5,
        genai.INPUT_TOKENS: 120,
        genai.OUTPUT_TOKENS: 9,
        genai.FINISH_REASONS: ["tool_calls"],
    }


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(1760000000, 1760000000), (1760000000.5, 1760000000.5), (1760000000000, 1760000000),
     (1760000000000000000, 1760000000), ("2025-10-09T08:53:20", 1760000000),
     ("2025-10-09T10:53:20+02:00", 1760000000)],
)  # fmt: skip
def test_a_time_is_read_in_any_unit(
    written: Any, seconds: float, traces: Traces, tmp_path: Path
) -> None:
    line = {"timestamp": written, "request": {"messages": [USER, ANSWER]}}
    chatlog.import_(write(tmp_path, line), traces)
    assert next(traces.all()).spans[0].start_ns == int(seconds * 1e9)


def test_a_verdict_and_accepted_calls_travel_with_the_line(traces: Traces, tmp_path: Path) -> None:
    accepted = {"name": "find", "arguments": {"city": ["Napa", "Napa, CA"]}, "optional": ["what"]}
    lines = (
        {"messages": [USER, ANSWER], "accepted": [accepted]},
        {
            "messages": [USER, {"role": "assistant", "content": "No idea"}],
            "feedback": {"verdict": "bad", "answer": ANSWER, "note": "should have looked"},
        },
        {"messages": [USER, {"role": "assistant", "content": "x"}],
         "feedback": {"verdict": "bad", "answer": "y"}},
    )  # fmt: skip
    chatlog.import_(write(tmp_path, *lines), traces)
    said = {trace.source: trace.feedback for trace in traces.all()}
    assert said["chats.jsonl:1"] == (
        Feedback(
            verdict="good",
            accepted=(
                AcceptedCall(
                    name="find", arguments={"city": ("Napa", "Napa, CA")}, optional=("what",)
                ),
            ),
        ),
    )
    (second,) = said["chats.jsonl:2"]
    assert second.answer is not None
    assert second.answer.tool_calls[0].name == "find"
    assert second.note == "should have looked"
    assert said["chats.jsonl:3"][0].answer == Message(role="assistant", content="y")


def test_the_same_file_again_adds_nothing(traces: Traces, tmp_path: Path) -> None:
    file = write(
        tmp_path, *({"messages": [{**USER, "content": f"q{n}"}, ANSWER]} for n in range(9))
    )
    assert chatlog.import_(file, traces).new == 9
    again = chatlog.import_(file, traces)
    assert (again.new, again.known) == (0, 9)
    assert chatlog.import_(file, traces, workload="other").known == 9
    longer = write(tmp_path, *file.read_text().splitlines(), {"messages": [USER, ANSWER]})
    assert chatlog.import_(longer, traces).new == 1


def test_broken_lines_are_named_and_kept_aside_and_good_ones_go_on(
    traces: Traces, tmp_path: Path
) -> None:
    good = [{"messages": [{**USER, "content": f"question {n}"}, ANSWER]} for n in range(40)]
    file = write(tmp_path, *good[:20], '{"messages": [', "", *good[20:], {"messages": [USER]})
    landed = chatlog.import_(file, traces)
    assert (landed.new, landed.lines) == (40, 42)
    assert [str(one) for one in landed.broken] == [
        "chats.jsonl:21: not JSON, column 15: Expecting value",
        "chats.jsonl:43: no answer: there is no response, and the last message is not the "
        "assistant's",
    ]
    assert landed.aside is not None
    assert landed.aside.is_relative_to(traces.folder)
    kept = [json.loads(line) for line in landed.aside.read_text().splitlines()]
    assert [(one["line"], one["text"]) for one in kept] == [
        (21, '{"messages": ['),
        (43, json.dumps({"messages": [USER]})),
    ]
    assert landed.told()[-1].startswith("2 of 42 lines are broken, kept in ")


def test_above_ten_percent_broken_lines_nothing_lands(traces: Traces, tmp_path: Path) -> None:
    good = [{"messages": [{**USER, "content": f"question {n}"}, ANSWER]} for n in range(17)]
    file = write(tmp_path, *good, "x", "y")
    with pytest.raises(DataError) as caught:
        chatlog.import_(file, traces)
    assert "2 of 19 lines" in str(caught.value)
    assert "chats.jsonl:18: not JSON, column 1: Expecting value" in str(caught.value)
    assert traces.count() == 0
    assert len(list((traces.folder / "rejected").glob("chats-*.jsonl"))) == 1
    assert (
        chatlog.import_(write(tmp_path, *good, {"messages": [USER, ANSWER]}, "x"), traces).new == 18
    )


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[1]", "must be a JSON object, not a list"),
        ({"prompt": "a", "completion": "b"}, "only prompt, completion"),
        ({"request": 5}, "request must be an object, not a number"),
        ({"request": {}, "response": RESPONSE}, "the request has no messages"),
        ({"messages": "x"}, "messages must be a list, not text"),
        ({"messages": [ANSWER]}, "no question"),
        ({"messages": [{"role": "boss", "content": "x"}, ANSWER]}, 'messages[0]: no role "boss"'),
        ({"messages": [USER], "response": {}}, "neither choices nor an error"),
        ({"messages": [USER], "response": {"choices": [{}]}}, "choices[0] has no message"),
        ({"messages": [USER, ANSWER], "tools": [{}]}, "tools[0]: a tool must be"),
        ({"messages": [USER, ANSWER], "tools": {}}, "tools must be a list, not an object"),
        ({"messages": [USER, ANSWER], "feedback": {"verdict": "meh"}}, 'not "meh"'),
        ({"messages": [USER, ANSWER], "accepted": [{"name": "x"}]}, "accepted[0]: must be"),
        ({"messages": [USER, ANSWER], "accepted": [{"name": "x", "arguments": {"a": 1}}]},
         "arguments.a must be the list"),
        ({"timestamp": "noon", "request": {"messages": [USER, ANSWER]}}, 'timestamp "noon"'),
        ({"timestamp": -1, "request": {"messages": [USER, ANSWER]}}, "timestamp -1 is no time"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": '
         '"x"}]}', "surrogate"),
        ('{"messages": [], "temperature": NaN}', "NaN is no number"),
        ({"messages": [USER, ANSWER], "workload_id": 7}, "workload_id must be text"),
        ("[" * 100_000, "nested too deep"),
    ],
)  # fmt: skip
def test_a_broken_line_says_what_is_wrong(
    line: Any, why: str, traces: Traces, tmp_path: Path
) -> None:
    good = [{"messages": [{**USER, "content": f"q{n}"}, ANSWER]} for n in range(10)]
    landed = chatlog.import_(write(tmp_path, *good, line), traces)
    (broken,) = landed.broken
    assert (broken.file, broken.line) == ("chats.jsonl", 11)
    assert why in broken.why


def test_bytes_that_are_no_text_are_named(traces: Traces, tmp_path: Path) -> None:
    file = write(
        tmp_path, *({"messages": [{**USER, "content": f"q{n}"}, ANSWER]} for n in range(10))
    )
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b"{\xff}\r\n")
    landed = chatlog.import_(file, traces)
    assert landed.new == 10
    assert landed.broken[0].why == "not UTF-8 text: byte 2 is none"


names = st.sampled_from(
    ["messages", "tools", "request", "response", "choices", "message", "role", "content", "name",
     "tool_calls", "function", "arguments", "feedback", "accepted", "timestamp", "usage", "error",
     "parameters", "verdict", "answer", "optional", "type", "text", "id", "model"]
)  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["user", "assistant", "tool", "function", "good", "text", ""])
    | st.text(max_size=5)
)
protocol = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=20,
)


@given(
    st.dictionaries(names, protocol, min_size=1)
    | st.fixed_dictionaries(
        {"messages": st.just([USER, ANSWER])}, optional={"feedback": protocol, "tools": protocol}
    )
    | st.fixed_dictionaries({"request": st.just(REQUEST), "response": protocol})
)
@settings(max_examples=300, deadline=None)
def test_any_line_is_a_trace_or_says_what_is_wrong(line: dict[str, Any]) -> None:
    why = ""
    try:
        chat.read(json.dumps(line).encode(), workload="w", source="f:1")
    except ValueError as error:
        why = str(error)
    assert "object has no attribute" not in why


def test_an_empty_or_missing_file_is_told(traces: Traces, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        chatlog.import_(write(tmp_path, ""), traces)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        chatlog.import_(tmp_path / "nothing.jsonl", traces)


def test_a_request_that_failed_lands_as_failed(traces: Traces, tmp_path: Path) -> None:
    line = {"request": REQUEST, "response": {"error": {"message": "overloaded", "code": 529}}}
    chatlog.import_(write(tmp_path, line), traces)
    span = next(traces.all()).spans[0]
    assert span.error == '{"message": "overloaded", "code": 529}'
    assert span.output == ()


def test_secrets_are_neither_in_the_traces_nor_among_the_broken_lines(
    traces: Traces, tmp_path: Path
) -> None:
    asked = {"role": "user", "content": "Mail ann@example.com"}
    call = {"name": "mail", "arguments": '{"to": "ann@example.com"}'}
    answer = {"role": "assistant", "tool_calls": [{"type": "function", "function": call}]}
    accepted = [{"name": "mail", "arguments": {"to": ["ann@example.com"]}}]
    good = {"messages": [asked, answer], "accepted": accepted}
    others = [{"messages": [{**USER, "content": f"q{n}"}, ANSWER]} for n in range(10)]
    file = write(tmp_path, good, *others, '{"key": "sk-abc123def456ghi789jkl012", ')
    landed = chatlog.import_(file, traces)
    trace = next(t for t in traces.all() if t.source == "chats.jsonl:1")
    assert trace.spans[0].input[0].content == "Mail <email_1>"
    assert trace.spans[0].output[0].tool_calls[0].arguments == '{"to": "<email_1>"}'
    assert trace.feedback[0].accepted[0].arguments == {"to": ("<email_1>",)}
    assert landed.aside is not None
    assert "sk-abc" not in landed.aside.read_text()


def test_an_import_that_a_full_disk_stopped_goes_on(
    traces: Traces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"messages": [{**USER, "content": f"q{n}"}, ANSWER]} for n in range(1200)]
    file = write(tmp_path, *lines)
    add, calls = Traces.add, []

    def full(self: Traces, batch: list[Trace]) -> int:
        calls.append(len(batch))
        if len(calls) == 2:
            raise StoreError("the disk is full. Free some space and run the same again.")
        return add(self, batch)

    monkeypatch.setattr(Traces, "add", full)
    with pytest.raises(StoreError, match="disk is full"):
        chatlog.import_(file, traces)
    assert 0 < traces.count() < 1200
    landed = chatlog.import_(file, traces)
    assert (traces.count(), landed.new + landed.known) == (1200, 1200)


def test_whose_traffic_it_is_comes_from_the_line_first(traces: Traces, tmp_path: Path) -> None:
    lines = [
        {"workload_id": "a", "request": {"messages": [USER, ANSWER]}},
        {"messages": [USER, ANSWER]},
    ]
    landed = chatlog.import_(write(tmp_path, *lines), traces, workload="b")
    assert landed.workloads == {"a": 1, "b": 1}
    assert (traces.count("a"), traces.count("b")) == (1, 1)


def test_progress_ends_at_the_whole_file(traces: Traces, tmp_path: Path) -> None:
    file = write(
        tmp_path, *({"messages": [{**USER, "content": f"q{n}"}, ANSWER]} for n in range(600))
    )
    told: list[tuple[float, float, str]] = []
    chatlog.import_(file, traces, on_progress=lambda *seen: told.append(seen))
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-1][0] == told[-1][1] == file.stat().st_size
