"""Background responses: fetched, cancelled, followed, and over a restart of the server."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from kickwheel.core.errors import ModelError
from tests.serve.conftest import Broken, Rooms, Served, running


def until(ask: Callable[[], Response], status: str, within_s: float = 10) -> Response:
    ends = time.monotonic() + within_s
    while (found := ask()).status != status:
        assert time.monotonic() < ends, found
        time.sleep(0.02)
    return found


def test_a_response_goes_on_while_nobody_waits(served: Served) -> None:
    client = served.client()
    served.rooms.live["slow"].pieces = 3  # type: ignore[attr-defined]
    begun = client.responses.create(model="slow", input="count", background=True)
    assert (begun.status, begun.background) == ("in_progress", True)
    done = until(lambda: client.responses.retrieve(begun.id), "completed")
    assert done.output_text == "tick tick tick "
    again = client.responses.create(model="echo", input="more", previous_response_id=begun.id)
    assert again.output_text == "more"


def test_one_that_goes_on_cannot_be_gone_on_from_and_can_be_cancelled(served: Served) -> None:
    client = served.client()
    begun = client.responses.create(model="slow", input="count", background=True)
    with pytest.raises(openai.BadRequestError, match="in progress"):
        client.responses.create(model="echo", input="x", previous_response_id=begun.id)
    assert client.responses.cancel(begun.id).status == "cancelled"
    assert served.rooms.live["slow"].cancelled.wait(5)  # type: ignore[attr-defined]
    assert client.responses.cancel(begun.id).status == "cancelled"
    assert client.responses.retrieve(begun.id).status == "cancelled"
    whole = client.responses.create(model="echo", input="x")
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(whole.id)


def test_one_that_fails_says_so(served: Served) -> None:
    client = served.client()
    served.rooms.live["torn"] = Broken(ModelError("the engine died", status=429), pieces=2)
    begun = client.responses.create(model="torn", input="x", background=True)
    failed = until(lambda: client.responses.retrieve(begun.id), "failed")
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("rate_limit_exceeded", "the engine died")


def test_a_stream_that_broke_is_read_on_from_where_it_was(served: Served) -> None:
    client = served.client()
    served.rooms.live["slow"].pieces = 20  # type: ignore[attr-defined]
    stream = client.responses.create(model="slow", input="count", background=True, stream=True)
    first = [event for event, _ in zip(stream, range(6), strict=False)]
    stream.close()
    begun = first[0]
    assert begun.type == "response.created"
    rest = list(
        client.responses.retrieve(
            begun.response.id, stream=True, starting_after=first[-1].sequence_number
        )
    )
    assert rest[-1].type == "response.completed"
    numbers = [event.sequence_number for event in [*first, *rest]]
    assert numbers == list(range(len(numbers)))
    said = [e.delta for e in [*first, *rest] if e.type == "response.output_text.delta"]
    assert "".join(said) == "tick " * 20 == rest[-1].response.output_text
    # Later, from what was kept of it.
    kept = list(client.responses.retrieve(begun.response.id, stream=True, starting_after=2))
    assert [e.sequence_number for e in kept] == numbers[3:]
    assert kept[-1] == rest[-1]


def test_the_stream_of_any_response_can_be_told_again(served: Served) -> None:
    client = served.client()
    for model in ("echo", "caller"):
        tools: Any = [{"type": "function", "name": "f", "parameters": {}, "strict": False}]
        made = client.responses.create(model=model, input="good day", tools=tools)
        events = list(client.responses.retrieve(made.id, stream=True))
        assert events[0].type == "response.created"
        assert events[-1].type == "response.completed"
        assert events[-1].response == made
        assert [e.sequence_number for e in events] == list(range(len(events)))
        added = [e.item.id for e in events if e.type == "response.output_item.added"]
        assert added == [item.id for item in made.output]


def test_deleting_one_that_goes_on_ends_it(served: Served) -> None:
    client = served.client()
    begun = client.responses.create(model="slow", input="count", background=True)
    client.responses.delete(begun.id)
    assert served.rooms.live["slow"].cancelled.wait(5)  # type: ignore[attr-defined]
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(begun.id)


def test_a_models_response_fails_when_its_server_ends(tmp_path: Path, rooms: Rooms) -> None:
    with running(tmp_path / "store", rooms) as served:
        begun = served.client().responses.create(model="slow", input="count", background=True)
    with running(tmp_path / "store", rooms) as served:
        failed = served.client().responses.retrieve(begun.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert "server ended" in failed.error.message


APP = """
models: {{slow: {{kind: openai, model: slow, base_url: "{url}/v1", api_key: none}}}}
agents:
  helper: {{kind: tool_loop, model: slow}}
  boss: {{kind: human, choices: [approve, reject]}}
"""


@contextmanager
def whole(folder: Path) -> Iterator[tuple[openai.OpenAI, "subprocess.Popen[str]"]]:
    """The app of the folder behind `kickwheel serve`."""
    program = Path(sys.executable).with_name("kickwheel")
    command = [str(program), "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[0]
            yield openai.OpenAI(base_url=url, api_key="none", max_retries=0), process
        finally:
            process.terminate()


@pytest.mark.slow
def test_an_agents_response_goes_on_after_its_server_was_killed_and_a_models_has_failed(
    tmp_path: Path, rooms: Rooms
) -> None:
    slow = rooms.live["slow"]
    with running(tmp_path / "far", rooms) as far:
        (tmp_path / "app.yml").write_text(APP.format(url=far.url))
        with whole(tmp_path) as (client, process):
            agents, models, boss = (
                client.responses.create(model=name, input="Refund?", background=True).id
                for name in ("helper", "slow", "boss")
            )
            assert client.responses.retrieve(boss).status == "in_progress"
            # A run is in the store soon after it began.
            until_there(lambda: len(client.get("/runs", cast_to=dict)["data"]) == 3)
            process.kill()
        slow.pieces = 2  # type: ignore[attr-defined]
        with whole(tmp_path) as (client, _):
            done = until(lambda: client.responses.retrieve(agents), "completed", 20)
            assert done.output_text == "tick tick "
            events = list(client.responses.retrieve(agents, stream=True, starting_after=900))
            assert [e.type for e in events] == ["response.completed"]
            assert until(lambda: client.responses.retrieve(models), "failed", 20).error
            assert client.responses.retrieve(boss).status == "in_progress"
            with client.responses.retrieve(boss, stream=True) as told:
                assert next(iter(told)).type == "response.created"
            client.post(
                f"/runs/{boss.removeprefix('resp_')}/answer",
                body={"answer": "approve"},
                cast_to=object,
            )
            said = until(lambda: client.responses.retrieve(boss), "completed")
            assert said.output_text == "approve"


def until_there(true: Callable[[], bool], within_s: float = 10) -> None:
    ends = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)
