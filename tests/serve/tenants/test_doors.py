"""Every door, with the keys of two tenants, of people without one, of the house, and without any.

A door makes something with one key and looks for it with another. What is looked for is made anew
for each pair, since looking may change or end it.
"""

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest
from a2a.client import ClientConfig, create_client
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import TaskNotFoundError
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.serve.a2a.served import message
from tests.serve.tenants.house import PAIRS, PEOPLE, House, Unknown, is_same, sees, serving

SAID: Any = [{"role": "user", "content": "Where is parcel 7?"}]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with serving(tmp_path_factory.mktemp("app")) as found:
        yield found


@dataclass(frozen=True)
class Door:
    """One way to something that others may have made."""

    make: Callable[[House, str], Any]
    """Makes something with a key, and says how it is called."""
    look: Callable[[House, str, Any], bool]
    """Whether the holder of a key finds it."""
    rule: Callable[[str, str], bool]
    """Whether the first finds what the second made."""


# Traces.


def a_trace(house: House, key: str) -> str:
    answer = house.client(key).chat.completions.create(model="echo", messages=SAID)
    return answer.id.removeprefix("chatcmpl-")


def a_recorded_trace(house: House, key: str) -> str:
    """What the recorder notes of a request that passes on."""
    client = house.client(key, "/t/desk/v1")
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=SAID)
    return str(raw.headers["x-trace-id"])


def a_sent_trace(house: House, key: str) -> str:
    trace = os.urandom(16).hex()
    assert house.call(key, "/v1/traces", spans_of(trace)) == (200, {})
    return trace


def an_agents_trace(house: House, key: str) -> str:
    response = house.client(key).responses.create(model="helper", input="hello", store=False)
    return response.id.removeprefix("resp_")


def spans_of(trace: str) -> Any:
    span = {
        "traceId": trace,
        "spanId": os.urandom(8).hex(),
        "name": "look up",
        "startTimeUnixNano": str(time.time_ns()),
        "endTimeUnixNano": str(time.time_ns() + 5),
    }
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def shows_trace(house: House, key: str, trace: str) -> bool:
    return house.finds(key, f"/v1/traces/{trace}")


def lists_trace(house: House, key: str, trace: str) -> bool:
    found = house.call(key, "/v1/traces?limit=20")[1]["data"]
    return trace in [line["id"] for line in found]


def exports_trace(house: House, key: str, trace: str) -> bool:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx2.get(f"{house.url}/v1/traces/export", headers=headers)
    if answer.status_code == 401:
        raise Unknown
    return trace in answer.text


def judges_trace(house: House, key: str, trace: str) -> bool:
    return house.finds(key, f"/v1/traces/{trace}/feedback", {"verdict": "bad"})


def adds_spans(house: House, key: str, trace: str) -> bool:
    return bool(house.call(key, "/v1/traces", spans_of(trace))[1] == {})


# Runs, and what asks twice under one name.


def a_waiting_run(house: House, key: str) -> str:
    with pytest.raises(openai.InternalServerError, match="waits for a person"):
        house.client(key).chat.completions.create(
            model="boss", messages=[{"role": "user", "content": "Refund 400 EUR?"}]
        )
    return str(house.call(key, "/v1/runs?limit=1")[1]["data"][0]["id"])


def shows_run(house: House, key: str, run: str) -> bool:
    return house.finds(key, f"/v1/runs/{run}")


def lists_run(house: House, key: str, run: str) -> bool:
    found = house.call(key, "/v1/runs?limit=200")[1]["data"]
    return run in [one["id"] for one in found]


def answers_run(house: House, key: str, run: str) -> bool:
    return house.finds(key, f"/v1/runs/{run}/answer", {"answer": "approve"})


def cancels_run(house: House, key: str, run: str) -> bool:
    return house.finds(key, f"/v1/runs/{run}/cancel", {})


def a_named_question(house: House, key: str) -> str:
    name = os.urandom(4).hex()
    _named(house, key, name)
    return name


def gets_its_answer(house: House, key: str, name: str) -> bool:
    asked = len(house.far.asked)
    _named(house, key, name)
    return len(house.far.asked) == asked


def _named(house: House, key: str, name: str) -> None:
    house.client(key).chat.completions.create(
        model="helper", messages=SAID, extra_headers={"Idempotency-Key": name}
    )


# Responses.


def a_response(house: House, key: str) -> str:
    return house.client(key).responses.create(model="echo", input="My secret is 4711.").id


