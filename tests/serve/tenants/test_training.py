"""Files, jobs and the models that come of them, with the keys of all."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.models.policies.coalesced import CoalescedModel
from kickwheel.serve.house import ModelCard
from kickwheel.serve.worker import Runner
from tests.serve.conftest import Echo, Rooms, Served, an_example, lines, running
from tests.serve.tenants.house import PAIRS, PEOPLE, sees

TRAINING = lines(*(an_example(n) for n in range(12)))
READS = ("", "/events", "/checkpoints")
ENDS = ("/cancel", "/pause", "/resume")


@contextmanager
def serving(folder: Path, runner: str | None = None) -> Iterator[Served]:
    made = folder / "made"
    made.mkdir()
    rooms = Rooms(
        live={"base": Echo(), "adapter/0123456789abcdef": Echo()},
        cards={"base": ModelCard(id="base", tunable=True)},
        made=made,
    )
    runs = runner and Runner(f"tests.serve.runners:{runner}", {"made": str(made)})
    with running(folder / "store", rooms, keys=PEOPLE, runner=runs) as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose jobs fail at once."""
    with serving(tmp_path_factory.mktemp("house")) as found:
        yield found


def asks(served: Served, key: str, path: str, method: str = "GET", body: Any = None) -> int:
    headers = {"authorization": f"Bearer {key}"}
    url = f"{served.url}/v1{path}"
    return httpx2.request(method, url, json=body, headers=headers, timeout=30).status_code


def a_file(served: Served, key: str, name: str = "chats.jsonl") -> str:
    client = served.client(api_key=key)
    return client.files.create(file=(name, TRAINING), purpose="fine-tune").id


def a_job(served: Served, key: str) -> str:
    file = a_file(served, key)
    jobs = served.client(api_key=key).fine_tuning.jobs
    return jobs.create(model="base", training_file=file).id


def a_tuned_model(served: Served, key: str) -> str:
    job, jobs = a_job(served, key), served.client(api_key=key).fine_tuning.jobs
    for _ in range(3000):
        model = jobs.retrieve(job).fine_tuned_model
        if model is not None:
            return model
        time.sleep(0.02)
    raise AssertionError("the job never succeeded")


def are_listed(served: Served, key: str, path: str, identity: str) -> bool:
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx2.get(f"{served.url}/v1{path}", headers=headers)
    return identity in [entry["id"] for entry in answer.json()["data"]]


def test_a_file_is_found_read_and_deleted_by_those_who_see_it(served: Served) -> None:
    for reader, maker in PAIRS:
        file = a_file(served, maker)
        seen = sees(reader, maker)
        assert are_listed(served, reader, "/files?limit=100", file) == seen
        for path in (f"/files/{file}", f"/files/{file}/content"):
            assert asks(served, reader, path) == (200 if seen else 404), (reader, maker, path)
        assert asks(served, reader, f"/files/{file}", "DELETE") == (200 if seen else 404)
        assert asks(served, maker, f"/files/{file}") == (404 if seen else 200)


def test_nobody_tunes_on_a_file_that_they_do_not_see(served: Served) -> None:
    for reader, maker in PAIRS:
        name = os.urandom(4).hex()
        file = a_file(served, maker, f"{name}.jsonl")
        seen = sees(reader, maker)
        for more in ({"training_file": file}, {"training_file": file, "validation_file": file}):
            told = asks(served, reader, "/fine_tuning/jobs", "POST", {"model": "base", **more})
            assert told == (200 if seen else 400), (reader, maker)
        for dataset in (file, name):
            body = {"config": "base", "dataset": {"name": dataset}}
            told = asks(served, reader, "/customization/jobs", "POST", body)
            assert told == (201 if seen else 400), (reader, maker)


