"""Mistakes in an app file: all at once, each with line, column and the nearest right name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kickwheel.app import check_app
from kickwheel.core.errors import ConfigError, Mistake, UsageError

CIRCLES = """
from typing import Annotated
from kickwheel import Part
from kickwheel.core.plugins import Name

class Over(Part):
    model: Annotated[str, Name("models")]
"""


def mistakes_of(file: Path) -> tuple[Mistake, ...]:
    try:
        check_app(file)
    except ConfigError as error:
        return error.mistakes
    return ()


def told(folder: Path, text: str) -> list[str]:
    file = folder / "app.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        check_app(file)
    return [str(m).removeprefix(f"{folder}/") for m in caught.value.mistakes]


def test_all_mistakes_are_told_at_once_with_line_and_column(tmp_path: Path) -> None:
    lines = told(
        tmp_path,
        "models:\n"
        "  general: {kind: opnai, model: gpt-5-mini}\n"
        "  specialist: {kind: local, base: smollm2-135m, adaptr: a/b}\n"
        "agents:\n"
        "  concierge:\n"
        "    kind: tool_loop\n"
        "    model: specialst\n"
        "serve: {port: 99999}\n"
        "flywheel: {model: specialist, agent: conciege}\n"
        "gaurds: {}\n",
    )
    assert lines[0].startswith('app.yml:2:13: models.general.kind: no kind "opnai" of models.')
    assert 'Did you mean "openai"?' in lines[0]
    assert lines[1].startswith('app.yml:3:49: models.specialist.adaptr: no option "adaptr" here.')
    assert 'Did you mean "adapter"?' in lines[1]
    assert lines[2].startswith('app.yml:7:5: agents.concierge.model: no model named "specialst".')
    assert 'Did you mean "specialist"?' in lines[2]
    assert lines[3].startswith("app.yml:8:9: serve.port: ")
    assert any('9:31: flywheel.agent: no agent named "conciege"' in line for line in lines)
    assert any('10:1: gaurds: no option "gaurds" here.' in line for line in lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: [", "not YAML"),
        ("a: 1\na: 2\n", 'the key "a" stands here twice: leave one out'),
        ("models:\n\tg: {kind: local}\n", "a tab. Indent with spaces"),
        ("models:\n  g: {kind: local}\n agents: {}\n", "the same number of spaces"),
        ("just text", "must be a mapping"),
        ("", "is empty: it must be a mapping"),
        ("models: {m: {model: x}}", '"kind" is missing'),
        ("models: {m: {kind: openai, model: x, base_url: 'localhost:1/v1'}}", "begin with http://"),
        ("models: {m: 3}", '"kind" is missing'),
        ("models: {m: {kind: 'nowhere:Nothing'}}", "there is no nowhere.py in "),
        ("models: {m: {kind: 'json:JSONDecoer'}}", 'json has no "JSONDecoer". Did you mean'),
        ("models: {m: {kind: 'json:JSONDecoder'}}", "no subclass of kickwheel.Part"),
        ("agents: {a: {kind: tool_loop, model: m, tools: t}}", "tools: must be a list, as [a, b]"),
        ("agents: {a: {kind: router, agents: [b]}}", "agents: must have at least 2 entries, not 1"),
        ("models: {m: {kind: local, context: x}}", "context: must be a whole number"),
        ("models: {m: {kind: openai, model: 5}}", "model: must be a text; in quotes where"),
        ("serve: {auth: {keys: [{key: 'sha256:8f0e', user: a}]}}", "keys[0].key: sha256: wants"),
        ("flywheel: {model: m, training_type: sft}", "finetuning_type: lora"),
        ("models: {m: {kind: local}}\nflywheel: {model: m}", 'models.m: has no "adapter": name'),
        (
            "models: {m: {kind: openai, model: x}}\nflywheel: {model: m}",
            "models.m: cannot be tuned: it is of kind openai. Name one of kind local or vllm",
        ),
        ("flywheel: {training_type: lora}", '"model" is missing'),
        ("flywheel: {model: m, gate: {against: fewshot}}", 'Did you mean "few-shot"?'),
        ("flywheel: {model: m, gate: {metric: judge}}", "needs a model that judges"),
        (
            "flywheel: {model: m, gate: {against: full-prompt}, evaluate: {full_prompt: 0}}",
            "full-prompt is not asked",
        ),
    ],
)
def test_each_kind_of_mistake_says_what_to_do(tmp_path: Path, text: str, says: str) -> None:
    assert says in "\n".join(told(tmp_path, text))


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("smollm2-135", 'app.yml:2:20: models.m.base: no base "smollm2-135". Did you mean'),
        ("models/tiny.guf", 'no such file or folder. Did you mean "models/tiny.gguf"?'),
        ("nowhere/at/all", "no such file or folder."),
        ("hf:nobody", "app.yml:2:20: models.m.base: hf:nobody: a model of the hub is"),
    ],
)
def test_a_base_that_does_not_exist_is_told_where_it_stands(
    tmp_path: Path, base: str, says: str
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.gguf").touch()
    (line,) = told(tmp_path, f"models:\n  m: {{kind: local, base: {base!r}}}\n")
    assert says in line


def test_dollars_that_nobody_could_count_are_told_however_far_in_they_are_spent(
    tmp_path: Path,
) -> None:
    agents = (
        "agents:\n  a: {kind: tool_loop, model: m}\n"
        "  b: {kind: router, agents: [a, c], rules: [{match: x, agent: c}], otherwise: a,\n"
        "      budget: {cost_usd: 1}}\n  c: {kind: human}\n"
    )
    openai = "{kind: openai, model: x"
    inner = f"  n: {openai}}}\n  m: {{kind: cache, model: n}}\n{agents}"
    (line,) = told(tmp_path, f"models:\n{inner}")
    assert "agents.b.budget.cost_usd: cannot count what n costs" in line
    priced = inner.replace("model: x}", "model: x, prices: {input: 1, output: 2}}")
    (tmp_path / "app.yml").write_text(f"models:\n{priced}")
    assert check_app(tmp_path).parts


def test_what_only_the_disk_knows_of_a_vllm_base_is_told_too(tmp_path: Path) -> None:
    first, second = told(
        tmp_path,
        "models:\n  a: {kind: vllm}\n  b: {kind: vllm, base: hf:a/b}\n"
        "  c: {kind: vllm, base: ./c}\n",
    )
    assert "app.yml:2:3: models.a.base: vllm needs `base`: to start a server" in first
    assert "app.yml:4:19: models.c.base: " in second


def test_looking_for_a_base_imports_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text("models: {m: {kind: local, base: hf:some/model}}")
    program = (
        "import sys, pathlib; from kickwheel import check_app\n"
        f"check_app(pathlib.Path({str(tmp_path)!r}))\n"
        "print(sorted({'torch', 'transformers', 'gguf', 'numpy', 'huggingface_hub', 'xllamacpp'}"
        " & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr


def test_parts_that_need_each_other_are_told_once_with_their_way(tmp_path: Path) -> None:
    (tmp_path / "circles.py").write_text(CIRCLES)
    (line,) = told(
        tmp_path,
        "models:\n"
        "  a: {kind: 'circles:Over', model: b}\n"
        "  b: {kind: 'circles:Over', model: c}\n"
        "  c: {kind: 'circles:Over', model: b}\n"
        "  d: {kind: 'circles:Over', model: a}\n",
    )
    assert line == (
        "app.yml:4:29: models.c.model: parts need each other in a circle: "
        "models.b → models.c → models.b"
    )


LOOP = """
models: {m: {kind: local, adapter: a/b}}
flywheel:
  model: m
  traffic: [chats.jsonl]
  gate: {metric: METRIC}