def a_background_response(house: House, key: str) -> str:
    client = house.client(key)
    return client.responses.create(model="boss", input="May I?", background=True).id


def retrieves_response(house: House, key: str, response: str) -> bool:
    return _is_there(lambda: house.client(key).responses.retrieve(response))


def lists_items(house: House, key: str, response: str) -> bool:
    return _is_there(lambda: house.client(key).responses.input_items.list(response))


def cancels_response(house: House, key: str, response: str) -> bool:
    return _is_there(lambda: house.client(key).responses.cancel(response))


def deletes_response(house: House, key: str, response: str) -> bool:
    return _is_there(lambda: house.client(key).responses.delete(response))


def streams_response(house: House, key: str, response: str) -> bool:
    def first() -> None:
        with house.client(key).responses.retrieve(response, stream=True) as events:
            next(iter(events))

    return _is_there(first)


def goes_on_from_response(house: House, key: str, response: str) -> bool:
    try:
        house.client(key).responses.create(
            model="echo", input="And what is it?", previous_response_id=response
        )
    except openai.BadRequestError as error:
        if error.code != "previous_response_not_found":
            raise
        return False
    return "My secret is 4711." in [m.content for m in house.far.asked[-1].messages]


def a_recorded_response(house: House, key: str) -> str:
    client = house.client(key, "/t/desk/v1")
    return client.responses.create(model="echo", input="My secret is 4711.").id


def goes_on_in_the_record(house: House, key: str, response: str) -> bool:
    raw = house.client(key, "/t/desk/v1").responses.with_raw_response.create(
        model="echo", input="And what is it?", previous_response_id=response
    )
    shown = house.call(key, f"/v1/traces/{raw.headers['x-trace-id']}")[1]
    return "My secret is 4711." in json.dumps(shown)


def _is_there(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except openai.NotFoundError:
        return False
    except (openai.BadRequestError, openai.ConflictError):
        return True
    return True


# A2A, by the SDK's client.


def a_task(house: House, key: str) -> tuple[str, str]:
    async def begin(client: Any) -> tuple[str, str]:
        request = SendMessageRequest(message=message("Refund 400 EUR?"))
        (event,) = [event async for event in client.send_message(request)]
        return event.task.id, event.task.context_id

    task, context = _by_a2a(house, key, "boss", begin)
    return task, context


def gets_task(house: House, key: str, task: tuple[str, str]) -> bool:
    return _finds_task(house, key, lambda c: c.get_task(GetTaskRequest(id=task[0])))


def cancels_task(house: House, key: str, task: tuple[str, str]) -> bool:
    return _finds_task(house, key, lambda c: c.cancel_task(CancelTaskRequest(id=task[0])))


def answers_task(house: House, key: str, task: tuple[str, str]) -> bool:
    async def answer(client: Any) -> None:
        request = SendMessageRequest(message=message("approve", task=task[0]))
        async for _ in client.send_message(request):
            pass

    return _finds_task(house, key, answer)


def watches_task(house: House, key: str, task: tuple[str, str]) -> bool:
    async def watch(client: Any) -> None:
        async for _ in client.subscribe(SubscribeToTaskRequest(id=task[0])):
            return

    return _finds_task(house, key, watch, streaming=True)


def is_told_of_task(house: House, key: str, task: tuple[str, str]) -> bool:
    config = TaskPushNotificationConfig(task_id=task[0], url="https://example.com/told")
    return _finds_task(house, key, lambda c: c.create_task_push_notification_config(config))


def sees_who_is_told(house: House, key: str, task: tuple[str, str]) -> bool:
    request = ListTaskPushNotificationConfigsRequest(task_id=task[0])
    return _finds_task(house, key, lambda c: c.list_task_push_notification_configs(request))


def lists_task(house: House, key: str, task: tuple[str, str]) -> bool:
    async def listed(client: Any) -> list[Task]:
        found = await client.list_tasks(ListTasksRequest(context_id=task[1]))
        return list(found.tasks)

    return task[0] in [one.id for one in _by_a2a(house, key, "boss", listed)]


def a_conversation(house: House, key: str) -> str:
    return _spoken(house, key, "My secret is 4711.")


def goes_on_in_it(house: House, key: str, context: str) -> bool:
    _spoken(house, key, "And what is it?", context)
    return "My secret is 4711." in [m.content for m in house.far.asked[-1].messages]


def _spoken(house: House, key: str, text: str, context: str = "") -> str:
    async def speak(client: Any) -> str:
        request = SendMessageRequest(message=message(text, context=context))
        (event,) = [event async for event in client.send_message(request)]
        return str(event.task.context_id)

    return str(_by_a2a(house, key, "helper", speak))


def _finds_task(
    house: House, key: str, ask: Callable[[Any], Any], *, streaming: bool = False
) -> bool:
    try:
        _by_a2a(house, key, "boss", ask, streaming=streaming)
    except TaskNotFoundError:
        return False
    return True


def _by_a2a(
    house: House, key: str, agent: str, ask: Callable[[Any], Any], *, streaming: bool = False
) -> Any:
    async def main() -> Any:
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as session:
            config = ClientConfig(httpx_client=session, streaming=streaming)
            return await ask(await create_client(f"{house.url}/a2a/{agent}", config))

    house.finds(key, f"/a2a/{agent}", {})  # Says which key is none; the SDK's errors differ.
    return asyncio.run(main())


# MCP, by the SDK's client.


def a_call_that_asks(house: House, key: str) -> Any:
    async def begin(client: Any) -> Any:
        return await client.session.call_tool(
            "boss", {"task": "Refund 400 EUR?"}, allow_input_required=True
        )

    return _by_mcp(house, key, "auto", begin)


def goes_on_with_call(house: House, key: str, asked: Any) -> bool:
    async def go_on(client: Any) -> bool:
        (name,) = asked.input_requests
        yes = {"action": "accept", "content": {"answer": "approve"}}
        answer = {"input_responses": {name: yes}, "request_state": asked.request_state}
        try:
            await client.session.call_tool("boss", {"task": "Refund 400 EUR?"}, **answer)
        except MCPError as error:
            if "this requestState is none that was given" not in str(error):
                raise
            return False
        return True

    return bool(_by_mcp(house, key, "auto", go_on))


def a_session(house: House, key: str) -> str:
    body = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    }
    answer = _rpc(house, key, "initialize", body)
    return str(answer.headers["mcp-session-id"])


