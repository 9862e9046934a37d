"""/openapi.json against the server that it describes, asked by schemathesis in all ways."""

from typing import Any

import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from kickwheel.serve.contract import OPERATIONS
from tests.serve.conftest import an_example, lines
from tests.serve.contract.conftest import Whole

load_all_checks()
# A body that its schema allows may still ask for what is not there, or not together.
EXCLUDED = CHECKS.get_by_names(["positive_data_acceptance"])
ENDLESS = [("GET", "/mcp")]
"""Streams that have no end; the real client of each reads it in its own tests."""
KEYED = [("GET", path) for _, path in OPERATIONS if "oauth-protected-resource" in path]
"""Served only where an authorization server is named; `test_tokens.py` reads them."""
NAMES = ["echo", "helper", "words", "nobody"]


@pytest.fixture(scope="module")
def schema(whole: Whole) -> Any:
    return schemathesis.openapi.from_url(f"{whole.url}/openapi.json")


@pytest.fixture(scope="module")
def known(whole: Whole) -> list[str]:
    """Names of what is there, one of each kind, to be asked for and destroyed."""
    client = whole.client
    answer = client.chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "hi"}]
    )
    file = client.files.create(file=("a.jsonl", lines(an_example(1))), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model=tunable(whole), training_file=file.id)
    response = client.responses.create(model="helper", input="hi")
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="boss", input="May I?")
    runs = client.get("/runs", cast_to=object)
    assert isinstance(runs, dict)
    return [answer.id, file.id, job.id, response.id, runs["data"][0]["id"], "nothing"]


def test_every_route_is_described(schema: Any) -> None:
    there = {
        (method.upper(), path)
        for path, methods in schema.raw_schema["paths"].items()
        for method in methods
    }
    assert there == set(OPERATIONS) - set(KEYED)


def tunable(whole: Whole) -> str:
    (base,) = [card.id for card in whole.client.models.list() if card.id.endswith("tiny.gguf")]
    return base


def test_what_is_said_of_a_new_job_is_as_described(schema: Any, whole: Whole) -> None:
    base = tunable(whole)
    file = whole.client.files.create(file=("b.jsonl", lines(an_example(1))), purpose="fine-tune")
    for path, body in (
        ("/v1/fine_tuning/jobs", {"model": base, "training_file": file.id}),
        ("/v1/customization/jobs", {"config": base, "dataset": "b"}),
    ):
        made = schema[path]["POST"].Case(body=body, media_type="application/json")
        answer = made.call_and_validate(excluded_checks=EXCLUDED)
        assert answer.status_code in (200, 201)


def asks_something(operation: Any) -> bool:
    return bool(operation.query or operation.body)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_comes_back_is_as_described(
    schema: Any, known: list[str], method: str, path: str, mode: GenerationMode
) -> None:
    if (method, path) in (*ENDLESS, *KEYED):
        return
    operation = schema[path][method]
    good = mode is GenerationMode.POSITIVE
    if not good and not asks_something(operation):
        return  # There is no wrong way to ask.

    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any, data: st.DataObject) -> None:
        if good and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = data.draw(st.sampled_from(NAMES))
        if good and "identity" in case.path_parameters:
            case.path_parameters["identity"] = data.draw(st.sampled_from(known))
        case.call_and_validate(excluded_checks=EXCLUDED)

    check()
