import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.serve.training import NAMED, check_training_file
from kickwheel.trace.forms import chat
from tests.serve.conftest import an_example, lines

TOOL = {"type": "function", "function": {"name": "go", "parameters": {"type": "object"}}}

MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant", "tool", "boss"]),
        "content": st.sampled_from(["", "text", None, 7, [{"type": "text", "text": "part"}]]),
    }
)
JSON_LINES = st.dictionaries(
    st.sampled_from(["messages", "tools", "response", "request", "timestamp", "feedback"]),
    st.one_of(st.lists(MESSAGES, max_size=3), st.none(), st.just({}), st.just("x")),
).map(lambda entry: json.dumps(entry).encode())


def calling(name: str, arguments: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    example = an_example(1)
    example["messages"][-1] = {"role": "assistant", "tool_calls": [call]}
    return {**example, "tools": [TOOL]}


def test_good_lines_are_counted_and_empty_ones_pass(tmp_path: Path) -> None:
    path = tmp_path / "x"
    weighted = an_example(3)
    weighted["messages"][-1]["weight"] = 1
    path.write_bytes(lines(an_example(1)) + b"\n" + lines(calling("go", "{}"), weighted))
    checked = check_training_file(path, "x.jsonl", context=100)
    assert (checked.examples, checked.bad) == (3, [])
    assert checked.problem(least=3) is None
    assert checked.problem(least=4) == (
        "x.jsonl has 3 examples; tuning needs at least 4. Add more lines."
    )


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not UTF-8 text"),
        (b"[" * 100_000, "not JSON"),
        ([], "must be a JSON object, not a list"),
        ({"prompt": "x"}, "no chat: neither messages nor request stand here, only prompt"),
        ({"messages": []}, "no answer"),
        ({"messages": [{"role": "user", "content": "x"}]}, "the last message is not the assistant"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "no question"),
        (
            {
                "messages": [
                    {"role": "system", "content": "x"},
                    {"role": "assistant", "content": "x"},
                ]
            },
            "no message of the user",
        ),
        ({**an_example(1), "response": {"error": "busy"}}, "only an error: busy"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "no answer"),
        (
            b'{"messages": [{"role": "user", "content": "x"},'
            b' {"role": "assistant", "content": "\\ud800"}]}',
            "half a surrogate pair",
        ),
        (
            {"messages": [*an_example(1)["messages"][:1], {"role": "assistant", "content": ""}]},
            "the answer is empty",
        ),
        ({"messages": [{"role": "boss", "content": "x"}]}, 'messages[0]: no role "boss"'),
        (calling("go", "{"), "the arguments of go are no JSON object"),
        (calling("go", "[]"), "the arguments of go are no JSON object"),
        (calling("goo", "{}"), 'calls "goo", which is not offered. Did you mean "go"?'),
        ({**an_example(1), "tools": {}}, "tools must be a list"),
        ({**an_example(1), "tools": None}, None),
        ({**an_example(1), "tools": "go"}, "tools must be a list"),
        ({**an_example(1), "tools": [{}]}, "a tool must be"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(
    tmp_path: Path, entry: Any, told: str | None
) -> None:
    path = tmp_path / "x"
    line = entry if isinstance(entry, bytes) else json.dumps(entry).encode()
    path.write_bytes(lines(an_example(1)) + line + b"\n")
    checked = check_training_file(path, "x.jsonl")
    if told is None:
        assert checked.bad == []
        return
    (bad,) = checked.bad
    assert bad.startswith("x.jsonl:2: ")
    assert told in bad


@settings(deadline=None)
@given(line=st.one_of(st.binary(max_size=80), JSON_LINES))
def test_a_line_that_is_taken_is_one_that_the_job_can_read(
    tmp_path_factory: pytest.TempPathFactory, line: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "line"
    path.write_bytes(line.replace(b"\n", b" "))
    if check_training_file(path, "line").examples:
        (answer,) = chat.read(path.read_bytes(), workload="w", source="").spans[0].output
        assert answer.content or answer.tool_calls


def test_of_many_bad_lines_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"{\n" * (NAMED + 5))
    problem = check_training_file(path, "x.jsonl").problem()
    assert problem is not None
    assert problem.splitlines()[0] == "25 of 25 lines cannot be used:"
    assert problem.splitlines()[-1] == "and 5 more"


@settings(deadline=None)
@given(content=st.binary(max_size=300))
def test_whatever_is_uploaded_is_checked(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    checked = check_training_file(path, "any")
    assert checked.examples + len(checked.bad) <= content.count(b"\n") + 1