def test_a_job_is_found_and_ended_by_those_who_see_it(served: Served) -> None:
    for reader, maker in PAIRS:
        job = a_job(served, maker)
        seen = sees(reader, maker)
        for door in ("/fine_tuning/jobs?limit=100", "/customization/jobs?page_size=1000"):
            assert are_listed(served, reader, door, job) == seen
        for path in READS:
            told = asks(served, reader, f"/fine_tuning/jobs/{job}{path}")
            assert told == (200 if seen else 404), (reader, maker, path)
        for path in ("", "/status"):
            told = asks(served, reader, f"/customization/jobs/{job}{path}")
            assert told == (200 if seen else 404), (reader, maker, path)
        # What has ended cannot end again; that is said to those alone who see it.
        for door, paths in (("fine_tuning", ENDS), ("customization", ("/cancel",))):
            for path in paths:
                told = asks(served, reader, f"/{door}/jobs/{job}{path}", "POST", {})
                assert (told == 404) == (not seen), (reader, maker, door, path)


def test_a_tuned_model_answers_those_who_see_its_job(tmp_path: Path) -> None:
    with serving(tmp_path, "quick") as served:
        for maker in ("ann", "tom"):
            model = a_tuned_model(served, maker)
            for reader in PEOPLE:
                seen = sees(reader, maker)
                client = served.client(api_key=reader)
                headers = {"authorization": f"Bearer {reader}"}
                metadata = httpx2.get(f"{served.url}/v1/metadata", headers=headers)
                assert (model in [card.id for card in client.models.list()]) == seen
                assert (model in metadata.text) == seen
                for ask in doors(client, model):
                    assert answers(ask) == seen, (reader, maker)
                if not seen:
                    # Not by the way of a mistake either.
                    with pytest.raises(openai.NotFoundError) as caught:
                        client.responses.create(model=model[:-1], input="hi")
                    assert model not in str(caught.value)


def test_an_adapter_by_its_own_name_is_the_houses(served: Served) -> None:
    name = "adapter/0123456789abcdef"
    for reader in PEOPLE:
        client = served.client(api_key=reader)
        assert (name in [card.id for card in client.models.list()]) == (reader == "house")
        for ask in doors(client, name):
            assert answers(ask) == (reader == "house")
        assert answers(doors(client, "base")[1]), "models of the app answer everybody"


def doors(client: openai.OpenAI, model: str) -> list[Callable[[], object]]:
    """Ways to ask a model, or for it."""
    said: Any = [{"role": "user", "content": "hi"}]
    return [
        lambda: client.models.retrieve(model),
        lambda: client.chat.completions.create(model=model, messages=said),
        lambda: client.completions.create(model=model, prompt="hi"),
        lambda: client.responses.create(model=model, input="hi"),
        lambda: client.responses.create(model=model, input="hi", background=True),
    ]


def answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except openai.NotFoundError:
        return False
    except openai.BadRequestError:
        return True  # It is there, but knows no texts without a conversation.
    return True


class Meets:
    """Answers once as many ask at the same time as shall."""

    name = "meets"

    def __init__(self, parties: int) -> None:
        self.arrived = 0
        self.parties = parties
        self.all_there = threading.Event()

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        self.arrived += 1
        if self.arrived == self.parties:
            self.all_there.set()
        await asyncio.to_thread(self.all_there.wait, 60)
        yield TextDelta("there")
        yield Done("stop", Usage())


def test_requests_of_two_tenants_at_once_are_never_one(tmp_path: Path) -> None:
    meets = Meets(3)
    rooms = Rooms(live={"once": CoalescedModel("once", meets)})
    said: Any = [{"role": "user", "content": "Where?"}]
    with running(tmp_path, rooms, keys=PEOPLE) as served, ThreadPoolExecutor() as pool:

        def ask(key: str) -> None:
            client = served.client(api_key=key, timeout=60)
            client.chat.completions.create(model="once", messages=said)

        # Were two of them one, the third would never come, and nobody be answered.
        list(pool.map(ask, ("ann", "eve", "tom")))
    assert meets.arrived == 3
