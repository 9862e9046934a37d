"""Our server, asked by the SDK's client in both bindings."""

import asyncio
import base64
import json
import socket
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    SubscribeToTaskRequest,
    Task,
    TaskState,
)
from a2a.utils.errors import (
    InvalidParamsError,
    TaskNotCancelableError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from kickwheel.core.store import open_store
from kickwheel.trace.store import Traces
from tests.serve.a2a.conftest import APP
from tests.serve.a2a.served import BINDINGS, Server, eventually, message, send, serving

DONE = TaskState.TASK_STATE_COMPLETED
WAITS = TaskState.TASK_STATE_INPUT_REQUIRED


def text(task: Task) -> str:
    return "".join(part.text for artifact in task.artifacts for part in artifact.parts)


async def until(client: Any, task: str, state: TaskState) -> Task:
    for _ in range(400):
        found: Task = await client.get_task(GetTaskRequest(id=task))
        if found.status.state == state:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {TaskState.Name(state)}: {found}")


def test_the_card_needs_no_key_and_everything_else_does(server: Server) -> None:
    status, card = server.call("/a2a/echo/.well-known/agent-card.json", key=None)
    assert (status, card["name"], card["description"]) == (200, "echo", "Says it again.")
    bindings = {(i["protocolBinding"], i["protocolVersion"]) for i in card["supportedInterfaces"]}
    assert bindings == {("JSONRPC", "1.0"), ("HTTP+JSON", "1.0"), ("JSONRPC", "0.3")}
    assert card["securitySchemes"]["key"]["httpAuthSecurityScheme"]["scheme"] == "Bearer"
    for path in ("/a2a/echo", "/a2a/echo/message:send", "/a2a/echo/x/.well-known/agent-card.json"):
        assert server.call(path, {}, key=None)[0] == 401
        assert server.call(path, {}, key="another")[0] == 401


def test_where_several_agents_answer_the_root_says_where_their_cards_are(server: Server) -> None:
    status, told = server.call("/.well-known/agent-card.json", key=None)
    assert (status, "/a2a/boss/.well-known/agent-card.json" in told["error"]["message"]) == (
        404,
        True,
    )
    status, told = server.call("/a2a/ecko", {})
    assert (status, 'Did you mean "echo"?' in told["error"]["message"]) == (404, True)


@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_answer_comes_in_pieces(server: Server, binding: str) -> None:
    async with server.client("echo", binding=binding) as client:
        events = await send(client, message("one two"))
    assert events[0].task.status.state == TaskState.TASK_STATE_SUBMITTED
    pieces = [e.artifact_update for e in events if e.HasField("artifact_update")]
    assert "".join(p.artifact.parts[0].text for p in pieces) == "user: one two"
    assert [p.append for p in pieces] == [False, True, True]
    assert events[-1].status_update.status.state == DONE


@pytest.mark.parametrize("binding", BINDINGS)
async def test_an_answer_comes_whole(server: Server, binding: str) -> None:
    async with server.client("echo", binding=binding, streaming=False) as client:
        (event,) = await send(client, message("one two"))
        assert (event.task.status.state, text(event.task)) == (DONE, "user: one two")
        found = await client.get_task(GetTaskRequest(id=event.task.id))
        assert found == event.task
        short = await client.get_task(GetTaskRequest(id=event.task.id, history_length=0))
        assert not short.history


async def test_who_does_not_wait_gets_the_task_at_once(server: Server) -> None:
    async with server.client("boss", streaming=False) as client:
        (event,) = await send(client, message("Ship?"), return_immediately=True)
        assert event.task.status.state in (
            TaskState.TASK_STATE_SUBMITTED,
            TaskState.TASK_STATE_WORKING,
        )
        await until(client, event.task.id, WAITS)


async def test_a_conversation_goes_on_in_its_context(server: Server) -> None:
    async with server.client("echo", streaming=False) as client:
        (first,) = await send(client, message("one"))
        (second,) = await send(client, message("two", context=first.task.context_id))
    assert second.task.context_id == first.task.context_id
    assert text(second.task) == "user: one | assistant: user: one | user: two"


@pytest.mark.parametrize("binding", BINDINGS)
async def test_a_question_to_a_person_is_answered_by_the_next_message(
    server: Server, binding: str
) -> None:
    async with server.client("boss", binding=binding, streaming=False) as client:
        (event,) = await send(client, message("Refund 400 EUR?"))
        asked = event.task
        assert asked.status.state == WAITS
        assert asked.status.message.parts[0].text == "Refund 400 EUR? (approve / reject)"
        with pytest.raises(InvalidParamsError, match="approve, reject"):
            await send(client, message("perhaps", task=asked.id))
        (event,) = await send(client, message("approve", task=asked.id))
        assert (event.task.status.state, text(event.task)) == (DONE, "approve")
        roles = [(said.role, said.parts[0].text) for said in event.task.history]
        assert [t for _, t in roles] == [
            "Refund 400 EUR?",
            "Refund 400 EUR? (approve / reject)",
            "approve",
        ]
        with pytest.raises(UnsupportedOperationError, match="contextId"):
            await send(client, message("and now?", task=asked.id))


async def test_an_answer_over_v1_runs_moves_the_task_too(server: Server) -> None:
    async with server.client("boss", streaming=False) as client:
        (event,) = await send(client, message("Refund 1 EUR?"))
        task = event.task.id
        assert server.call(f"/v1/runs/{task}/answer", {"answer": "reject"})[0] == 200
        assert text(await until(client, task, DONE)) == "reject"


async def test_who_subscribes_hears_how_it_goes_on(server: Server) -> None:
    async with server.client("boss") as client:
        events = await send(client, message("Refund 2 EUR?"))
        task = events[0].task.id
        heard: list[Any] = []

        async def follow() -> None:
            async for event in client.subscribe(SubscribeToTaskRequest(id=task)):
                heard.append(event)

        following = asyncio.create_task(follow())
        await eventually(lambda: heard)
        assert heard[0].task.status.state == WAITS
        server.call(f"/v1/runs/{task}/answer", {"answer": "approve"})
        await asyncio.wait_for(following, 20)
        assert heard[-1].status_update.status.state == DONE
        with pytest.raises(UnsupportedOperationError, match="has ended"):
            _ = [e async for e in client.subscribe(SubscribeToTaskRequest(id=task))]


async def test_cancel_ends_the_run(server: Server) -> None:
    async with server.client("slow", streaming=False) as client:
        (event,) = await send(client, message("begin"), return_immediately=True)
        task = event.task.id
        await until(client, task, TaskState.TASK_STATE_WORKING)
        with pytest.raises(UnsupportedOperationError, match="at work"):
            await send(client, message("more", task=task))
        cancelled = await client.cancel_task(CancelTaskRequest(id=task))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED
        assert server.call(f"/v1/runs/{task}")[1]["status"] == "cancelled"
        with pytest.raises(TaskNotCancelableError, match="ended already"):
            await client.cancel_task(CancelTaskRequest(id=task))
    async with server.client("boss", streaming=False) as client:
        (event,) = await send(client, message("Refund 3 EUR?"))
        cancelled = await client.cancel_task(CancelTaskRequest(id=event.task.id))
        assert cancelled.status.state == TaskState.TASK_STATE_CANCELED


async def test_a_run_cancelled_elsewhere_cancels_the_task(server: Server) -> None:
    async with server.client("boss", streaming=False) as client:
        (event,) = await send(client, message("Refund 4 EUR?"))
        server.call(f"/v1/runs/{event.task.id}/cancel", {})
        await until(client, event.task.id, TaskState.TASK_STATE_CANCELED)


async def test_a_client_that_leaves_mid_stream_leaves_the_task_at_work(server: Server) -> None:
    (server.folder / "go").unlink(missing_ok=True)
    async with server.client("slow") as client:
        stream = client.send_message(_request("leave"))
        first = await anext(stream)
        while not (await anext(stream)).HasField("artifact_update"):
            pass
        await stream.aclose()
    async with server.client("slow") as client:
        half = await client.get_task(GetTaskRequest(id=first.task.id))
        assert (half.status.state, text(half)) == (TaskState.TASK_STATE_WORKING, "begun ")
        (server.folder / "go").touch()
        assert text(await until(client, first.task.id, DONE)) == "begun and done"
    (server.folder / "go").unlink()


async def test_the_same_message_sent_again_is_the_same_task(server: Server) -> None:
    async with server.client("echo", streaming=False) as client:
        once = message("once", identity="m-1")
        (first,) = await send(client, once)
        (again,) = await send(client, message("once", identity="m-1"))
        (other,) = await send(client, message("another", identity="m-1"))
    assert again.task.id == first.task.id != other.task.id


async def test_tasks_are_listed_page_by_page(server: Server) -> None:
    async with server.client("echo", streaming=False) as client:
        (first,) = await send(client, message("a"))
        context = first.task.context_id
        for word in ("b", "c"):
            await send(client, message(word, context=context))
        page = await client.list_tasks(ListTasksRequest(context_id=context, page_size=2))
        assert (len(page.tasks), page.total_size, len(page.tasks[0].artifacts)) == (2, 3, 0)
        rest = await client.list_tasks(
            ListTasksRequest(
                context_id=context,
                page_size=2,
                page_token=page.next_page_token,
                include_artifacts=True,
            )
        )
        assert [text(t) for t in rest.tasks] == ["user: a"]
        assert not rest.next_page_token
        failed = TaskState.TASK_STATE_FAILED
        none = await client.list_tasks(ListTasksRequest(context_id=context, status=failed))
        assert not none.tasks
        with pytest.raises(InvalidParamsError, match="page token"):
            await client.list_tasks(ListTasksRequest(page_token="nonsense"))


async def test_tasks_of_others_are_not_there(server: Server) -> None:
    async with server.client("echo", streaming=False) as client:
        (event,) = await send(client, message("mine", identity="m-mine"))
        task = event.task.id
    async with server.client("echo", key="the-key-of-bob", streaming=False) as bob:
        for method, request in (
            (bob.get_task, GetTaskRequest(id=task)),
            (bob.cancel_task, CancelTaskRequest(id=task)),
        ):
            with pytest.raises(TaskNotFoundError, match=task):
                await method(request)
        with pytest.raises(TaskNotFoundError):
            await send(bob, message("more", task=task))
        assert not (await bob.list_tasks(ListTasksRequest())).tasks
        (own,) = await send(bob, message("mine", identity="m-mine"))
        assert own.task.id != task
        (other,) = await send(bob, message("hear", context=event.task.context_id))
        assert text(other.task) == "user: hear"
    async with server.client("boss", streaming=False) as client:
        with pytest.raises(TaskNotFoundError):
            await client.get_task(GetTaskRequest(id=task))


async def test_many_at_once_and_the_same_twice_at_once(server: Server) -> None:
    async with server.client("echo") as client:
        said = [message(f"n {n}") for n in range(20)]
        twins = [message("twin", identity="m-twin") for _ in range(2)]
        heard = await asyncio.gather(*(send(client, one) for one in [*said, *twins]))
        tasks = [await client.get_task(GetTaskRequest(id=events[0].task.id)) for events in heard]
    assert [text(task) for task in tasks[:20]] == [f"user: n {n}" for n in range(20)]
    assert tasks[20] == tasks[21]
    assert {events[-1].status_update.status.state for events in heard[:20]} == {DONE}


async def test_a_question_that_was_sent_again_is_not_waited_for(server: Server) -> None:
    for streaming in (True, False):
        async with server.client("boss", streaming=streaming) as client:
            for _ in range(2):
                events = await send(client, message("again?", identity=f"m-{streaming}"))
                found = await client.get_task(GetTaskRequest(id=events[0].task.id))
                assert found.status.state == WAITS


async def test_an_answer_with_a_form_is_data(server: Server) -> None:
    async with server.client("form", streaming=False) as client:
        (event,) = await send(client, message("one"))
        (part,) = event.task.artifacts[0].parts
        assert (part.data.struct_value["turns"], part.media_type) == (1, "application/json")


async def test_a_bug_fails_the_task_and_tells_nothing(server: Server) -> None:
    async with server.client("echo", streaming=False) as client:
        (event,) = await send(client, message("bug"))
    assert event.task.status.state == TaskState.TASK_STATE_FAILED
    said = event.task.status.message.parts[0].text
    assert "broke on our side" in said
    assert "secret" not in str(event)


def _request(said: str) -> Any:
    from a2a.types import SendMessageRequest

    return SendMessageRequest(message=message(said))


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ([{"text": "a"}, {"text": "b"}], "user: a\n\nb"),
        ([{"data": {"n": 2, "x": [1.5, "é"]}}], 'user: {"n": 2, "x": [1.5, "é"]}'),
        (
            [
                {
                    "raw": base64.b64encode(b"1,2").decode(),
                    "filename": "a.csv",
                    "mediaType": "text/csv",
                }
            ],
            "user: a.csv:\n1,2",
        ),
    ],
)
def test_texts_data_and_files_of_text_are_read(server: Server, parts: Any, answer: str) -> None:
    told = server.rpc("echo", "SendMessage", _said(parts))
    assert told["result"]["task"]["artifacts"][0]["parts"][0]["text"] == answer


