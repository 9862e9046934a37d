"""/v1/metrics, read by Prometheus' own client."""

import contextlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kickwheel.records import Span, Trace, genai
from kickwheel.serve.metrics import Metrics
from tests.serve.conftest import Rooms, Served, running

Counts = dict[str, float]


@pytest.fixture
def served(tmp_path: Path, rooms: Rooms) -> Iterator[Served]:
    with running(tmp_path / "store", rooms) as server:
        yield server


def counts(served: Served) -> Counts:
    """Every sample by its name and labels."""
    served.recorder.flush()
    with urllib.request.urlopen(f"{served.url}/v1/metrics") as response:
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = response.read().decode()
    return {
        sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ask(served: Served, model: str, *, stream: bool = False) -> None:
    said = served.client().chat.completions.create(
        model=model, messages=[{"role": "user", "content": "one two"}], stream=stream
    )
    if stream:
        list(said)


def test_requests_answers_and_tokens_are_counted(served: Served) -> None:
    ask(served, "echo")
    ask(served, "echo", stream=True)
    with pytest.raises(openai.RateLimitError):
        ask(served, "busy")
    with pytest.raises(openai.NotFoundError):
        ask(served, 'no "such"\nmodel')
    found = counts(served)
    route = "route=/v1/chat/completions"
    assert found[f"http_requests_total method=POST {route} status=200"] == 2
    assert found[f"http_requests_total method=POST {route} status=429"] == 1
    assert found[f"http_requests_total method=POST {route} status=404"] == 1
    assert found[f"http_request_duration_seconds_count {route}"] == 4
    assert found[f"http_request_duration_seconds_bucket le=+Inf {route}"] == 4
    assert found["request_success_total model_name=echo"] == 2
    assert found["request_failure_total model_name=busy"] == 1
    assert found["prompt_tokens_total model_name=echo"] == 14
    assert found["generation_tokens_total model_name=echo"] == 4
    assert found["e2e_request_latency_seconds_count model_name=echo"] == 2
    assert found["num_requests_running"] == 0
    assert found["request_finish_total finished_reason=stop model_name=echo"] == 2
    assert found["time_to_first_token_seconds_count model_name=echo"] == 2
    assert found["time_per_output_token_seconds_count model_name=echo"] == 1, "one came whole"
    assert found["request_prompt_tokens_sum model_name=echo"] == 14
    assert found["request_prompt_tokens_bucket le=5 model_name=echo"] == 0
    assert found["request_prompt_tokens_bucket le=10 model_name=echo"] == 2
    assert found["request_generation_tokens_count model_name=echo"] == 2
    assert "request_prompt_tokens_count model_name=busy" not in found
    assert found["kickwheel_traces_kept_total"] == 3
    assert found["kickwheel_traces_lost_total"] == 0


def test_the_time_of_a_token_is_that_behind_the_first_one_of_a_stream(served: Served) -> None:
    told = {genai.OUTPUT_TOKENS: 11, genai.TIME_TO_FIRST_CHUNK_S: 0.1, genai.STREAM: True}
    streamed = Span(
        id="1" * 16, kind="model", name="m", start_ns=0, end_ns=1_100_000_000, attributes=told
    )
    others = (
        replace(streamed, attributes={**told, genai.STREAM: False}),
        replace(streamed, attributes={**told, genai.OUTPUT_TOKENS: 1}),
        replace(streamed, error="it broke off"),
    )
    metrics = Metrics(served.recorder)
    metrics.take([Trace(id="a" * 32, workload="m", spans=(streamed, *others))])
    lines = [line for line in metrics.text().splitlines() if line.startswith("time_per_output")]
    assert 'time_per_output_token_seconds_sum{model_name="m"} 0.1' in lines
    assert 'time_per_output_token_seconds_count{model_name="m"} 1' in lines


def test_only_what_asks_a_model_runs(served: Served) -> None:
    with served.client().chat.completions.create(
        model="slow", messages=[{"role": "user", "content": "count"}], stream=True
    ) as stream:
        next(iter(stream))
        assert counts(served)["num_requests_running"] == 1


def test_routes_that_are_not_there_count_as_one(served: Served) -> None:
    for path in ("/nothing", "/v2/x/y", "/v1/runs-of-others"):
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(served.url + path)
    served.client().models.retrieve("echo")
    found = counts(served)
    assert found["http_requests_total method=GET route=other status=404"] == 3
    assert found["http_requests_total method=GET route=/v1/models status=200"] == 1


def test_only_who_has_the_key_reads_it(tmp_path: Path, rooms: Rooms) -> None:
    with (
        running(tmp_path / "keyed", rooms, keys=["a key"]) as served,
        pytest.raises(urllib.error.HTTPError, match="401"),
    ):
        urllib.request.urlopen(f"{served.url}/v1/metrics")


async def test_methods_that_nobody_knows_are_one_label(served: Served) -> None:
    # By the app itself: not every server that may stand in front lets such a method through.
    metrics = Metrics(served.recorder)

    async def nothing(*_: object) -> None:
        return

    counted = metrics.around(nothing, [])
    for method in ("BREW", "WHEN", "GET"):
        await counted({"type": "http", "method": method, "path": "/x"}, None, None)
    rows = [line for line in metrics.text().splitlines() if line.startswith("http_requests_total")]
    assert len(rows) == 2
    assert not [row for row in rows if "BREW" in row]
