"""Tasks survive the server: a gentle stop, and kill -9."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from a2a.types import GetTaskRequest, SubscribeToTaskRequest, Task, TaskState

from kickwheel.core.store import open_store
from kickwheel.records import Message as Said
from kickwheel.records import wire
from kickwheel.serve.a2a.tasks import Kept, Tasks
from kickwheel.serve.auth import Keys
from tests.serve.a2a.served import KEY, Server, eventually, message, send, serving
from tests.serve.a2a.test_server import text, until


async def begun(server: Server, folder: Path) -> str:
    async with server.client("slow", streaming=False) as client:
        (event,) = await send(client, message("begin"), return_immediately=True)
        await eventually((folder / "acts").exists)
        identity: str = event.task.id
        return identity


@pytest.mark.parametrize("gently", [True, False])
async def test_a_task_goes_on_after_its_server_has_ended(folder: Path, gently: bool) -> None:
    with serving(folder) as first:
        task = await begun(first, folder)
        async with first.client("boss", streaming=False) as client:
            (asked,) = await send(client, message("Ship?"))
        if gently:
            first.process.terminate()
            first.process.wait(10)
        else:
            first.kill()
    with serving(folder) as second:
        async with second.client("slow") as client:
            found = await client.get_task(GetTaskRequest(id=task))
            assert found.status.state == TaskState.TASK_STATE_WORKING
            heard: list[Any] = []

            async def follow() -> None:
                async for event in client.subscribe(SubscribeToTaskRequest(id=task)):
                    heard.append(event)

            following = asyncio.create_task(follow())
            await eventually(lambda: heard)
            (folder / "go").touch()
            await asyncio.wait_for(following, 30)
            assert heard[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
            found = await until(client, task, TaskState.TASK_STATE_COMPLETED)
            assert text(found) == "begun and done"
        async with second.client("boss", streaming=False) as client:
            found = await client.get_task(GetTaskRequest(id=asked.task.id))
            assert found.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
            (event,) = await send(client, message("approve", task=asked.task.id))
            assert text(event.task) == "approve"
    assert (folder / "acts").read_text() == "first\nsecond\n"
    with serving(folder) as third:
        async with third.client("slow", streaming=False) as client:
            assert text(await client.get_task(GetTaskRequest(id=task))) == "begun and done"


async def test_a_task_whose_run_never_began_is_begun(folder: Path) -> None:
    conversation = (Said(role="user", content="one"),)
    task = Task(id="t-1", context_id="c-1")
    task.status.state = TaskState.TASK_STATE_SUBMITTED
    asker = await Keys([KEY]).admit(
        {"path": "/", "headers": [(b"authorization", f"Bearer {KEY}".encode())]}
    )
    with open_store(folder / ".kickwheel") as store:
        Tasks(store.database).add(
            Kept("echo", asker.tenant, asker.user, wire.to_bytes(conversation), task)
        )
        store.database.write(lambda c: c.execute("UPDATE task SET updated = 1"))
    with serving(folder) as server:
        async with server.client("echo", streaming=False) as client:
            assert text(await until(client, "t-1", TaskState.TASK_STATE_COMPLETED)) == "user: one"


async def test_who_follows_a_task_of_another_process_hears_its_end(folder: Path) -> None:
    with serving(folder) as one, serving(folder) as other:
        task = await begun(one, folder)
        async with other.client("slow") as client:
            heard: list[Any] = []

            async def follow() -> None:
                async for event in client.subscribe(SubscribeToTaskRequest(id=task)):
                    heard.append(event)

            following = asyncio.create_task(follow())
            await eventually(lambda: heard)
            (folder / "go").touch()
            await asyncio.wait_for(following, 30)
    assert heard[-1].status_update.status.state == TaskState.TASK_STATE_COMPLETED
    assert [e for e in heard if e.HasField("artifact_update")]
    assert (folder / "acts").read_text() == "first\nsecond\n"
