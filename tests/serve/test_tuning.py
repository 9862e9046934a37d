"""The three lines for real: the small base, its engine and tuning, the server as it is started."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from tests.support_tickets import LABELS, SYSTEM, tickets

pytestmark = pytest.mark.slow(minutes=2)

APP = """
models:
  desk: {kind: local, base: smollm2-135m, context: 1024}
"""


@contextmanager
def kickwheel_serve(folder: Path, end: signal.Signals = signal.SIGTERM) -> Iterator[OpenAI]:
    """The server as a user starts it, and the official client."""
    server = subprocess.Popen(
        [sys.executable, "-m", "kickwheel.cli", "serve", str(folder / "app.yml"), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[0]
        yield OpenAI(base_url=url, api_key="none", max_retries=0)
    finally:
        server.send_signal(end)
        assert server.wait(60) == (0 if end == signal.SIGTERM else -end)


def test_three_lines_tune_the_base_and_a_killed_server_goes_on(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(APP)
    lines = tickets(160)
    content = "".join(f"{json.dumps(line)}\n" for line in lines[:120]).encode()
    with kickwheel_serve(tmp_path, signal.SIGKILL) as client:
        assert {model.id for model in client.models.list()} == {"desk", "smollm2-135m"}
        file = client.files.create(file=("tickets.jsonl", content), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(
            model="smollm2-135m",
            training_file=file.id,
            suffix="desk",
            hyperparameters={"n_epochs": 2},
            extra_body={"training_type": "lora"},
        )
        _wait(client, job, lambda told: told.startswith("Step "))
    with kickwheel_serve(tmp_path) as client:
        done = _wait(client, job)
        assert done.status == "succeeded", done.error
        assert done.fine_tuned_model is not None
        # 120 short tickets, twice.
        assert done.trained_tokens is not None
        assert 120 * 2 * 10 < done.trained_tokens < 120 * 2 * 200
        right = 0
        for line in lines[120:]:
            question, label = line["messages"][1]["content"], line["messages"][2]["content"]  # type: ignore[index]
            answer = client.chat.completions.create(
                model=done.fine_tuned_model,
                messages=[
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": question},
                ],
                temperature=0,
                max_tokens=8,
            )
            assert answer.usage is not None
            assert answer.usage.completion_tokens > 0
            right += answer.choices[0].message.content == label
        # Of four labels one in four is right by chance: 10 of 40.
        assert right >= 25, f"{right} of 40 tickets sorted into {LABELS}"
        assert done.fine_tuned_model in {model.id for model in client.models.list()}
        checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
        assert checkpoints[0].metrics.valid_loss is not None
    with kickwheel_serve(tmp_path) as client:
        hello = client.chat.completions.create(
            model=done.fine_tuned_model, messages=[{"role": "user", "content": "no invoice came"}]
        )
        assert hello.choices[0].message.content


def _wait(client: OpenAI, job: FineTuningJob, until: object = None) -> FineTuningJob:
    """The job once it has ended, or once an event is told that `until` likes."""
    deadline = time.monotonic() + 1800
    while time.monotonic() < deadline:
        now = client.fine_tuning.jobs.retrieve(job.id)
        if now.status in ("succeeded", "failed", "cancelled"):
            return now
        told = [e.message for e in client.fine_tuning.jobs.list_events(job.id, limit=100).data]
        if callable(until) and any(until(message) for message in told):
            return now
        time.sleep(0.5)
    raise AssertionError("the job does not end")
