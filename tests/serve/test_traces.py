from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from kickwheel.models.caller import Caller
from kickwheel.records import Feedback, Message, Span, ToolCall, Trace
from kickwheel.trace.otlp import plain
from kickwheel.trace.otlp.read import read
from tests.serve.conftest import Rooms, Served, running

GO = {"type": "object", "properties": {"where": {"type": "string"}}, "required": ["where"]}


def ask(served: Served) -> str:
    answer = served.client().chat.completions.create(
        model="echo",
        messages=[{"role": "user", "content": "x"}],
        tools=[{"type": "function", "function": {"name": "go", "parameters": GO}}],
    )
    return answer.id


def a_call(name: str, arguments: str) -> dict[str, Any]:
    call = {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"content": None, "tool_calls": [call]}


def say(served: Served, identity: str, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{served.url}/v1/traces/{identity}/feedback", json=body)


def test_feedback_lands_on_the_trace_at_once_by_either_id(served: Served) -> None:
    identity = ask(served)
    trace = identity.removeprefix("chatcmpl-")
    assert say(served, identity, verdict="bad", note="no").json()["trace"] == trace
    corrected = {"role": "assistant", "content": "y"}
    assert say(served, trace, verdict="good", answer=corrected).status_code == 200
    bad, good = served.traces.get(trace).feedback
    assert (bad.verdict, bad.note, bad.answer) == ("bad", "no", None)
    assert (good.verdict, good.answer) == ("good", Message(role="assistant", content="y"))
    assert good.time_ns >= bad.time_ns > 0


def test_a_corrected_answer_may_be_a_text_or_a_call(served: Served) -> None:
    identity = ask(served)
    say(served, identity, verdict="bad", answer="it is y")
    say(served, identity, verdict="bad", answer=a_call("go", '{"where": "there"}'))
    text, called = served.traces.get(identity.removeprefix("chatcmpl-")).feedback
    assert text.answer == Message(role="assistant", content="it is y")
    right = ToolCall(id="c", name="go", arguments='{"where": "there"}')
    assert called == Feedback(
        verdict="bad",
        answer=Message(role="assistant", tool_calls=(right,)),
        time_ns=called.time_ns,
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "verdict: field required"),
        ({"verdict": "meh"}, "verdict: input should be 'good' or 'bad'"),
        ({"verdict": "bad", "answer": {"role": "user", "content": "x"}}, "of role assistant"),
        ({"verdict": "bad", "answer": {"content": None}}, "needs content or tool_calls"),
        ({"verdict": "bad", "answer": {"content": 5}}, "answer: content must be text"),
        ({"verdict": "bad", "notes": "x"}, "notes: no such field"),
        ({"verdict": "bad", "answer": a_call("goo", "{}")}, 'no tool "goo". Did you mean "go"?'),
        ({"verdict": "bad", "answer": a_call("go", "{}")}, "the right call to go cannot be made"),
        ({"verdict": "bad", "answer": a_call("go", "[")}, "the arguments of go are no JSON"),
    ],
)
def test_feedback_that_says_nothing_clear_is_refused(
    served: Served, body: dict[str, Any], told: str
) -> None:
    answer = say(served, ask(served), **body)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


def test_feedback_on_an_unknown_trace_is_404(served: Served) -> None:
    answer = say(served, "0" * 32, verdict="good")
    assert answer.status_code == 404
    assert "GET /v1/traces lists them" in answer.json()["error"]["message"]


def test_a_trace_is_shown_level_by_level_and_page_by_page(served: Served) -> None:
    agent = Span(id="1" * 16, kind="agent", name="desk", start_ns=5, end_ns=99)
    asked = replace(agent, id="2" * 16, parent=agent.id, kind="model", start_ns=6)
    more = [replace(asked, id=f"{n:016x}", start_ns=n) for n in range(10, 13)]
    served.traces.add([Trace(id="a" * 32, workload="desk", spans=(agent, asked, *more))])
    top = show(served, "aaaa").json()
    assert (top["object"], top["id"], top["workload"], top["spans"]) == (
        "trace",
        "a" * 32,
        "desk",
        5,
    )
    (root,) = top["steps"]
    assert (root["span"]["id"], root["span"]["kind"], root["children"]) == (agent.id, "agent", 4)
    assert top["after"] is None
    first = show(served, "aaaa", parent=agent.id, limit=3).json()
    assert [s["span"]["start_ns"] for s in first["steps"]] == [6, 10, 11]
    last = show(served, "aaaa", parent=agent.id, limit=3, after=first["after"]).json()
    assert [s["span"]["start_ns"] for s in last["steps"]] == [12]
    assert last["after"] is None


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({"limit": "0"}, 400, "between 1 and 1000"),
        ({"limit": "many"}, 400, "between 1 and 1000"),
        ({"after": "here"}, 400, "no cursor"),
    ],
)
def test_a_level_is_asked_for_in_numbers(
    served: Served, asked: dict[str, str], status: int, told: str
) -> None:
    answer = show(served, ask(served), **asked)
    assert (answer.status_code, told in answer.text) == (status, True)


def test_a_trace_that_is_not_there_is_not_shown(served: Served) -> None:
    assert show(served, "0123").json()["error"]["code"] == "trace_not_found"


