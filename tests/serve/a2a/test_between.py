"""Two servers of ours: an agent of one asks an agent of the other."""

import asyncio
import shutil
from pathlib import Path

import httpx
import pytest
from a2a.types import CancelTaskRequest, ListTasksRequest, SendMessageRequest, Task, TaskState

from tests.serve.a2a.conftest import APP
from tests.serve.a2a.served import KEY, Server, eventually, message, send, serving
from tests.serve.a2a.test_server import text, until

NEAR = """
agents:
  near: {kind: a2a, url: URL, token: "${KICKWHEEL_API_KEY}", streaming: STREAMS, poll_s: 0.2}
"""


def near(folder: Path, far: Server, agent: str, *, streaming: bool = True) -> Path:
    place = folder / "near"
    place.mkdir()
    text = NEAR.replace("URL", f"{far.url}/a2a/{agent}").replace("STREAMS", str(streaming).lower())
    (place / "app.yml").write_text(text, encoding="utf-8")
    return place


@pytest.fixture
def far(tmp_path: Path) -> Path:
    place = tmp_path / "far"
    place.mkdir()
    (place / "app.yml").write_text(APP, encoding="utf-8")
    shutil.copy(Path(__file__).with_name("talkers.py"), place)
    return place


async def test_a_question_passes_through_and_so_does_its_answer(tmp_path: Path, far: Path) -> None:
    with serving(far) as there, serving(near(tmp_path, there, "boss")) as here:
        async with here.client(streaming=False) as client:
            (asked,) = await send(client, message("Refund?"))
            assert asked.task.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
            assert asked.task.status.message.parts[0].text == "Refund? (approve / reject)"
            (event,) = await send(client, message("approve", task=asked.task.id))
            assert text(event.task) == "approve"
    assert KEY not in (tmp_path / "near" / "app.yml").read_text()


@pytest.mark.parametrize("streaming", [True, False])
async def test_who_was_killed_while_waiting_asks_the_task_and_sends_nothing_again(
    tmp_path: Path, far: Path, streaming: bool
) -> None:
    with serving(far) as there:
        folder = near(tmp_path, there, "slow", streaming=streaming)
        with serving(folder) as here:
            async with here.client(streaming=False) as client:
                (event,) = await send(client, message("begin"), return_immediately=True)
            await eventually((far / "acts").exists)
            await asyncio.sleep(0.3)
            here.kill()
        with serving(folder) as here:
            (far / "go").touch()
            async with here.client(streaming=False) as client:
                done = await until(client, event.task.id, TaskState.TASK_STATE_COMPLETED)
                assert text(done) == "begun and done"
        async with there.client("slow") as client:
            listed = await client.list_tasks(ListTasksRequest())
            assert listed.total_size == 1
    assert (far / "acts").read_text() == "first\nsecond\n"


async def only_task(server: Server, agent: str) -> Task:
    async with server.client(agent) as client:
        (task,) = (await client.list_tasks(ListTasksRequest())).tasks
        return task


async def cancelled(server: Server, agent: str) -> None:
    """Returns once the only task there is cancelled."""
    for _ in range(200):
        if (await only_task(server, agent)).status.state == TaskState.TASK_STATE_CANCELED:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it was never cancelled")


async def test_who_cancels_a_task_here_cancels_the_one_elsewhere(tmp_path: Path, far: Path) -> None:
    with serving(far) as there, serving(near(tmp_path, there, "slow")) as here:
        async with here.client() as client:
            async for event in client.send_message(SendMessageRequest(message=message("begin"))):
                if event.HasField("artifact_update"):
                    break
            task = (await only_task(here, "near")).id
            done = await client.cancel_task(CancelTaskRequest(id=task))
            assert done.status.state == TaskState.TASK_STATE_CANCELED
        await cancelled(there, "slow")
    assert (far / "acts").read_text() == "first\n"


async def test_who_goes_away_from_here_cancels_the_task_elsewhere(
    tmp_path: Path, far: Path
) -> None:
    with serving(far) as there, serving(near(tmp_path, there, "slow")) as here:
        body = {
            "model": "near",
            "stream": True,
            "messages": [{"role": "user", "content": "begin"}],
        }
        async with (
            httpx.AsyncClient(headers=here.headers(), timeout=30) as session,
            session.stream("POST", f"{here.url}/v1/chat/completions", json=body) as answer,
        ):
            async for line in answer.aiter_lines():
                if "begun" in line:
                    break
        await cancelled(there, "slow")
    assert (far / "acts").read_text() == "first\n"