def speaks_in_session(house: House, key: str, session: str) -> bool:
    answer = _rpc(house, key, "tools/list", {}, {"mcp-session-id": session})
    if answer.status_code == 401:
        raise Unknown
    return answer.status_code == 200


def ends_session(house: House, key: str, session: str) -> bool:
    headers = {"authorization": f"Bearer {key}", "mcp-session-id": session}
    answer = httpx2.delete(f"{house.url}/mcp", headers=headers)
    if answer.status_code == 401:
        raise Unknown
    return answer.status_code == 200


def _rpc(house: House, key: str, method: str, params: Any, headers: Any = None) -> httpx2.Response:
    sent = {
        "authorization": f"Bearer {key}",
        "accept": "application/json, text/event-stream",
        **(headers or {}),
    }
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx2.post(f"{house.url}/mcp", json=body, headers=sent)


def _by_mcp(house: House, key: str, era: Any, ask: Callable[[Any], Any]) -> Any:
    async def nobody(context: Any, params: Any) -> Any:
        raise AssertionError("asked by hand here")

    async def main() -> Any:
        headers = {"authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as session:
            wire = streamable_http_client(f"{house.url}/mcp", http_client=session)
            async with Client(wire, mode=era, elicitation_callback=nobody) as client:
                return await ask(client)

    house.finds(key, "/mcp", {})  # Says which key is none; the SDK's errors differ.
    return asyncio.run(main())


# Memory.


def a_fact(house: House, key: str) -> str:
    name = os.urandom(4).hex()
    _asked(house, key, "helper", f"Please remember that my code is {name}.")
    return name


def is_told_it(house: House, key: str, name: str) -> bool:
    _asked(house, key, "helper", "What is my code?")
    return any(name in (m.content or "") for m in house.far.asked[-1].messages)


# Caches.


def shares_a_tenant(reader: str, maker: str) -> bool:
    """What `docs/serve.md` says of answers that are kept to be given again."""
    return PEOPLE[reader].tenant == PEOPLE[maker].tenant


def a_cached_answer(house: House, key: str) -> str:
    question = f"What is {os.urandom(4).hex()}?"
    _asked(house, key, "cached", question)
    return question


def gets_that_answer(house: House, key: str, question: str) -> bool:
    asked = len(house.far.asked)
    _asked(house, key, "cached", question)
    return len(house.far.asked) == asked


def an_answer_in_other_words(house: House, key: str) -> str:
    number = int.from_bytes(os.urandom(4), "big")
    _asked(house, key, "near", f"what is the price of parcel {number}?")
    return f"what is the price for parcel {number}?"


def gets_an_answer_in_other_words(house: House, key: str, question: str) -> bool:
    asked = len(house.far.asked)
    _asked(house, key, "near", question)
    return len(house.far.asked) == asked


def _asked(house: House, key: str, model: str, question: str) -> None:
    house.client(key).chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}]
    )


