"""Notifications, with a receiver on loopback."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from a2a.types import (
    AuthenticationInfo,
    DeleteTaskPushNotificationConfigRequest,
    GetTaskPushNotificationConfigRequest,
    ListTaskPushNotificationConfigsRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import InvalidParamsError, TaskNotFoundError
from aiohttp import web

from kickwheel.core.store import open_store
from kickwheel.serve.a2a import push
from kickwheel.serve.a2a.owed import Owed
from kickwheel.serve.a2a.tasks import Kept, Tasks
from tests.serve.a2a.conftest import APP
from tests.serve.a2a.served import Server, eventually, message, send, serving


@asynccontextmanager
async def receiver(*answers: web.Response, port: int = 0) -> AsyncGenerator[tuple[str, list[Any]]]:
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
    site = web.TCPSite(runner, "127.0.0.1", port)
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


async def ended_task(server: Server, url: str, text: str = "one") -> str:
    """A task that ended and wanted to tell the URL so."""
    async with server.client("echo", streaming=False) as client:
        config = TaskPushNotificationConfig(url=url)
        (event,) = await send(client, message(text), task_push_notification_config=config)
        assert event.task.status.state == TaskState.TASK_STATE_COMPLETED
        identity: str = event.task.id
        return identity


@pytest.mark.slow
@pytest.mark.parametrize("gently", [True, False])
async def test_a_server_that_ends_before_it_was_heard_tells_it_when_it_is_back(
    folder: Path, gently: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with serving(folder) as first:
        # The task has ended, and nobody answers at the URL yet.
        task = await ended_task(first, f"http://127.0.0.1:{port}/hook")
        if gently:
            first.process.terminate()
            first.process.wait(20)
        else:
            first.kill()
    async with receiver(port=port) as (_, got):
        with serving(folder), serving(folder):
            await count(got, 1)
            await asyncio.sleep(3)
            assert [body["task"]["id"] for _, _, body in got] == [task]


def test_two_who_deliver_never_take_the_same_notice(tmp_path: Path, database: str | None) -> None:
    with (
        open_store(tmp_path, database) as one,
        open_store(tmp_path, database) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        tasks = Tasks(one.database)
        for number in range(20):
            task = a_task(f"t{number}")
            tasks.add(kept(task))
            tasks.add_push(TaskPushNotificationConfig(task_id=task.id, id="p", url="http://x"))
            task.status.state = TaskState.TASK_STATE_COMPLETED
            assert tasks.save(kept(task), lambda: b"{}")
        takers = [Owed(store.database) for store in (one, two)] * 8
        now = time.time()
        taken = list(pool.map(lambda owed: owed.take(now, now + 15, 3), takers))
        numbers = [notice.number for notices in taken for notice in notices]
        assert len(numbers) == len(set(numbers)) == 20
        assert Owed(one.database).take(now + 14, now + 30, 99) == []
        # Whoever took them was killed: after a while they are taken again.
        again = Owed(two.database).take(now + 16, now + 30, 99)
        assert sorted(notice.number for notice in again) == sorted(numbers)
        assert {notice.tries for notice in again} == {2}


def test_a_notice_waits_for_the_one_before_it_and_is_gone_with_its_url(
    tmp_path: Path, database: str | None
) -> None:
    with open_store(tmp_path, database) as store:
        tasks, owed, task, now = Tasks(store.database), Owed(store.database), a_task("t"), 1e12
        tasks.add(kept(task))
        for push in ("a", "b"):
            tasks.add_push(TaskPushNotificationConfig(task_id="t", id=push, url="http://x"))
        for state in (TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_COMPLETED):
            task.status.state = state
            name = TaskState.Name(state).encode()
            assert tasks.save(kept(task), lambda name=name: name)
            # The same again, as another process may say it, is nothing new.
            tasks.save(kept(task), lambda: b"again")
        first = owed.take(now, now + 15, 99)
        assert [(n.config.id, n.body) for n in first] == [
            ("a", b"TASK_STATE_INPUT_REQUIRED"),
            ("b", b"TASK_STATE_INPUT_REQUIRED"),
        ]
        owed.settle(first[0])
        owed.later(first[1], now + 60)
        (second,) = owed.take(now, now + 15, 99)
        assert (second.config.id, second.body) == ("a", b"TASK_STATE_COMPLETED")
        tasks.drop_push("t", "b")
        assert owed.take(now + 99, now + 99, 99) == [replace(second, tries=2)]


async def test_what_nobody_ever_hears_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(push, "PAUSES_S", (0.01, 0.01))
    down = [web.Response(status=503) for _ in range(9)]
    with open_store(tmp_path) as store:
        tasks, task = Tasks(store.database), a_task("t")
        tasks.add(kept(task))
        async with receiver(*down) as (url, got):
            tasks.add_push(TaskPushNotificationConfig(task_id="t", id="p", url=url))
            task.status.state = TaskState.TASK_STATE_COMPLETED
            tasks.save(kept(task), lambda: b"{}")
            left = "SELECT COUNT(*) FROM task_owed"
            async with push.notifier(Owed(store.database), ["127.0.0.1"]):
                await eventually(lambda: store.database.read(left) == [(0,)])
            assert len(got) == 3
    assert "task t: 127.0.0.1 was not told how it stands: it answered 503" in caplog.text


def a_task(identity: str) -> Task:
    task = Task(id=identity, context_id="c")
    task.status.state = TaskState.TASK_STATE_WORKING
    return task


def kept(task: Task) -> Kept:
    return Kept("echo", "", "", b"[]", task)
