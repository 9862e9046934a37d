"""Tasks survive the server: a gentle stop, and kill -9."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from a2a.types import GetTaskRequest, SubscribeToTaskRequest, TaskState

from tests.serve.a2a.served import Server, eventually, message, send, serving
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
