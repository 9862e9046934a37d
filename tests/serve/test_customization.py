"""/v1/customization/jobs: by NeMo's own client, and by hand in the shapes that it does not send."""

import json
import re
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import nemo_microservices as nemo
import pytest

from kickwheel.core.store import open_store
from kickwheel.serve.job import Jobs, JobSpec
from tests.serve.conftest import Served
from tests.serve.test_jobs import GOOD, Start, start

__all__ = ["start"]

JOBS = "/v1/customization/jobs"
PAGE = Path(__file__).parents[2] / "docs" / "nim.md"
OF_2025: dict[str, Any] = {
    "config": "base@v1.0.0+cpu",
    "dataset": {"name": "chats", "namespace": "default"},
    "output_model": "default/mine@v1",
    "hyperparameters": {
        "training_type": "sft",
        "finetuning_type": "lora",
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.001,
        "lora": {"adapter_dim": 32, "alpha": 16, "adapter_dropout": 0.0},
    },
}
OF_2026 = {
    "spec": {
        "model": "base",
        "dataset": "chats",
        "training": {
            "type": "sft",
            "peft": {"type": "lora", "rank": 32, "alpha": 16},
            "epochs": 3,
            "batch_size": 8,
            "learning_rate": 0.001,
        },
    },
    "name": "mine",
}
HELIX: dict[str, Any] = {
    "spec": {
        "model": "base",
        "dataset": "default/chats.jsonl",
        "training": {
            "training_type": "sft",
            "finetuning_type": "lora",
            "lora": {"rank": 32, "alpha": 16},
        },
        "schedule": {"epochs": 3},
        "batch": {"size": 8},
        "optimizer": {"learning_rate": 0.001},
        "output": {"name": "mine"},
    }
}


