"""What comes with `import kickwheel`, and what does not."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import kickwheel

ROOT = Path(__file__).parents[1]
OUTSIDER = ROOT / "tests" / "outsider"
HEAVY = ("torch", "transformers", "peft", "numpy", "gguf", "xllamacpp", "wordllama", "openai")


def modules_after(code: str) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(ended.stdout.splitlines()[-1]))


def test_import_kickwheel_loads_nothing_but_itself() -> None:
    loaded = {name for name in modules_after("import kickwheel") if name.startswith("kickwheel")}
    assert loaded == {"kickwheel"}


def test_help_loads_click_and_no_room() -> None:
    code = "from kickwheel.cli import group\ngroup.main(['--help'], standalone_mode=False)"
    loaded = modules_after(code)
    assert not loaded & {*HEAVY, "pydantic", "msgspec", "aiohttp", "starlette", "sqlite3"}
    ours = {name for name in loaded if name.startswith("kickwheel")}
    assert ours == {"kickwheel", "kickwheel.cli"}


def test_checking_and_opening_an_app_loads_nothing_heavy() -> None:
    loaded = modules_after("import kickwheel.app, kickwheel.cli.check, kickwheel.cli.talk")
    assert not loaded & set(HEAVY)


def test_every_public_name_is_there_and_listed() -> None:
    assert sorted(kickwheel.__all__) == sorted(kickwheel._HOMES)
    for name in kickwheel.__all__:
        assert getattr(kickwheel, name).__doc__
    assert dir(kickwheel) == sorted(kickwheel.__all__)


def test_the_base_install_asks_for_few_packages() -> None:
    base = [line for line in requires("kickwheel") or [] if "extra ==" not in line]
    assert len(base) <= 9


def test_who_can_tune_can_serve_what_was_tuned() -> None:
    # Each tuning ends with the adapter being asked on the engine.
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "kickwheel[local]" in extras["optional-dependencies"]["tune"]


def test_a_package_of_somebody_else_adds_kinds(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(
        "models: {polly: {kind: parrot, loud: true}}\ntools: {none: nothing}\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(OUTSIDER)}
    asked = subprocess.run(
        [sys.executable, "-m", "kickwheel.cli", "run", str(tmp_path), "hello"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert asked.stdout.startswith("HELLO\n"), asked.stderr
    schema = subprocess.run(
        [sys.executable, "-m", "kickwheel.cli", "schema"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert '"parrot"' in schema.stdout
    assert "Whether it shouts." in schema.stdout


ALIKE = ("cli", "bridges")
"""Rooms in which each file is named after the verb or framework that it is for."""


def test_a_room_says_what_is_in_it() -> None:
    package = Path(kickwheel.__file__).parent
    for room in (file.parent for file in package.rglob("*/__init__.py")):
        if set(room.relative_to(package).parts) & set(ALIKE):
            continue
        said = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
        files = {file.stem for file in room.glob("[a-z]*.py")}
        folders = {file.parent.name for file in room.glob("*/__init__.py")}
        assert files | folders <= set(re.findall(r"\w+", said)), room
