"""/v1/runs, over HTTP with the real openai client for the questions."""

import asyncio
import http.client
import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

APP = """
tools:
  t: {kind: python, functions: ["counting:count"]}
agents:
  boss: {kind: human, choices: [approve, reject]}
  counter: {kind: graph, nodes: {n: {tool: t}}, edges: [{to: n}]}
"""
COUNTING = """
from pathlib import Path

HERE = Path(__file__).parent

def count() -> str:
    n = 0
    try:
        (HERE / "begun").touch()
        while True:
            n += 1
    finally:
        (HERE / "over").touch()
"""
KEY = "a-key-of-the-tests"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("KICKWHEEL_API_KEY", KEY)
    (tmp_path / "app.yml").write_text(APP)
    (tmp_path / "counting.py").write_text(COUNTING)
    program = Path(sys.executable).with_name("kickwheel")
    command = [str(program), "serve", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0]
        finally:
            process.terminate()


def call(url: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def ask(url: str, key: str) -> str | None:
    client = openai.OpenAI(base_url=url, api_key=KEY)
    answer = client.chat.completions.create(
        model="boss",
        messages=[{"role": "user", "content": "Refund 400 EUR?"}],
        extra_headers={"Idempotency-Key": key},
    )
    return answer.choices[0].message.content


async def test_a_question_to_a_person_is_answered_over_http_and_asked_only_once(url: str) -> None:
    for _ in range(2):
        with pytest.raises(openai.InternalServerError, match="waits for a person") as caught:
            await asyncio.to_thread(ask, url, "refund-1")
        assert caught.value.status_code == 504
        assert caught.value.code == "waiting_for_person"
    _, listed = call(f"{url}/runs")
    (run,) = listed["data"]
    assert caught.value.response.headers["x-run-id"] == run["id"]
    assert (run["status"], run["questions"][0]["text"]) == ("waiting", "Refund 400 EUR?")
    status, refused = call(f"{url}/runs/{run['id']}/answer", {"answer": "perhaps"})
    assert (status, "approve, reject" in refused["error"]["message"]) == (400, True)
    status, answered = call(f"{url}/runs/{run['id']}/answer", {"answer": "approve"})
    assert (status, answered["status"] == "waiting") == (200, False)
    assert await asyncio.to_thread(ask, url, "refund-1") == "approve"
    assert call(f"{url}/runs/{run['id']}")[1]["answer"] == "approve"


def test_a_run_is_cancelled_once(url: str) -> None:
    with pytest.raises(openai.InternalServerError):
        ask(url, "refund-2")
    run = call(f"{url}/runs")[1]["data"][0]["id"]
    assert call(f"{url}/runs/{run}/cancel", {})[1]["status"] == "cancelled"
    assert call(f"{url}/runs/{run}/cancel", {})[0] == 409
    status, refused = call(f"{url}/runs/nobody")
    assert (status, refused["error"]["code"]) == (404, "run_not_found")
    assert "GET /v1/runs lists them" in refused["error"]["message"]
    assert call(f"{url}/runs?limit=0")[0] == 400


def test_a_function_ends_when_its_client_hangs_up(url: str, tmp_path: Path) -> None:
    server = urllib.parse.urlsplit(url)
    client = http.client.HTTPConnection(server.netloc)
    asked = {"model": "counter", "messages": [{"role": "user", "content": "Count."}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    client.request("POST", f"{server.path}/chat/completions", json.dumps(asked), headers)
    appears(tmp_path / "begun")
    client.close()
    appears(tmp_path / "over")


def appears(file: Path, within_s: float = 60.0) -> None:
    until = time.monotonic() + within_s
    while not file.exists():
        assert time.monotonic() < until, f"{file.name} never came"
        time.sleep(0.02)


def test_runs_of_others_are_not_there(url: str, tmp_path: Path) -> None:
    with pytest.raises(openai.InternalServerError):
        ask(url, "refund-3")
    from kickwheel.core.store import open_store

    run = call(f"{url}/runs")[1]["data"][0]["id"]
    with open_store(tmp_path / ".kickwheel") as store:
        store.database.write(lambda c: c.execute("UPDATE run SET asker = 'key-other'"))
    assert call(f"{url}/runs")[1]["data"] == []
    assert call(f"{url}/runs/{run}")[0] == 404
    assert call(f"{url}/runs/{run}/answer", {"answer": "approve"})[0] == 404