def call(served: Served, path: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(served.url + path, data, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def upload(served: Served) -> str:
    return served.client().files.create(file=("chats.jsonl", GOOD), purpose="fine-tune").id


def wait(served: Served, job: str) -> Any:
    for _ in range(600):
        _, now = call(served, f"{JOBS}/{job}")
        if now["status"] in ("completed", "failed", "cancelled"):
            return now
        time.sleep(0.05)
    raise AssertionError(f"still {now['status']}")


def spec(served: Served, job: str) -> JobSpec:
    with open_store(served.store.folder) as store:
        return Jobs(store).get(job).spec


SHORT = {**OF_2025, "hyperparameters": {**OF_2025["hyperparameters"], "training_type": "lora"}}
SHORTER = {
    "spec": {**HELIX["spec"], "training": {"type": "lora", "lora": {"rank": 32, "alpha": 16}}}
}


@pytest.mark.parametrize("asked", [OF_2025, OF_2026, HELIX, SHORT, SHORTER])
def test_each_shape_makes_the_same_job(start: Start, asked: Any) -> None:
    served = start()
    file = upload(served)
    status, job = call(served, JOBS, asked)
    assert status == 201, job
    made = spec(served, job["id"])
    assert (made.model, made.epochs, made.batch_size, made.learning_rate) == ("base", 3, 8, 0.001)
    assert (made.rank, made.alpha) == (32, 16)
    assert job["output_model"].startswith("ft:base:mine:")
    assert job["dataset"]["name"] == file
    done = wait(served, job["id"])
    assert done["status"] == "completed"
    _, far = call(served, f"{JOBS}/{job['id']}/status")
    assert (far["status"], far["percentage_done"]) == ("completed", 100.0)
    assert far["metrics"]["metrics"]["train_loss"][0]["value"] == 0.5
    other = served.client().fine_tuning.jobs.retrieve(job["id"])
    assert (other.status, other.fine_tuned_model) == ("succeeded", done["output_model"])
    said = served.client().chat.completions.create(
        model=done["output_model"], messages=[{"role": "user", "content": "hi"}]
    )
    assert said.choices[0].message.content == "hi"


def nvidias(served: Served) -> nemo.NeMoMicroservices:
    return nemo.NeMoMicroservices(base_url=served.url, inference_base_url=served.url, max_retries=0)


def test_nvidias_client_makes_a_job_and_reads_how_it_went(start: Start) -> None:
    served = start()
    upload(served)
    jobs = nvidias(served).customization.jobs
    made = jobs.create(**OF_2025)
    assert (made.config, made.hyperparameters.finetuning_type) == ("base", "lora")
    assert made.id is not None
    wait(served, made.id)
    job, far = jobs.retrieve(made.id), jobs.status(made.id)
    assert (job.status, job.status_details) == ("completed", far)
    assert (far.status, far.percentage_done, far.steps_completed) == ("completed", 100.0, 1)
    assert far.updated_at >= far.created_at
    assert far.metrics is not None
    assert far.metrics.metrics is not None
    assert [one.value for one in far.metrics.metrics.train_loss or ()] == [0.5]
    said = [log.message or "" for log in far.status_logs or ()]
    assert said[0].startswith("Created fine-tuning job")
    assert "12 lines, 3 epochs, seed 0" in said
    assert "Step 1/2" not in said
    with pytest.raises(nemo.NotFoundError, match="nobody"):
        jobs.retrieve("nobody")


def test_a_job_that_failed_says_why_to_nvidias_client(start: Start) -> None:
    served = start("too_long")
    upload(served)
    jobs = nvidias(served).customization.jobs
    made = jobs.create(**OF_2025)
    wait(served, made.id or "")
    far = jobs.status(made.id or "")
    assert far.status_logs
    last = far.status_logs[-1]
    assert (far.status, last.message) == ("failed", "failed")
    assert "the answer has 9000 tokens" in (last.detail or "")


def test_what_the_page_shows_tells_of_jobs_at_work(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    served = start("patient")
    made = nvidias(served).customization.jobs.create(**{**OF_2025, "dataset": upload(served)})
    for _ in range(600):
        if call(served, f"{JOBS}/{made.id}")[1]["status"] == "running":
            break
        time.sleep(0.05)
    _, shown = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(shown.replace("http://127.0.0.1:8000", served.url), {})
    assert capsys.readouterr().out.startswith(f"{made.output_model} ")


def test_jobs_of_both_doors_are_listed_and_cancelled(start: Start) -> None:
    served = start("patient")
    file = upload(served)
    jobs = nvidias(served).customization.jobs
    first = jobs.create(**{**OF_2025, "dataset": file}).id or ""
    second = served.client().fine_tuning.jobs.create(model="base", training_file=file).id
    assert [job.id for job in jobs.list(page_size=1)] == [second, first]
    assert [job.id for job in jobs.list(sort="created_at")] == [first, second]
    assert jobs.cancel(second).status == "cancelled"
    with pytest.raises(nemo.ConflictError, match="cancelled already"):
        jobs.cancel(second)
    assert [job.id for job in jobs.list(filter={"status": "cancelled"})] == [second]
    assert list(jobs.list(filter={"base_model": "other"})) == []
    assert jobs.cancel(first).status == "cancelled"
    with pytest.raises(nemo.BadRequestError, match=r"filter\[epochs\]"):
        jobs.list(filter={"epochs": 3})
    assert call(served, f"{JOBS}?page=0")[0] == 400


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"config": None}, "either config"),
        ({"spec": OF_2026["spec"]}, "either config"),
        ({"config": "bass"}, 'Did you mean "base"?'),
        ({"dataset": "chat"}, "upload it at /v1/files"),
        ({"dataset": None}, "which uploaded file"),
        ({"dataset": ""}, "upload it at /v1/files"),
        ({"hyperparameters": {"training_type": "dpo"}}, "hyperparameters.training_type"),
        ({"hyperparameters": {"finetuning_type": "all_weights"}}, "finetuning_type"),
        ({"hyperparameters": {"lora": {"adapter_dropout": 0.1}}}, "no dropout here"),
        ({"hyperparameters": {"warmup_steps": 3}}, "hyperparameters.warmup_steps: no such field"),
        ({"hyperparameters": {"epochs": 0}}, "hyperparameters.epochs"),
    ],
)
def test_what_the_tuning_does_not_do_is_refused_by_name(
    start: Start, change: Any, why: str
) -> None:
    served = start()
    upload(served)
    status, told = call(served, JOBS, {**OF_2025, **change})
    assert (status, why in told["error"]["message"]) == (400, True), told


def test_tuning_of_all_weights_is_refused(start: Start) -> None:
    served = start()
    upload(served)
    for training in ({"type": "sft"}, {"training_type": "sft"}, {}):
        whole = {"spec": {"model": "base", "dataset": "chats", "training": training}}
        status, told = call(served, JOBS, whole)
        assert (status, "all weights" in told["error"]["message"]) == (400, True)
    assert call(served, JOBS, [])[0] == 400
