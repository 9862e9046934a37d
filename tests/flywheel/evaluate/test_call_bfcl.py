"""Our call matcher against BFCL's own checker, on many answers to all its Python questions."""

import importlib
import importlib.util
import itertools
import json
import os
import random
import sys
import types
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kickwheel.flywheel.evaluate import call
from kickwheel.records import AcceptedCall, Example, Message, ToolCall, ToolSpec

pytestmark = pytest.mark.slow

CATEGORIES = (
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
    "simple_python", "multiple", "parallel", "parallel_multiple",
)  # fmt: skip
PACKAGE = "bfcl_eval.eval_checker.ast_eval"
ALTERNATIVES = 200


@pytest.fixture(scope="module")
def bfcl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bfcl")
    with zipfile.ZipFile(wheel()) as archive:
        archive.extractall(folder)
    return folder / "bfcl_eval"


def wheel() -> Path:
    """The package that the blueprint takes its traffic from, fetched as it fetches it."""
    file = Path(__file__).parents[3] / "blueprints" / "concierge" / "traffic.py"
    spec = importlib.util.spec_from_file_location("concierge_traffic", file)
    assert spec is not None
    assert spec.loader is not None
    traffic = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = traffic
    spec.loader.exec_module(traffic)
    fetched: Path = traffic.wheel()
    return fetched


@pytest.fixture(scope="module")
def checker(bfcl: Path) -> Iterator[types.ModuleType]:
    """BFCL's `ast_checker.py`. Of what it imports only the table of models is replaced: it brings
    the clients of twenty providers, and the checker reads one flag from it."""
    before = dict(sys.modules)
    table = types.ModuleType("bfcl_eval.constants.model_config")
    plain = types.SimpleNamespace(underscore_to_dot=False)
    table.MODEL_CONFIG_MAPPING = {"plain": plain}  # type: ignore[attr-defined]
    sys.path.insert(0, str(bfcl.parent))
    try:
        for name in ("bfcl_eval", "bfcl_eval.constants", "bfcl_eval.eval_checker", PACKAGE):
            package = types.ModuleType(name)
            package.__path__ = [str(bfcl.parent / name.replace(".", os.sep))]
            sys.modules[name] = package
        sys.modules[table.__name__] = table
        yield importlib.import_module(f"{PACKAGE}.ast_checker")
    finally:
        sys.path.remove(str(bfcl.parent))
        for name in set(sys.modules) - set(before):
            if name.startswith("bfcl_eval"):
                del sys.modules[name]
    assert importlib.util.find_spec("bfcl_eval") is None


Calls = list[tuple[str, dict[str, Any]]]


def test_the_verdict_is_that_of_bfcl_or_a_documented_difference(
    bfcl: Path, checker: types.ModuleType
) -> None:
    chooser = random.Random(20261124)
    compared: Counter[str] = Counter()
    verdicts: Counter[bool] = Counter()
    differences = set()
    for category in CATEGORIES:
        for question, gold in questions(bfcl, category):
            example = as_example(question, gold)
            if example is None:
                continue
            for kind, calls in answers(question, gold, chooser):
                theirs = verdict(checker, question, gold, calls, category)
                given = [
                    ToolCall(id="1", name=name, arguments=json.dumps(arguments))
                    for name, arguments in calls
                ]
                ours = not call.mistakes(given, example)
                compared[category] += 1
                verdicts[ours] += 1
                # Its search takes the first call that fits and never looks back; ours does, and
                # finds the order in which all fit (docs/matching.md).
                if ours != theirs and not (ours and question["id"] == "parallel_178"):
                    differences.add((question["id"], kind, str(calls), ours, theirs))
    assert sum(compared.values()) > 100_000
    assert min(verdicts.values()) > 20_000
    assert differences == set()


def questions(bfcl: Path, category: str) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    answers = {}
    name = f"BFCL_v4_{category}.json"
    for line in (bfcl / "data" / "possible_answer" / name).read_text().splitlines():
        entry = json.loads(line)
        answers[entry["id"]] = entry["ground_truth"]
    for line in (bfcl / "data" / name).read_text().splitlines():
        question = json.loads(line)
        yield question, answers[question["id"]]


def as_example(question: dict[str, Any], gold: list[dict[str, Any]]) -> Example | None:
    accepted = []
    for entry in gold:
        ((name, values),) = entry.items()
        arguments = {}
        for argument, listed in values.items():
            plain = [p for value in listed if value != "" for p in alternatives(value)]
            if len(plain) > ALTERNATIVES:
                return None
            arguments[argument] = tuple(plain)
        optional = tuple(argument for argument, listed in values.items() if "" in listed)
        accepted.append(AcceptedCall(name=name, arguments=arguments, optional=optional))
    known = {f["name"]: f["parameters"]["properties"] for f in question["function"]}
    own = tuple(
        ToolCall(
            id=str(i),
            name=one.name,
            arguments=json.dumps(
                {k: v[0] for k, v in one.arguments.items() if v and k in known[one.name]}
            ),
        )
        for i, one in enumerate(accepted)
    )
    return Example(
        id=question["id"],
        messages=(),
        tools=tuple(
            ToolSpec(name=f["name"], parameters=f["parameters"]) for f in question["function"]
        ),
        answer=Message(role="assistant", tool_calls=own),
        accepted=tuple(accepted),
        kind="call",
        split="test",
        cluster="c",
        source="s",
    )


