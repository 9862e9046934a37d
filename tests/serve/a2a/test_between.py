"""Two servers of ours: an agent of one asks an agent of the other."""

import asyncio
import shutil
from pathlib import Path

import pytest
from a2a.types import ListTasksRequest, TaskState

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