@pytest.mark.parametrize(
    ("parts", "code", "why"),
    [
        ([], -32602, "message.parts"),
        ([{"text": "  "}], -32602, "says nothing"),
        ([{"metadata": {"a": 1}}], -32602, "part 1 of the message is empty"),
        ([{"url": "http://x.y/z.png"}], -32005, "not fetched"),
        ([{"raw": "aGk=", "mediaType": "image/png"}], -32005, "image/png"),
        ([{"raw": "/w==", "mediaType": "text/plain"}], -32005, "no text in UTF-8"),
    ],
)
def test_what_cannot_be_read_is_refused(server: Server, parts: Any, code: int, why: str) -> None:
    error = server.rpc("echo", "SendMessage", _said(parts))["error"]
    assert (error["code"], why in json.dumps(error)) == (code, True), error


def test_who_takes_no_text_is_told(server: Server) -> None:
    params = {**_said([{"text": "a"}]), "configuration": {"acceptedOutputModes": ["image/png"]}}
    assert server.rpc("echo", "SendMessage", params)["error"]["code"] == -32005
    params["configuration"] = {"acceptedOutputModes": ["text/*"]}
    assert "result" in server.rpc("echo", "SendMessage", params)


def test_a_wrong_version_is_the_protocols_error(server: Server) -> None:
    for version in ("", "0.3", "9.0", "nonsense"):
        told = server.rpc("echo", "SendMessage", _said([{"text": "a"}]), version=version)
        assert told["error"]["code"] == -32009, told
    body = _said([{"text": "a"}])
    status, told = server.call("/a2a/echo/message:send", body, headers={"A2A-Version": "9.0"})
    assert (status, told["error"]["details"][0]["reason"]) == (400, "VERSION_NOT_SUPPORTED")


