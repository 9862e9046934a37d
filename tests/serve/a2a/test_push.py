"""Notifications, with a receiver on loopback."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from a2a.types import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    TaskPushNotificationConfig,
)
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from aiohttp import web

from tests.serve.a2a.conftest import APP
from tests.serve.a2a.served import Server, eventually, message, send, serving


@asynccontextmanager
async def receiver(*answers: web.Response) -> AsyncGenerator[tuple[str, list[Any]]]:
    """Its URL, and what it got: headers and JSON; the answers in turn, then 200."""
    got: list[Any] = []
    left = list(answers)

    async def hear(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        got.append((request.path, headers, await request.json()))
        return left.pop(0) if left else web.Response()

    app = web.Application()
    app.router.add_post("/{path}", hear)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}/hook", got
    finally:
        await runner.cleanup()


async def count(got: list[Any], number: int) -> None:
    await eventually(lambda: len(got) >= number)


async def test_who_gave_a_url_is_told_when_a_task_waits_and_when_it_ends(server: Server) -> None:
    async with receiver() as (url, got), server.client("boss", streaming=False) as client:
        config = TaskPushNotificationConfig(
            url=url,
            token="t-1",
            authentication=AuthenticationInfo(scheme="Bearer", credentials="theirs"),
        )
        (event,) = await send(client, message("Ship?"), task_push_notification_config=config)
        await count(got, 1)
        _, headers, body = got[0]
        assert headers["x-a2a-notification-token"] == "t-1"
        assert headers["authorization"] == "Bearer theirs"
        assert body["task"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        await send(client, message("approve", task=event.task.id))
        await count(got, 2)
        assert got[1][2]["task"]["artifacts"][0]["parts"][0]["text"] == "approve"
        await asyncio.sleep(0.1)
        assert len(got) == 2


async def test_a_task_that_ends_after_a_kill_is_told(folder: Path) -> None:
    async with receiver() as (url, got):
        with serving(folder) as first:
            async with first.client("slow", streaming=False) as client:
                config = TaskPushNotificationConfig(url=url)
                await send(
                    client,
                    message("begin"),
                    return_immediately=True,
                    task_push_notification_config=config,
                )
                await eventually((folder / "acts").exists)
            first.kill()
        (folder / "go").touch()
        with serving(folder):
            await count(got, 1)
        assert got[0][2]["task"]["status"]["state"] == "TASK_STATE_COMPLETED"


async def test_configurations_are_kept_listed_and_dropped(server: Server) -> None:
    async with server.client("boss", streaming=False) as client:
        (event,) = await send(client, message("Ship it?"))
        task = event.task.id
        made = await client.create_task_push_notification_config(
            TaskPushNotificationConfig(task_id=task, url="https://example.com/a")
        )
        listed = await client.list_task_push_notification_configs(
            ListTaskPushNotificationConfigsRequest(task_id=task)
        )
        assert [c.id for c in listed.configs] == [made.id]
        one = GetTaskPushNotificationConfigRequest(task_id=task, id=made.id)
        assert (await client.get_task_push_notification_config(one)).url == "https://example.com/a"
        await client.delete_task_push_notification_config(
            DeleteTaskPushNotificationConfigRequest(task_id=task, id=made.id)
        )
        with pytest.raises(TaskNotFoundError):
            await client.get_task_push_notification_config(one)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2:1/",
        "http://localhost:1/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest",
        "http://10.1.2.3/",
        "http://100.64.0.1/",
        "http://0.0.0.0/",
        "http://127。0。0。2:1/",
        "http://１２７.0.0.2:1/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "file:///etc/passwd",
        "ftp://example.com/",
        "https://user:pass@example.com/",
        "http://",
        "http://[",
        "nonsense",
    ],
)
async def test_a_url_that_leads_inside_is_refused(server: Server, url: str) -> None:
    async with server.client("boss", streaming=False) as client:
        config = TaskPushNotificationConfig(url=url)
        with pytest.raises(InvalidParamsError):
            await send(client, message("Ship?"), task_push_notification_config=config)


async def test_loopback_is_told_only_where_the_app_says_so(folder: Path) -> None:
    closed = APP.replace("push_to: [127.0.0.1]", "")
    async with receiver() as (url, got):
        with serving(folder, closed) as server:
            async with server.client("boss", streaming=False) as client:
                config = TaskPushNotificationConfig(url=url)
                with pytest.raises(InvalidParamsError, match=r"push_to: \[127\.0\.0\.1\]"):
                    await send(client, message("Ship?"), task_push_notification_config=config)
        assert not got


async def test_a_redirect_is_not_followed_and_an_outage_is_tried_again(server: Server) -> None:
    moved = web.Response(status=307, headers={"location": "/secret"})
    down = web.Response(status=503)
    async with receiver(down, moved) as (url, got), server.client("echo") as client:
        config = TaskPushNotificationConfig(url=url)
        await send(client, message("tell"), task_push_notification_config=config)
        await count(got, 2)
        await asyncio.sleep(0.2)
        assert [path for path, _, _ in got] == ["/hook", "/hook"]
