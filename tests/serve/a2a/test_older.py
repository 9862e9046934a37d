"""Callers of protocol 0.3, by what they send over the wire."""

import json
import urllib.request
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, create_client
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, GetTaskRequest, TaskState

from tests.serve.a2a.served import Server, message, send


def params(text: str, **more: str) -> dict[str, Any]:
    said = {"messageId": f"m-{text}", "role": "user", "kind": "message", **more}
    return {"message": {**said, "parts": [{"kind": "text", "text": text}]}}


def stream(server: Server, agent: str, method: str, given: Any) -> list[Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
    headers = {"content-type": "application/json", **server.headers()}
    url = f"{server.url}/a2a/{agent}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        lines = response.read().decode().splitlines()
    return [json.loads(line[5:])["result"] for line in lines if line.startswith("data:")]


def test_the_card_is_one_of_theirs_too(server: Server) -> None:
    _, card = server.call("/a2a/echo/.well-known/agent-card.json", key=None)
    assert card["protocolVersion"] == "0.3"
    assert (card["url"], card["preferredTransport"]) == (f"{server.url}/a2a/echo", "JSONRPC")


def test_a_message_is_answered_with_a_task(server: Server) -> None:
    task = server.rpc("echo", "message/send", params("one"), version="")["result"]
    assert (task["kind"], task["status"]["state"]) == ("task", "completed")
    assert task["artifacts"][0]["parts"] == [{"kind": "text", "text": "user: one"}]
    found = server.rpc("echo", "tasks/get", {"id": task["id"]}, version="0.3")["result"]
    assert found == task
    error = server.rpc("echo", "tasks/get", {"id": "nobody"}, version="")["error"]
    assert error["code"] == -32001
    wrong = server.rpc("echo", "message/send", params("one"), version="1.0")["error"]
    assert wrong["code"] == -32603  # 0.3 has no code for a wrong version.
    assert "version" in wrong["message"]


def test_a_stream_ends_with_what_is_final(server: Server) -> None:
    events = stream(server, "echo", "message/stream", params("two"))
    assert [event["kind"] for event in events] == [
        "task", "status-update", "artifact-update", "artifact-update", "status-update",
    ]  # fmt: skip
    assert (events[-1]["status"]["state"], events[-1]["final"]) == ("completed", True)


def test_a_question_is_answered_and_a_task_cancelled(server: Server) -> None:
    events = stream(server, "boss", "message/stream", params("ship"))
    assert events[-1]["status"]["state"] == "input-required"
    task = events[0]["id"]
    answered = server.rpc("boss", "message/send", params("approve", taskId=task), version="")
    assert answered["result"]["status"]["state"] == "completed"
    task = server.rpc("boss", "message/send", params("again"), version="")["result"]["id"]
    ended = server.rpc("boss", "tasks/cancel", {"id": task}, version="")["result"]
    assert ended["status"]["state"] == "canceled"


def test_the_older_rest_binding_answers(server: Server) -> None:
    body = {"message": {"messageId": "r1", "role": "ROLE_USER", "content": [{"text": "three"}]}}
    status, told = server.call("/a2a/echo/v1/message:send", body)
    assert (status, told["task"]["status"]["state"]) == (200, "TASK_STATE_COMPLETED")


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_sdks_own_client_of_0_3_is_served(server: Server, streaming: bool) -> None:
    url = f"{server.url}/a2a/echo"
    card = AgentCard(
        name="echo",
        supported_interfaces=[
            AgentInterface(url=url, protocol_binding="JSONRPC", protocol_version="0.3")
        ],
        capabilities=AgentCapabilities(streaming=True),
    )
    async with httpx.AsyncClient(headers=server.headers(), timeout=30) as session:
        client = await create_client(card, ClientConfig(httpx_client=session, streaming=streaming))
        events = await send(client, message(f"four {streaming}"))
        task = await client.get_task(GetTaskRequest(id=events[0].task.id))
        assert task.status.state == TaskState.TASK_STATE_COMPLETED