DOORS = {
    "trace": Door(a_trace, shows_trace, sees),
    "trace of an agent": Door(an_agents_trace, shows_trace, sees),
    "trace that was recorded": Door(a_recorded_trace, shows_trace, sees),
    "trace that was sent": Door(a_sent_trace, shows_trace, sees),
    "list of traces": Door(a_trace, lists_trace, sees),
    "export of traces": Door(a_trace, exports_trace, sees),
    "feedback": Door(a_trace, judges_trace, sees),
    "spans": Door(a_sent_trace, adds_spans, sees),
    "run": Door(a_waiting_run, shows_run, is_same),
    "list of runs": Door(a_waiting_run, lists_run, is_same),
    "answer to a run": Door(a_waiting_run, answers_run, is_same),
    "end of a run": Door(a_waiting_run, cancels_run, is_same),
    "question asked again": Door(a_named_question, gets_its_answer, is_same),
    "response": Door(a_response, retrieves_response, is_same),
    "items of a response": Door(a_response, lists_items, is_same),
    "deleted response": Door(a_response, deletes_response, is_same),
    "previous response": Door(a_response, goes_on_from_response, is_same),
    "previous response on record": Door(a_recorded_response, goes_on_in_the_record, is_same),
    "background response": Door(a_background_response, retrieves_response, is_same),
    "end of a background response": Door(a_background_response, cancels_response, is_same),
    "stream of a background response": Door(a_background_response, streams_response, is_same),
    "A2A task": Door(a_task, gets_task, is_same),
    "list of A2A tasks": Door(a_task, lists_task, is_same),
    "answer to an A2A task": Door(a_task, answers_task, is_same),
    "end of an A2A task": Door(a_task, cancels_task, is_same),
    "events of an A2A task": Door(a_task, watches_task, is_same),
    "notification of an A2A task": Door(a_task, is_told_of_task, is_same),
    "list of notifications": Door(a_task, sees_who_is_told, is_same),
    "A2A conversation": Door(a_conversation, goes_on_in_it, is_same),
    "MCP call": Door(a_call_that_asks, goes_on_with_call, is_same),
    "MCP session": Door(a_session, speaks_in_session, is_same),
    "end of an MCP session": Door(a_session, ends_session, is_same),
    "memory": Door(a_fact, is_told_it, is_same),
    "cache": Door(a_cached_answer, gets_that_answer, shares_a_tenant),
    "cache by meaning": Door(
        an_answer_in_other_words, gets_an_answer_in_other_words, shares_a_tenant
    ),
}


@pytest.mark.parametrize("name", DOORS)
def test_each_finds_behind_a_door_what_the_rule_says(house: House, name: str) -> None:
    door = DOORS[name]
    found = {
        (reader, maker): door.look(house, reader, door.make(house, maker))
        for reader, maker in PAIRS
    }
    assert found == {pair: door.rule(*pair) for pair in PAIRS}


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("key", ["none", "Ann"])
def test_who_has_no_key_finds_nothing_behind_any_door(house: House, name: str, key: str) -> None:
    door = DOORS[name]
    made = door.make(house, "ann")
    with pytest.raises((Unknown, openai.AuthenticationError)):
        door.look(house, key, made)


def test_what_all_have_upstream_under_one_key_is_the_houses(house: House, tmp_path: Path) -> None:
    for key in PEOPLE:
        client = house.client(key, "/t/desk/v1")
        client.models.list()
        if key == "house":
            assert client.files.list().data == []
        else:
            with pytest.raises(openai.PermissionDeniedError, match="without user and tenant"):
                client.files.list()


def test_the_counts_of_all_are_the_houses(house: House) -> None:
    for key in PEOPLE:
        headers = {"authorization": f"Bearer {key}"}
        told = httpx2.get(f"{house.url}/v1/metrics", headers=headers)
        assert told.status_code == (200 if key == "house" else 403)