def test_bad_requests_are_the_protocols_errors(server: Server) -> None:
    one = {"A2A-Version": "1.0"}
    for body, code in (
        (b'{"jsonrpc": ', -32700),
        (b"\xff\xfe", -32700),
        (b"[" * 100_000, -32700),
        (b'{"jsonrpc": "2.0", "id": "\xff"}', -32700),
        (b"[]", -32600),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "GetTask"}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "Dance"}', -32601),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": 5}}', -32602),
    ):
        status, told = server.call("/a2a/echo", body, headers=one)
        assert (status, told["error"]["code"]) == (200, code), told
    assert server.rpc("echo", "GetTask", {"id": "nobody"})["error"]["code"] == -32001
    assert server.rpc("echo", "CancelTask", {"id": "nobody"})["error"]["code"] == -32001
    status, told = server.call("/a2a/echo/tasks/nobody", headers=one)
    assert (status, told["error"]["details"][0]["reason"]) == (404, "TASK_NOT_FOUND")
    for body in (b"{", b'"\xff"', b"[" * 100_000, b'{"message": 5}'):
        status, told = server.call("/a2a/echo/message:send", body, headers=one)
        assert (status, told["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert server.call("/a2a/echo/nothing", headers=one)[0] == 404


def test_a_body_that_is_too_large_is_refused(server: Server) -> None:
    parts = urllib.parse.urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as line:
        head = f"POST /a2a/echo HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        head += f"authorization: Bearer {server.headers()['authorization'][7:]}\r\n"
        line.sendall(f"{head}content-length: 999999999\r\n\r\n".encode())
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def _said(parts: Any) -> dict[str, Any]:
    import os

    return {"message": {"messageId": os.urandom(6).hex(), "role": "ROLE_USER", "parts": parts}}


async def test_what_a_tenant_asked_is_a_trace_of_that_tenant(folder: Path) -> None:
    app = APP.replace("user: bob", "user: bob, tenant: clinic")
    with serving(folder, app) as server:
        async with server.client("echo", key="the-key-of-bob", streaming=False) as client:
            await send(client, message("one"))
        server.process.terminate()
        server.process.wait(20)
    with open_store(folder / ".kickwheel") as store:
        (trace,) = Traces(store).all()
    assert (trace.tenant, trace.user) == ("clinic", "bob")