def alternatives(value: Any) -> list[Any]:
    """The plain values that an answer of BFCL stands for: each key of an object has a list."""
    if isinstance(value, dict):
        keys = []
        for key, listed in value.items():
            options: list[Any] = [((key, one),) for one in listed if one != ""]
            # "" stands for a key that may be left out, and for an empty text.
            options += [(), ((key, ""),)] if "" in listed else []
            keys.append(options)
        return [
            dict(pair for chosen in parts for pair in chosen)
            for parts in itertools.islice(itertools.product(*keys), ALTERNATIVES + 1)
        ]
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        parts = itertools.product(*(alternatives(one) for one in value))
        return [list(part) for part in itertools.islice(parts, ALTERNATIVES + 1)]
    return [value]


def first(value: Any) -> Any:
    return alternatives(value)[0]


def verdict(
    checker: types.ModuleType,
    question: dict[str, Any],
    gold: list[dict[str, Any]],
    calls: Calls,
    category: str,
) -> bool:
    output = [{name: json.loads(json.dumps(arguments))} for name, arguments in calls]
    try:
        found = checker.ast_checker(
            question["function"], output, gold, checker.Language.PYTHON, category, "plain"
        )
    except (TypeError, KeyError, AttributeError):
        return False
    return bool(found["valid"])


def answers(
    question: dict[str, Any], gold: list[dict[str, Any]], chooser: random.Random
) -> Iterator[tuple[str, Calls]]:
    """The canonical answer, and ways to miss it or to write it otherwise."""
    canonical: Calls = []
    for entry in gold:
        ((name, values),) = entry.items()
        canonical.append((name, {k: first(v[0]) for k, v in values.items() if v and v[0] != ""}))
    yield "canonical", canonical
    yield "none", []
    yield "twice", canonical + canonical[:1]
    yield "reversed", canonical[::-1]
    other = chooser.choice(question["function"])["name"]
    yield "other tool", [(other, canonical[0][1]), *canonical[1:]]
    place = chooser.randrange(len(canonical))
    name, arguments = canonical[place]

    def changed(new: dict[str, Any]) -> Calls:
        return [*canonical[:place], (name, new), *canonical[place + 1 :]]

    yield "unknown argument", changed({**arguments, "unheard_of": 1})
    function = next((f for f in question["function"] if f["name"] == name), None)
    properties = function["parameters"]["properties"] if function else {}
    for argument in properties:
        value = arguments.get(argument)
        left = {k: v for k, v in arguments.items() if k != argument}
        yield "left out", changed(left)
        for kind, mutant in mutants(value, properties[argument], chooser):
            yield kind, changed({**left, argument: mutant})
        listed = next(iter(gold[place].values())).get(argument, [])
        for one in listed[:6]:
            yield "accepted", changed({**left, argument: first(one)})


def mutants(
    value: Any, schema: dict[str, Any], chooser: random.Random
) -> Iterator[tuple[str, Any]]:
    yield "null", None
    yield "empty", ""
    yield "true", True
    yield "false", False
    yield "zero", 0
    yield "empty list", []
    yield "empty object", {}
    if "default" in schema:
        yield "default", schema["default"]
    if schema.get("enum"):
        yield "enum", chooser.choice(schema["enum"])
    if isinstance(value, str):
        yield "case", value.upper()
        yield "signs", f" {value.replace(' ', '-')}. "
        yield "quotes", value.replace("'", '"') + "'"
        yield "short", value[:-1]
        yield "in a list", [value]
    if isinstance(value, bool):
        yield "as text", str(value)
    elif isinstance(value, int | float):
        yield "as float", float(value)
        yield "near", value + 1
        yield "as text", str(value)
        yield "fraction", value + 0.5
    if isinstance(value, list):
        yield "other order", value[::-1]
        yield "shorter", value[:-1]
        yield "as text", json.dumps(value)
        yield "entries as text", [str(one) for one in value]
        yield "case", [one.upper() if isinstance(one, str) else one for one in value]
        yield "floats", [float(o) if isinstance(o, int) else o for o in value]
    if isinstance(value, dict):
        yield "one more key", {**value, "unheard_of": 1}
        for key in value:
            yield "one key less", {k: v for k, v in value.items() if k != key}
            yield "key null", {**value, key: None}
            yield "key as text", {**value, key: str(value[key])}
