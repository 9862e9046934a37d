import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from kickwheel.serve.server import FILE_BYTES
from kickwheel.serve.worker import Runner
from tests.serve.a2a.served import serving
from tests.serve.conftest import Rooms, Served, an_example, lines, running

ROOT = Path(__file__).parents[2]
GOOD = lines(*(an_example(n) for n in range(12)))
Start = Callable[..., Served]


@pytest.fixture
def start(tmp_path: Path, rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a server whose jobs are done by a function of `runners`; again on the same store."""
    monkeypatch.syspath_prepend(str(ROOT))
    rooms.made = tmp_path / "made"
    rooms.made.mkdir()
    open_now: list[Any] = []

    def stop() -> None:
        while open_now:
            open_now.pop().__exit__(None, None, None)

    def begin(name: str = "quick", **options: Any) -> Served:
        stop()
        runner = Runner(f"tests.serve.runners:{name}", {"made": str(rooms.made)})
        context = running(tmp_path / "store", rooms, runner=runner, **options)
        served = context.__enter__()
        open_now.append(context)
        return served

    yield begin
    stop()


def create(served: Served, content: bytes = GOOD, **options: Any) -> FineTuningJob:
    client = served.client()
    file = client.files.create(file=("chats.jsonl", content), purpose="fine-tune")
    return client.fine_tuning.jobs.create(model="base", training_file=file.id, **options)


def wait(served: Served, job: FineTuningJob, *statuses: str) -> FineTuningJob:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = served.client().fine_tuning.jobs.retrieve(job.id)
        if now.status in (statuses or ("succeeded", "failed", "cancelled")):
            return now
        time.sleep(0.05)
    raise AssertionError(f"the job is still {now.status}")


def messages(served: Served, job: FineTuningJob) -> list[str]:
    """What was told, oldest first."""
    return [e.message for e in served.client().fine_tuning.jobs.list_events(job.id)][::-1]


def test_three_lines_take_a_user_to_a_model_of_their_own(start: Start) -> None:
    client = start().client()
    file = client.files.create(file=("chats.jsonl", GOOD), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="base",
        training_file=file.id,
        suffix="mine",
        seed=5,
        hyperparameters={"n_epochs": 3, "batch_size": "auto"},
        metadata={"who": "me"},
        extra_body={"training_type": "lora"},
    )
    assert job.status in ("validating_files", "queued", "running")
    deadline = time.monotonic() + 60
    while job.status != "succeeded" and time.monotonic() < deadline:
        job = client.fine_tuning.jobs.retrieve(job.id)
        time.sleep(0.05)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model == f"ft:base:mine:{job.id.removeprefix('ftjob-')[:8]}"
    assert (job.trained_tokens, job.seed, job.metadata) == (7, 5, {"who": "me"})
    assert job.hyperparameters.n_epochs == 3
    assert job.hyperparameters.batch_size == "auto"
    assert job.training_file == file.id
    assert job.finished_at is not None
    answer = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": "hello"}]
    )
    assert answer.choices[0].message.content == "hello"
    assert job.fine_tuned_model in {model.id for model in client.models.list()}


def test_events_carry_progress_and_checkpoints_are_listed(start: Start) -> None:
    served = start()
    job = wait(served, create(served, method={"type": "supervised"}))
    events = list(served.client().fine_tuning.jobs.list_events(job.id))
    (metrics,) = [event for event in events if event.type == "metrics"]
    assert metrics.message == "Step 1/2"
    assert metrics.data == {
        "step": 1,
        "total_steps": 2,
        "train_loss": 0.5,
        "seconds_left": 60,
        "trained_tokens": 7,
    }
    assert "12 lines, None epochs, seed 0" in [event.message for event in events]
    paged = served.client().fine_tuning.jobs.list_events(job.id, limit=2)
    assert [e.id for e in paged] == [e.id for e in events]
    (checkpoint,) = served.client().fine_tuning.jobs.checkpoints.list(job.id)
    assert checkpoint.step_number == 1
    assert checkpoint.metrics.valid_loss == 0.4
    assert checkpoint.fine_tuning_job_id == job.id


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"training_type": "lora"},
        {"training_type": "sft", "finetuning_type": "lora"},
        {"hyperparameters": {"training_type": "sft", "finetuning_type": "lora", "epochs": 2}},
        {"hyperparameters": {"lora": {"adapter_dim": 8}, "learning_rate": 0.001}},
        {"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1}}}},
    ],
)
def test_each_way_to_ask_for_lora_is_understood(start: Start, extra: dict[str, Any]) -> None:
    served = start()
    job = create(served, extra_body=extra)
    assert job.model_extra is not None
    assert job.model_extra["training_type"] == "lora"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"training_type": "dpo"}, 'no training_type "dpo" here; allowed is "lora", or "sft"'),
        ({"training_type": "sft"}, 'needs finetuning_type "lora"'),
        ({"training_type": "sft", "finetuning_type": "all_weights"}, "no finetuning_type"),
        ({"method": {"type": "dpo"}}, 'no method "dpo" here; allowed is "supervised"'),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"epoch": 2}}, "hyperparameters.epoch: no such field"),
        ({"model": "bse"}, '"bse" cannot be tuned here. Did you mean "base"'),
        ({"model": "echo"}, '"echo" cannot be tuned here'),
        ({"training_file": "file-x"}, 'no file "file-x" here'),
        ({"suffix": "a/b"}, "only letters, digits"),
        ({"tranining_type": "lora"}, "tranining_type: no such field"),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_what_is_allowed(
    start: Start, body: dict[str, Any], told: str
) -> None:
    client = start().client()
    file = client.files.create(file=("chats.jsonl", GOOD), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError) as raised:
        client.post(
            "/fine_tuning/jobs",
            body={"model": "base", "training_file": file.id, **body},
            cast_to=object,
        )
    assert told in raised.value.message
    assert client.fine_tuning.jobs.list().data == []


def test_where_nothing_can_be_tuned_the_line_that_the_app_lacks_is_told(tmp_path: Path) -> None:
    app = "models: {big: {kind: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}}\n"
    with serving(tmp_path, app) as server:
        asked = {"model": "smollm2-135m", "training_file": "file-x"}
        status, told = server.call("/v1/fine_tuning/jobs", asked)
    assert status == 400
    assert "`models: {base: {kind: local}}`" in told["error"]["message"]


def test_a_training_file_with_one_example_fails_the_job_with_what_to_do(start: Start) -> None:
    served = start()
    job = wait(served, create(served, lines(an_example(1))))
    assert job.status == "failed"
    assert job.error is not None
    assert "has 1 example; tuning needs at least 10. Add more lines." in job.error.message
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert messages(served, job)[-1] == job.error.message


def test_every_bad_line_is_named(start: Start) -> None:
    served = start()
    long: Any = an_example(3)
    long["messages"][-1]["content"] = "word " * 50
    content = GOOD + b"{\n" + lines(long, {"prompt": "x"}) + GOOD
    job = wait(served, create(served, content))
    assert job.error is not None
    told = job.error.message.splitlines()
    assert "3 of 27 lines cannot be used" in told[0]
    assert [line.split(": ")[0].partition(":")[2] for line in told[1:]] == ["13", "14", "15"]
    assert "has 50 words, but the model's context is 50 tokens" in told[2]


@pytest.mark.parametrize(
    ("runner", "told"),
    [
        ("too_long", "training.jsonl:3: the answer has 9000 tokens; the context is 8192"),
        ("broken", "ZeroDivisionError: division by zero"),
        ("killed", "it was killed, perhaps for want of memory"),
        ("lost", "The model was tuned but does not open"),
        ("nowhere", "AttributeError"),
    ],
)
def test_a_job_that_fails_says_why(start: Start, runner: str, told: str) -> None:
    served = start(runner)
    job = wait(served, create(served))
    assert job.status == "failed"
    assert job.error is not None
    assert told in job.error.message
    assert job.fine_tuned_model is None
    # The next job is none the worse for it.
    assert wait(served, create(served)).status == "failed"


def test_what_a_job_prints_is_its_log(start: Start, tmp_path: Path) -> None:
    served = start()
    job = wait(served, create(served))
    log = tmp_path / "store" / "jobs" / job.id / "log.txt"
    assert log.read_text() == "a library prints to standard output\n"


def test_jobs_run_one_at_a_time_in_their_order(start: Start) -> None:
    served = start("patient")
    first, second = create(served), create(served)
    wait(served, first, "running")
    assert served.client().fine_tuning.jobs.retrieve(second.id).status == "validating_files"
    one, two = wait(served, first), wait(served, second)
    assert (one.status, two.status) == ("succeeded", "succeeded")
    assert [job.id for job in served.client().fine_tuning.jobs.list()] == [second.id, first.id]
    page = served.client().fine_tuning.jobs.list(limit=1)
    assert (page.data[0].id, page.has_more) == (second.id, True)


def test_a_cancelled_job_ends_at_once_and_its_process_with_it(start: Start) -> None:
    served = start("patient")
    job = create(served)
    process = _process(served, job)
    cancelled = served.client().fine_tuning.jobs.cancel(job.id)
    assert (cancelled.status, cancelled.fine_tuned_model) == ("cancelled", None)
    _gone(process)
    assert wait(served, job).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="cancelled already"):
        served.client().fine_tuning.jobs.cancel(job.id)


def test_a_paused_job_goes_on_where_it_stopped(start: Start) -> None:
    served = start("patient")
    jobs = served.client().fine_tuning.jobs
    job = create(served)
    _process(served, job)
    assert jobs.pause(job.id).status == "paused"  # type: ignore[comparison-overlap]
    time.sleep(0.3)
    assert jobs.retrieve(job.id).status == "paused"  # type: ignore[comparison-overlap]
    jobs.resume(job.id)
    assert wait(served, job).status == "succeeded"
    starts = [m for m in messages(served, job) if m.startswith("starts at step")]
    assert len(starts) == 2
    assert not starts[1].startswith("starts at step 0")
    assert [m for m in messages(served, job) if m == "step 19"] == ["step 19"]
    with pytest.raises(openai.BadRequestError, match="Only a paused job"):
        jobs.resume(job.id)


def test_a_job_survives_a_restart_of_the_server(start: Start) -> None:
    served = start("patient")
    job, after = create(served), create(served)
    process = _process(served, job)
    served = start("patient")
    _gone(process)
    assert wait(served, job).status == "succeeded"
    starts = [m for m in messages(served, job) if m.startswith("starts at step")]
    assert len(starts) == 2
    assert not starts[1].startswith("starts at step 0")
    assert wait(served, after).status == "succeeded"


def test_a_jobs_process_dies_with_its_server(tmp_path: Path, rooms: Rooms) -> None:
    rooms.made = tmp_path
    code = f"""
import os, sys, time
from pathlib import Path
from tests.serve.a2a.served import serving
from tests.serve.conftest import Rooms, Echo, ModelCard, running
from tests.serve.test_jobs import create, _process
from kickwheel.serve.worker import Runner
rooms = Rooms(live={{"base": Echo()}}, cards={{"base": ModelCard(id="base", tunable=True)}})
rooms.made = Path({str(tmp_path)!r})
runner = Runner("tests.serve.runners:patient", {{"made": {str(tmp_path)!r}}})
with running(rooms.made / "store", rooms, runner=runner) as served:
    print(_process(served, create(served)), flush=True)
    os.kill(os.getpid(), 9)
"""
    server = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert server.returncode == -9, server.stderr
    _gone(int(server.stdout))


def test_two_servers_on_one_store_do_not_work_on_the_same_job(
    start: Start, tmp_path: Path, rooms: Rooms
) -> None:
    start("patient")
    runner = Runner("tests.serve.runners:broken", {"made": str(rooms.made)})
    with running(tmp_path / "store", rooms, runner=runner) as other:
        job, stopped = create(other), create(other)
        assert wait(other, job).status == "succeeded"
        process = _process(other, stopped)
        other.client().fine_tuning.jobs.cancel(stopped.id)
        _gone(process)


def test_files_are_brought_listed_read_and_deleted(start: Start) -> None:
    client = start().client()
    file = client.files.create(file=("../chats.jsonl", GOOD), purpose="fine-tune")
    assert (file.bytes, file.purpose, file.status) == (len(GOOD), "fine-tune", "processed")
    other = client.files.create(file=("b.jsonl", GOOD + b"{}"), purpose="fine-tune")
    assert [f.id for f in client.files.list()] == [other.id, file.id]
    assert [f.id for f in client.files.list(order="asc", limit=1)] == [file.id, other.id]
    assert client.files.list(purpose="batch").data == []
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == GOOD
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError, match="no file"):
        client.files.content(file.id)
    with pytest.raises(openai.NotFoundError, match="no file"):
        client.files.delete(file.id)


def test_a_deleted_file_takes_no_job_with_it(start: Start) -> None:
    served = start("patient")
    running_now, job = create(served), create(served)
    served.client().files.delete(job.training_file)
    assert wait(served, running_now).status == "succeeded"
    assert wait(served, job).status == "succeeded"


def test_what_is_no_training_file_is_refused_at_the_door(start: Start) -> None:
    client = start(file_bytes=50_000).client()
    with pytest.raises(openai.BadRequestError, match="purpose must be fine-tune"):
        client.files.create(file=("a", b"x"), purpose="vision")
    with pytest.raises(openai.BadRequestError, match="the file is empty"):
        client.files.create(file=("a", b""), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match=r"notes\.jsonl:1: not JSON") as refused:
        client.files.create(file=("notes.jsonl", b"a note\n\n" * 9), purpose="fine-tune")
    assert "notes.jsonl:9: not JSON" in refused.value.message
    assert refused.value.message.endswith("and 4 more")
    with pytest.raises(openai.BadRequestError, match="one JSON array"):
        client.files.create(file=("chats.json", b'[{"messages": []}]'), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="is empty"):
        client.files.create(file=("a.jsonl", b"\n\n"), purpose="fine-tune")
    assert client.files.list().data == []
    with pytest.raises(openai.BadRequestError, match="multipart"):
        client.post("/files", body={"purpose": "fine-tune"}, cast_to=object)
    with pytest.raises(openai.APIStatusError, match="larger than 50000 bytes") as raised:
        client.files.create(file=("a", b"x" * 60_000), purpose="fine-tune")
    assert raised.value.status_code == 413
    with pytest.raises(openai.BadRequestError, match="limit must be"):
        client.files.list(limit=0)
    with pytest.raises(openai.BadRequestError, match="nothing here has the id"):
        client.files.list(after="file-x")
    assert FILE_BYTES > 100_000_000


def test_a_full_disk_keeps_no_half_of_a_file(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start().client()

    def full(source: Any, target: Any, size: int) -> None:
        target.write(source.read(3))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("kickwheel.serve.files.shutil.copyfileobj", full)
        with pytest.raises(openai.InternalServerError, match="the disk is full") as raised:
            client.files.create(file=("a.jsonl", GOOD), purpose="fine-tune")
    assert raised.value.status_code == 503
    assert client.files.list().data == []
    assert list((tmp_path / "store" / "files").iterdir()) == []
    assert client.files.create(file=("a.jsonl", GOOD), purpose="fine-tune").bytes == len(GOOD)


def test_an_unknown_job_is_404(start: Start) -> None:
    jobs = start().client().fine_tuning.jobs
    for ask in (jobs.retrieve, jobs.cancel, jobs.list_events, jobs.checkpoints.list, jobs.resume):
        with pytest.raises(openai.NotFoundError, match="no fine-tuning job"):
            ask("ftjob-x")  # type: ignore[operator]


def test_without_a_runner_a_job_says_that_it_cannot_be_done(served: Served) -> None:
    job = wait(served, create(served))
    assert job.error is not None
    assert "started without a way to tune" in job.error.message


def _process(served: Served, job: FineTuningJob) -> int:
    """The process that works on the job, once it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for message in messages(served, job):
            if message.startswith("starts at step"):
                return int(message.split()[-1])
        time.sleep(0.05)
    raise AssertionError("the job does not start")


def _gone(process: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(process, 9)
    raise AssertionError("the job's process still runs")