"""


@pytest.mark.parametrize(
    ("answer", "metric", "says"),
    [
        ("spam", "right_tool", 'the answers of chats.jsonl are labels or text, which have no "'),
        ('{"a": 1}', "right_call", 'are JSON, which have no "right_call"'),
        ("spam", "right", None),
        ('{"a": 1}', "fields", None),
    ],
)
def test_a_metric_that_the_answers_do_not_have_is_told(
    tmp_path: Path, answer: str, metric: str, says: str | None
) -> None:
    line = {
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": answer},
        ]
    }
    (tmp_path / "chats.jsonl").write_text(f"broken\n{json.dumps(line)}\n")
    text = LOOP.replace("METRIC", metric)
    if says is None:
        (tmp_path / "app.yml").write_text(text)
        assert mistakes_of(tmp_path / "app.yml") == ()
        return
    (told_line,) = told(tmp_path, text)
    assert told_line.startswith("app.yml:6:10: flywheel.gate.metric: ")
    assert says in told_line


def test_a_missing_file_or_variable_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"no app.yml in {tmp_path}. `kickwheel init` makes one"):
        check_app(tmp_path)
    (tmp_path / "app.yml").write_text("store: ${NOT_SET_ANYWHERE}\n")
    with pytest.raises(UsageError, match="Set that variable, or leave store out"):
        check_app(tmp_path)
    with pytest.raises(ConfigError, match=r"other\.yml:1:1: cannot be read: No such file"):
        check_app(tmp_path / "other.yml")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="models:{}[]&*!|>'\"-#% \n\tab1", max_size=60))
def test_any_text_is_either_an_app_or_a_told_mistake(tmp_path: Path, text: str) -> None:
    file = tmp_path / "app.yml"
    file.write_text(text)
    assert all(m.line >= 1 and m.column >= 1 for m in mistakes_of(file))
