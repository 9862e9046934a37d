"""All mistakes of an app file at once, each with its line and column."""

import sys
from collections.abc import Mapping
from pathlib import Path

from kickwheel.app.needs import check_circles, check_money, check_names
from kickwheel.app.plan import SHELVES, Plan
from kickwheel.app.sections import check_loop, check_offer, check_ours, check_record
from kickwheel.appfile import AppFile
from kickwheel.core.config import Document, check, read_yaml
from kickwheel.core.errors import ConfigError, Mistake, UsageError
from kickwheel.core.files import home
from kickwheel.core.plugins import Part, kinds, load
from kickwheel.core.store.files import verify


def check_app(path: Path, *, complete: bool = False) -> Plan:
    """The app that the file, the folder's `app.yml`, or a snapshot describes.

    A snapshot is checked byte by byte, and stays as it is: its store is under KICKWHEEL_HOME.

    Args:
        complete: whether files, folders and code that parts name must be there, too.
    Raises:
        ConfigError: the file has mistakes; all of them are told, each with line and column.
        UsageError: the folder has no `app.yml`.
        StoreError: a byte of the snapshot was changed.
    """
    snapshot = (path / "snapshot.json").exists()
    if snapshot:
        verify(path)
        sys.dont_write_bytecode = True
        path = path / "app"
    if path.is_dir() and not (path / "app.yml").exists():
        raise UsageError(f"there is no app.yml in {path.resolve()}. `kickwheel init` makes one.")
    document = read_yaml(path / "app.yml" if path.is_dir() else path)
    check_ours(document)
    mistakes: list[Mistake] = []
    config = check(document, (), document.data, AppFile, mistakes)
    parts = _parts(document, mistakes)
    if complete:
        _check_absent(document, parts, mistakes)
    check_names(document, parts, mistakes)
    check_circles(document, parts, mistakes)
    check_money(document, parts, mistakes)
    check_loop(document, mistakes)
    check_record(document, mistakes)
    check_offer(document, mistakes)
    if mistakes or config is None:
        raise ConfigError(sorted(mistakes, key=lambda m: (m.line, m.column)))
    file = document.file.resolve()
    folder, database = config.place()
    store = file.parent / folder
    if snapshot:
        store, database = home() / "snapshots" / file.parents[1].name, None
    return Plan(file, config, parts, store, database)


def _parts(document: Document, mistakes: list[Mistake]) -> dict[tuple[str, str], Part]:
    """The parts whose options are right, by shelf and name."""
    parts: dict[tuple[str, str], Part] = {}
    for shelf in SHELVES:
        entries = document.data.get(shelf)
        if isinstance(entries, Mapping):
            for name, options in entries.items():
                part = _part(document, shelf, str(name), options, mistakes)
                if part is not None:
                    parts[shelf, str(name)] = part
    return parts


def _part(
    document: Document, shelf: str, name: str, options: object, mistakes: list[Mistake]
) -> Part | None:
    where = (shelf, name)
    if isinstance(options, str):
        options = {"kind": options}
    if not isinstance(options, Mapping) or not isinstance(options.get("kind"), str):
        known = ", ".join(sorted(kinds(shelf)))
        what = f'"kind" is missing: one of {known}, or package.module:Class'
        mistakes.append(document.mistake(where, what))
        return None
    try:
        kind = load(shelf, options["kind"], document.file.parent.resolve())
    except UsageError as error:
        mistakes.append(document.mistake((*where, "kind"), str(error)))
        return None
    part = check(document, where, options, kind, mistakes)
    if part is not None:
        for key, wrong in part.mistakes(document.file.parent):
            mistakes.append(document.mistake((*where, key), wrong))
    return part


def _check_absent(
    document: Document, parts: Mapping[tuple[str, str], Part], mistakes: list[Mistake]
) -> None:
    folder = document.file.parent.resolve()
    for where, part in parts.items():
        for key, what in part.absent(folder):
            mistakes.append(document.mistake((*where, key), what))
