"""/v1/runs, over HTTP with the real openai client for the questions."""

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

APP = """
agents: {boss: {kind: human, choices: [approve, reject]}}
"""
KEY = "a-key-of-the-tests"


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("KICKWHEEL_API_KEY", KEY)
    (tmp_path / "app.yml").write_text(APP)
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
    _, listed = call(f"{url}/runs")
    (run,) = listed["data"]
    assert (run["status"], run["questions"][0]["text"]) == ("waiting", "Refund 400 EUR?")
    status, refused = call(f"{url}/runs/{run['id']}/answer", {"answer": "perhaps"})
    assert (status, "approve, reject" in refused["error"]["message"]) == (400, True)
    status, _ = call(f"{url}/runs/{run['id']}/answer", {"answer": "approve"})
    assert status == 200
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