def show(served: Served, identity: str, **asked: Any) -> httpx2.Response:
    return httpx2.get(f"{served.url}/v1/traces/{identity}", params=asked)


KEYS = {
    "house": Caller(),
    "ann": Caller(user="ann"),
    "tom": Caller(user="tom"),
    "clinic": Caller(user="bob", tenant="clinic"),
    "nurse": Caller(user="sue", tenant="clinic"),
    "bank": Caller(user="eve", tenant="bank"),
}
SEES = {key: {key} for key in KEYS} | {
    "house": set(KEYS),
    "clinic": {"clinic", "nurse"},
    "nurse": {"clinic", "nurse"},
}
"""Whose traces each of them sees."""


@pytest.fixture
def shared(tmp_path: Path, rooms: Rooms) -> Iterator[Served]:
    """A server that the house, two tenants and two people without one have keys to."""
    with running(tmp_path / "store", rooms, keys=KEYS) as served:
        yield served


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def asked_by(served: Served, key: str) -> str:
    client = served.client(api_key=key)
    answer = client.chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "Where?"}]
    )
    return answer.id.removeprefix("chatcmpl-")


def test_a_tenants_people_find_its_traces_one_without_a_tenant_their_own_and_the_house_all(
    shared: Served,
) -> None:
    traces = {key: asked_by(shared, key) for key in KEYS}
    for key, sees in SEES.items():
        for owner, trace in traces.items():
            for identity in (trace, trace[:9], f"chatcmpl-{trace}"):
                url = f"{shared.url}/v1/traces/{identity}"
                shown = httpx2.get(url, headers=bearer(key))
                assert shown.status_code == (200 if owner in sees else 404), (key, owner)
                if owner in sees:
                    whose = shown.json()["tenant"], shown.json()["user"]
                    assert whose[0] == KEYS[owner].tenant
                    assert whose[1] == KEYS[owner].user or owner == "house"
                else:
                    assert "no trace" in shown.json()["error"]["message"]


def test_nobody_judges_traces_that_they_do_not_see(shared: Served) -> None:
    traces = {key: asked_by(shared, key) for key in KEYS}
    for key, says in SEES.items():
        for owner, trace in traces.items():
            url = f"{shared.url}/v1/traces/{trace}/feedback"
            said = httpx2.post(url, json={"verdict": "bad", "note": key}, headers=bearer(key))
            assert said.status_code == (200 if owner in says else 404)
    notes = {owner: [f.note for f in shared.traces.get(t).feedback] for owner, t in traces.items()}
    assert notes == {owner: [key for key in KEYS if owner in SEES[key]] for owner in traces}


def test_a_short_beginning_that_others_share_is_one_trace_to_its_tenant(shared: Served) -> None:
    span = Span(id="1" * 16, kind="agent", name="desk", start_ns=5, end_ns=9)
    for last, tenant in (("1", "clinic"), ("2", "bank"), ("3", "")):
        identity = "abc" + "0" * 28 + last
        shared.traces.add([Trace(id=identity, workload="desk", spans=(span,), tenant=tenant)])
    url = f"{shared.url}/v1/traces/abc"
    assert httpx2.get(url, headers=bearer("bank")).json()["id"].endswith("2")
    several = httpx2.get(url, headers=bearer("house"))
    assert (several.status_code, "nor a single one" in several.text) == (404, True)


def test_traces_are_listed_newest_first_page_by_page_as_far_as_one_sees_them(
    shared: Served,
) -> None:
    traces = {key: asked_by(shared, key) for key in KEYS}

    def listed(key: str, **asked: Any) -> list[str]:
        found: list[str] = []
        while True:
            url = f"{shared.url}/v1/traces"
            page = httpx2.get(url, params={"limit": 2, **asked}, headers=bearer(key)).json()
            found += [line["id"] for line in page["data"]]
            if page["after"] is None:
                return found
            asked["after"] = page["after"]

    for key in KEYS:
        assert listed(key) == [traces[owner] for owner in reversed(KEYS) if owner in SEES[key]]
    clinic = [traces["nurse"], traces["clinic"]]
    assert listed("house", tenant="clinic") == listed("nurse", tenant="clinic") == clinic
    assert listed("bank", tenant="clinic") == listed("ann", tenant="clinic") == []
    assert listed("house", workload="nobody") == []
    for after in ("here", "9" * 30 + "-1"):
        url = f"{shared.url}/v1/traces?after={after}"
        assert httpx2.get(url, headers=bearer("house")).status_code == 400


def test_traces_are_exported_as_far_as_one_sees_them_and_read_in_again(shared: Served) -> None:
    traces = {key: asked_by(shared, key) for key in KEYS}
    for key, tenant, owners in (
        ("house", "", list(KEYS)),
        ("house", "bank", ["bank"]),
        ("nurse", "", ["clinic", "nurse"]),
        ("nurse", "bank", []),
        ("ann", "", ["ann"]),
    ):
        url = f"{shared.url}/v1/traces/export"
        answer = httpx2.get(url, params={"tenant": tenant}, headers=bearer(key))
        found = [read(plain.read(line)).arrivals[0] for line in answer.content.splitlines()]
        assert [trace.id for trace in found] == [traces[owner] for owner in owners]
        for trace in found:
            assert trace.spans == shared.traces.get(trace.id).spans
