"""/v1/customization/jobs in the three shapes of a job."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from kickwheel.core.store import open_store
from kickwheel.serve.job import Jobs, JobSpec
from tests.serve.conftest import Served
from tests.serve.test_jobs import GOOD, Start, start

__all__ = ["start"]

JOBS = "/v1/customization/jobs"
OF_2025 = {
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
HELIX = {
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


@pytest.mark.parametrize("asked", [OF_2025, OF_2026, HELIX])
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


def test_jobs_of_both_doors_are_listed_and_cancelled(start: Start) -> None:
    served = start("patient")
    file = upload(served)
    asked = {**OF_2025, "dataset": file}
    first = call(served, JOBS, asked)[1]["id"]
    second = served.client().fine_tuning.jobs.create(model="base", training_file=file).id
    _, listed = call(served, f"{JOBS}?page_size=1")
    assert [job["id"] for job in listed["data"]] == [second]
    assert listed["pagination"]["total_results"] == 2
    status, ended = call(served, f"{JOBS}/{second}/cancel", {})
    assert (status, ended["status"]) == (200, "cancelled")
    assert call(served, f"{JOBS}/{second}/cancel", {})[0] == 409
    assert call(served, f"{JOBS}/{first}/cancel", {})[1]["status"] == "cancelled"
    assert call(served, f"{JOBS}/nobody")[0] == 404
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
    whole = {"spec": {"model": "base", "dataset": "chats", "training": {"type": "sft"}}}
    status, told = call(served, JOBS, whole)
    assert (status, "all weights" in told["error"]["message"]) == (400, True)
    assert call(served, JOBS, [])[0] == 400
