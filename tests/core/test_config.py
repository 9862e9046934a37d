"""Mistakes in an app file: all at once, each with line, column and the nearest right name."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kickwheel.app import check_app
from kickwheel.core.errors import ConfigError, Mistake


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
        ("a: 1\na: 2\n", "not YAML"),
        ("just text", "must be a mapping"),
        ("", "must be a mapping"),
        ("models: {m: {model: x}}", '"kind" is missing'),
        ("models: {m: 3}", '"kind" is missing'),
        ("models: {m: {kind: 'nowhere:Nothing'}}", "cannot be imported"),
        ("models: {m: {kind: 'json:JSONDecoder'}}", "no subclass of kickwheel.Part"),
        ("flywheel: {model: m, training_type: sft}", "finetuning_type: lora"),
        ("flywheel: {training_type: lora}", '"model" is missing'),
    ],
)
def test_each_kind_of_mistake_says_what_to_do(tmp_path: Path, text: str, says: str) -> None:
    assert says in "\n".join(told(tmp_path, text))


def test_a_missing_file_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"app\.yml:1:1: cannot be read: No such file"):
        check_app(tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="models:{}[]&*!|>'\"-#% \n\tab1", max_size=60))
def test_any_text_is_either_an_app_or_a_told_mistake(tmp_path: Path, text: str) -> None:
    file = tmp_path / "app.yml"
    file.write_text(text)
    assert all(m.line >= 1 and m.column >= 1 for m in mistakes_of(file))
