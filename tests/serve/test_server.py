import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest

from kickwheel.core.errors import UsageError
from tests.serve.conftest import Rooms, Served, running

QUESTION: Any = [{"role": "user", "content": "say it again"}]
ROOT = Path(__file__).parents[2]


def test_a_busy_port_is_told(tmp_path: Path, rooms: Rooms) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(UsageError, match=rf"port {port} on 127\.0\.0\.1 is busy\. .*--port"),
            running(tmp_path, rooms, port=port),
        ):
            pass


def test_an_address_that_is_not_ours_is_told(tmp_path: Path, rooms: Rooms) -> None:
    with (
        pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1"),
        running(tmp_path, rooms, host="192.0.2.1", keys=["k"]),
    ):
        pass


def test_a_body_that_is_too_large_is_refused(tmp_path: Path, rooms: Rooms) -> None:
    with running(tmp_path, rooms, body_bytes=10_000) as served:
        with pytest.raises(openai.APIStatusError, match="larger than 10000 bytes") as raised:
            served.client().chat.completions.create(
                model="echo", messages=[{"role": "user", "content": "x" * 20_000}]
            )
        assert raised.value.status_code == 413
        # In pieces, without a length that would say so beforehand.
        for path in ("/v1/chat/completions", "/v1/fine_tuning/jobs"):
            answer = httpx2.post(served.url + path, content=(b"x" * 5000 for _ in range(5)))
            assert answer.status_code == 413
        assert served.client().chat.completions.create(model="echo", messages=QUESTION).choices


def test_what_is_not_there_is_told_in_openais_shape(served: Served) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/models", 405),
        ("GET", "/v1/health/live/", 404),
    ):
        answer = httpx2.request(method, served.url + path)
        assert answer.status_code == status, path
        assert answer.json()["error"]["type"] == "invalid_request_error"
        assert answer.headers["x-request-id"]
    for path in ("/chat/completions", "/responses"):
        told = httpx2.post(served.url + path).json()["error"]["message"]
        assert told.endswith("The base URL of clients ends with /v1")


def test_stopping_lets_a_running_stream_end(tmp_path: Path, rooms: Rooms) -> None:
    slow: Any = rooms.live["slow"]
    slow.pieces = 25
    with running(tmp_path, rooms) as served:
        stream = served.client().chat.completions.create(
            model="slow", messages=QUESTION, stream=True
        )
        said = [next(iter(stream)).choices[0].delta.content]
        stopper = threading.Timer(0.05, served.stop)
        stopper.start()
        said += [chunk.choices[0].delta.content for chunk in stream]
    assert said[:25] == ["tick "] * 25
    assert not slow.cancelled.is_set()


def test_many_clients_are_served_at_once(served: Served) -> None:
    answers: list[str | None] = []

    def ask(number: int) -> None:
        client = served.client()
        for turn in range(5):
            text = f"{number} and {turn}"
            messages: Any = [{"role": "user", "content": text}]
            if turn % 2:
                stream = client.chat.completions.create(
                    model="echo", messages=messages, stream=True
                )
                said = "".join(c.choices[0].delta.content or "" for c in stream)
            else:
                answer = client.chat.completions.create(model="agent", messages=messages)
                said = answer.choices[0].message.content or ""
            answers.append(said if said == text else None)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 40
    assert None not in answers
    served.recorder.flush()
    assert served.traces.count() == 40
    assert served.recorder.lost == 0


def test_a_client_that_leaves_in_the_middle_of_its_request_harms_nobody(served: Served) -> None:
    parts = urlsplit(served.url)
    for _ in range(3):
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        connection.putrequest("POST", "/v1/chat/completions")
        connection.putheader("content-length", "1000")
        connection.endheaders()
        connection.send(b'{"model":')
        connection.close()
    assert served.client().chat.completions.create(model="echo", messages=QUESTION).choices


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_server_and_what_is_around_it_closes(
    tmp_path: Path, number: signal.Signals
) -> None:
    code = f"""
import asyncio
from pathlib import Path
from kickwheel.core.store import open_store
from kickwheel.serve.server import Front, serve
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces
from tests.serve.conftest import Echo, Rooms
async def main():
    with open_store(Path({str(tmp_path)!r})) as store, Recorder(Traces(store)) as recorder:
        front = Front(Rooms(live={{"echo": Echo()}}), store, Traces(store), recorder)
        try:
            await serve(front, "127.0.0.1", 0, on_ready=lambda url: print(url, flush=True))
        finally:
            print("closed", flush=True)
asyncio.run(main())
print("ended", flush=True)
"""
    server = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    body = {"model": "echo", "messages": QUESTION}
    assert httpx2.post(url + "/v1/chat/completions", json=body).status_code == 200
    os.kill(server.pid, number)
    assert server.stdout.read().split() == ["closed", "ended"]
    assert server.wait(10) == 0


def test_health_and_contracts_answer_as_a_nims_do(served: Served, rooms: Rooms) -> None:
    def get(path: str) -> tuple[int, Any]:
        answer = httpx2.get(served.url + path)
        return answer.status_code, answer.json()

    assert get("/v1/health/live")[0] == 200
    assert get("/v1/health/ready") == (
        200,
        {"object": "health.response", "message": "Service is ready.", "status": "ready"},
    )
    status, version = get("/v1/version")
    assert (status, set(version)) == (200, {"release", "api"})
    status, metadata = get("/v1/metadata")
    assert status == 200
    assert metadata["version"] == version["release"]
    assert {"modelUrl": "echo", "shortName": "echo"} in metadata["modelInfo"]
    rooms.missing = "The engine is starting."
    assert get("/v1/health/live")[0] == 200
    assert get("/v1/health/ready")[0] == 503
    assert get("/v1/health/ready")[1]["message"] == "The engine is starting."
