"""What is forgotten is all of whom it was asked for, and nothing of anybody else."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from a2a.types import Task, TaskPushNotificationConfig
from a2a.types.a2a_pb2 import TaskState

from kickwheel.agents.memory import Ledger, Scope
from kickwheel.agents.memory.fact import Candidate, Turn
from kickwheel.core.journal import KeptRun
from kickwheel.core.store import Store, open_store
from kickwheel.flywheel.forget import Gone, forget
from kickwheel.models.caller import Caller
from kickwheel.models.pictures import keep_as
from kickwheel.records import Feedback, Message, Span, Trace, wire
from kickwheel.serve.a2a.tasks import Kept, Tasks
from kickwheel.serve.files import Files
from kickwheel.serve.responses.kept import KeptResponses
from kickwheel.trace.gathered import Arrival
from kickwheel.trace.store import Traces

ANN = Caller(user="ann", tenant="clinic")
OTHERS = (
    Caller(user="ann", tenant="bank"),
    Caller(user="ann"),
    Caller(user="bob", tenant="clinic"),
    Caller(user="ann%", tenant="clinic"),
)
DAY_NS = 86_400 * 10**9


def word(who: Caller) -> str:
    """A word that stands in all that is theirs."""
    return f"amber{who.tenant}{who.user.encode().hex()}end"


def make(store: Store, number: int, who: Caller) -> None:
    """A thing of each sort, of a person."""
    image = keep_as(store.artifacts, "picture", "p.png", "image/png", word(who).encode())
    manifest = store.artifacts.folder / image.kept.rpartition("/")[0] / "manifest.json"
    os.utime(manifest, (time.time() - 7_200,) * 2)
    said = Message(role="user", content=word(who))
    begun = time.time_ns() - (10 - number) * DAY_NS
    span = Span(
        id="1" * 16,
        kind="agent",
        name="desk",
        start_ns=begun,
        end_ns=begun + 1,
        input=(Message(role="user", content=word(who), images=(image,)),),
    )
    traces = Traces(store)
    whole = Trace(
        id=f"{number:032x}", workload="desk", spans=(span,), tenant=who.tenant, user=who.user
    )
    traces.add([whole])
    traces.feedback(whole.id, Feedback(verdict="bad", note=word(who), time_ns=1))
    coming = Arrival(
        id=f"{number + 100:032x}",
        workload="desk",
        source="otlp",
        spans=(span,),
        tenant=who.tenant,
        user=who.user,
    )
    traces.join([coming])
    run = KeptRun(
        id=f"run{number}",
        agent="desk",
        asked=wire.to_bytes(said),
        tenant=who.tenant,
        asker=who.user,
        state="running",
        owner="",
        created=0.0,
        updated=0.0,
    )
    store.runs.begin(run)
    response = {
        "id": f"resp_{number}",
        "previous_response_id": None,
        "status": "completed",
        "created_at": int(time.time()),
        "output": [word(who)],
    }
    KeptResponses(store).add(response, [{"content": word(who)}], who)
    task = Task(id=f"task{number}", context_id=word(who))
    task.status.state = TaskState.TASK_STATE_WORKING
    tasks = Tasks(store.database)
    tasks.add(Kept("desk", who.tenant, who.user, wire.to_bytes((said,)), task))
    tasks.add_push(TaskPushNotificationConfig(task_id=task.id, id="p", url=f"http://{word(who)}"))
    Files(store).add(io.BytesIO(word(who).encode()), f"{word(who)}.jsonl", "fine-tune", who)
    scope = Scope(tenant=who.tenant, user=who.user)
    turn = Turn(role="user", text=word(who))
    Ledger(store.database).note([Candidate(text=word(who))], [turn], scope)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.yml").write_text("models: {m: {kind: openai, model: x}}\n")
    with open_store(tmp_path / ".kickwheel") as store:
        for number, who in enumerate((ANN, *OTHERS)):
            make(store, number, who)
    return tmp_path


def standing(folder: Path, who: Caller) -> int:
    """In how many files of the store their word stands."""
    files = [path for path in (folder / ".kickwheel").rglob("*") if path.is_file()]
    return sum(word(who).encode() in path.read_bytes() for path in files)


def test_a_person_is_forgotten_wholly_and_nobody_else(folder: Path) -> None:
    before = [standing(folder, who) for who in OTHERS]
    gone = forget(folder, user="ann", tenant="clinic")
    assert gone == Gone(
        traces=2,
        runs=1,
        responses=1,
        tasks=1,
        files=1,
        facts=1,
        pictures=1,
        bytes=gone.bytes,
    )
    assert standing(folder, ANN) == 0
    assert [standing(folder, who) for who in OTHERS] == before
    with open_store(folder / ".kickwheel") as store:
        traces = Traces(store)
        assert traces.count() == 2 * len(OTHERS)
        for number, who in enumerate(OTHERS, 1):
            assert traces.get(f"{number:032x}").feedback[0].note == word(who)
            assert traces.get(f"{number + 100:032x}").spans[0].input[0].content == word(who)
            assert store.runs.named(f"run{number}", who.user, who.tenant).state == "running"
            assert KeptResponses(store).get(f"resp_{number}", who).items
            assert Tasks(store.database).find(f"task{number}", "desk", who)
            assert len(Tasks(store.database).pushes(f"task{number}")) == 1
            assert len(Files(store).all(who.sight)) >= 1
            assert len(Ledger(store.database).of(who.tenant, who.user)) == 1
    assert forget(folder, user="ann", tenant="clinic") == Gone()


def test_a_user_without_a_tenant_is_nobody_of_a_tenant(folder: Path) -> None:
    assert forget(folder, user="ann").traces == 2
    assert standing(folder, Caller(user="ann")) == 0
    assert standing(folder, ANN) > 0


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, ()),
        ({"tenant": "clinic"}, (OTHERS[0], OTHERS[1])),
        ({"tenant": ""}, (ANN, OTHERS[0], OTHERS[2], OTHERS[3])),
        ({"tenant": "clinic", "user": "ann"}, OTHERS),
        ({"user": "ann"}, (ANN, OTHERS[0], OTHERS[2], OTHERS[3])),
    ],
)
def test_old_traces_go_of_those_alone_for_whom_it_was_asked(
    folder: Path, options: dict[str, str], left: tuple[Caller, ...]
) -> None:
    everybody = (ANN, *OTHERS)
    gone = forget(folder, days=1, **options)
    assert gone == Gone(traces=gone.traces, pictures=gone.pictures, bytes=gone.bytes)
    assert gone.traces == 2 * (len(everybody) - len(left))
    with open_store(folder / ".kickwheel") as store:
        found = {(trace.tenant, trace.user) for trace in Traces(store).all()}
        assert found == {(who.tenant, who.user) for who in left}
        assert all(Files(store).all(who.sight) for who in everybody)


def test_on_postgres_a_person_is_forgotten_as_well(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "app.yml").write_text(
        f'models: {{m: {{kind: openai, model: x}}}}\nstore: "{postgres_url}"\n'
    )
    with open_store(tmp_path / ".kickwheel", postgres_url) as store:
        for number, who in enumerate((ANN, *OTHERS)):
            make(store, number, who)
    gone = forget(tmp_path, user="ann", tenant="clinic")
    assert (gone.traces, gone.runs, gone.tasks, gone.facts) == (2, 1, 1, 1)
    with open_store(tmp_path / ".kickwheel", postgres_url) as store:
        assert Traces(store).count() == 2 * len(OTHERS)


def test_the_verb_names_whom_it_forgets_before_it_does(folder: Path) -> None:
    command = [sys.executable, "-m", "kickwheel", "forget", str(folder)]
    neither = subprocess.run(command, capture_output=True, text=True)
    assert "say --days, or --user" in neither.stderr
    alone = [*command, "--user", "ann"]
    asked = subprocess.run(alone, input="n\n", capture_output=True, text=True)
    assert 'Delete all that is kept of user "ann" of no tenant?' in asked.stderr
    done = subprocess.run([*alone, "--yes", "--json"], capture_output=True, text=True)
    assert json.loads(done.stdout)["facts"] == 1
