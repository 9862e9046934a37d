"""A project to start from: a blueprint's copy, an app file around traffic of one's own, or what a
workflow of another program becomes."""

import re
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kickwheel.agents.nat.workflow import translate
from kickwheel.agents.nat.written import Left
from kickwheel.app import check_app
from kickwheel.core.errors import UsageError
from kickwheel.core.files import write_whole
from kickwheel.core.plugins import nearest
from kickwheel.trace import chatlog

_OWN = """\
# Made by `kickwheel init` around {traffic}.
models:
  specialist:
    kind: local
    base: smollm2-135m
    adapter: {name}/specialist      # a ref: whatever was promoted last

flywheel:
  model: specialist
  training_type: lora
  traffic: [traffic.jsonl]
  gate: {{metric: right, margin: 0.0, confidence: 0.95}}
"""


def blueprints() -> dict[str, str]:
    """The blueprints that come with kickwheel, each with the first paragraph of its README."""
    return {
        folder.name: _about(folder)
        for folder in sorted(_shelf().iterdir())
        if (folder / "app.yml").exists()
    }


def init(
    *,
    blueprint: str | None = None,
    traffic: Path | None = None,
    into: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """The folder of a new project.

    Args:
        blueprint: name of one of `blueprints()` to copy.
        traffic: chat JSONL (answers may be calls, JSON, labels or free text) to make it around.
        into: the folder; by default named for the blueprint or the file.
        tell: given in lines for people what is wrong with the traffic.
    Raises:
        UsageError: no such blueprint, both or neither given, or the folder is not empty.
        DataError: the traffic is none, or more than 10 % of its lines are broken; nothing was made.
    """
    if (blueprint is None) == (traffic is None):
        raise UsageError("name either a blueprint or a file of traffic")
    if blueprint is not None:
        if blueprint not in blueprints():
            raise UsageError(f'no blueprint "{blueprint}". {nearest(blueprint, blueprints())}')
        folder = _empty(into or Path(blueprint))
        hidden = shutil.ignore_patterns(".*", "__pycache__")
        shutil.copytree(_shelf() / blueprint, folder, dirs_exist_ok=True, ignore=hidden)
        return folder
    assert traffic is not None
    for line in chatlog.told(*chatlog.check(traffic)):
        tell(line)
    folder = _empty(into or Path(_plain(traffic.stem)))
    name = _plain(folder.resolve().name)
    shutil.copyfile(traffic, folder / "traffic.jsonl")
    write_whole(folder / "app.yml", _OWN.format(traffic=traffic.name, name=name))
    write_whole(folder / ".gitignore", ".kickwheel/\n")
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class FromNat:
    """The app that a workflow of NVIDIA's NeMo Agent Toolkit became."""

    app: Path
    todo: tuple[Left, ...]
    """Keys about which somebody must do something, in the order of the file."""
    moot: tuple[Left, ...]
    """Keys without a counterpart that need none."""


def import_nat(file: Path, out: Path | None = None) -> FromNat:
    """Makes an app of a workflow of NVIDIA's NeMo Agent Toolkit; it is checked, not opened.

    Args:
        file: the workflow's YAML.
        out: the folder; by default named for the file.
    Raises:
        ConfigError: the file is no YAML mapping, or names one that is none.
        UsageError: the folder is not empty.
    """
    made = translate(file)
    folder = _empty(out or Path(_plain(file.stem)), "--out")
    for name, text in made.files.items():
        write_whole(folder / name, text)
    check_app(folder)
    return FromNat(
        app=folder / "app.yml",
        todo=tuple(one for one in made.left if one.act),
        moot=tuple(one for one in made.left if not one.act),
    )


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", letters.lower()).strip("-") or "project"


def _shelf() -> Path:
    package = Path(__file__).parents[1]
    inside = package / "blueprints"
    return inside if inside.exists() else package.parents[1] / "blueprints"


def _about(folder: Path) -> str:
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    said = (" ".join(one.split()) for one in text.split("\n\n"))
    return next((one for one in said if one and not one.startswith("#")), "")


def _empty(folder: Path, option: str = "--into") -> Path:
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is there and not empty. Choose another with {option}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be made: {error.strerror}. Choose another with {option}."
        ) from error
    return folder
