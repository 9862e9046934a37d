"""Artifacts: folders named by the hash of their bytes, complete or absent."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from kickwheel.core.errors import StoreError, UsageError
from kickwheel.core.files import sha256, storage_error, write_whole
from kickwheel.records import wire

MANIFEST = "manifest.json"
PICTURES = ("picture", "screenshot")
"""Kinds of artifacts that belong to what names them, and go with it."""

R = TypeVar("R")


class Artifacts:
    """The artifacts of one store: `<folder>/<kind>/<id>/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, kind: str, files: dict[str, bytes] | Path) -> str:
        """The id, 16 hex digits, of an artifact with these files; the same files, the same id.

        Args:
            kind: `dataset`, `adapter`, `report`, `snapshot`, …
            files: their bytes by path, or a folder whose files are moved in.
        Raises:
            StoreError: the disk is full or cannot be written; nothing was added.
        """
        home = self.folder / kind
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=home) as temporary:
                made = Path(temporary) / "artifact"
                if isinstance(files, Path):
                    shutil.move(files, made)
                else:
                    for name, data in files.items():
                        path = made / name
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(data)
                digests = _digests(made)
                identity = wire.digest(digests)[:16]
                write_whole(made / MANIFEST, _manifest(digests))
                target = home / identity
                if not (target / MANIFEST).exists():
                    shutil.rmtree(target, ignore_errors=True)
                    made.rename(target)
        except OSError as error:
            raise storage_error(error, home) from error
        return identity

    def path(self, kind: str, identity: str) -> Path:
        """The artifact's folder; `identity` may be the beginning of the id.

        Raises:
            UsageError: there is none, or several begin so.
        """
        found = [p for p in self._complete(kind) if p.name.startswith(identity)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(p.name for p in found)
            raise UsageError(f'more than one {kind} begins with "{identity}": {names}')
        raise UsageError(
            f'no {kind} "{identity}": those that there are have their folders in '
            f"{self.folder / kind}"
        )

    def record(self, kind: str, identity: str, of: type[R]) -> R:
        """The record that the artifact is about, as `read_record`.

        Raises:
            UsageError: there is no such artifact, or several begin so.
            StoreError: its record is damaged.
        """
        return read_record(self.path(kind, identity), of)

    def ids(self, kind: str) -> list[str]:
        """Ids of all artifacts of a kind, oldest first."""
        return [p.name for p in self._complete(kind)]

    def _complete(self, kind: str) -> list[Path]:
        manifests = (self.folder / kind).glob(f"[!.]*/{MANIFEST}")
        return [p.parent for p in sorted(manifests, key=lambda p: p.stat().st_mtime_ns)]


def read_record(folder: Path, of: type[R]) -> R:
    """The record in a folder: in `report.json` where it is a `Report`.

    Raises:
        StoreError: it is missing or damaged.
    """
    file = folder / f"{of.__name__.lower()}.json"
    try:
        return wire.from_bytes(file.read_bytes(), of)
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror or error}") from error
    except ValueError as error:
        raise StoreError(f"{file}: damaged, {error}. Make it again.") from error


def verify(folder: Path) -> None:
    """Returns if every byte of the artifact is as it was when it was made.

    Raises:
        StoreError: a file was changed, is missing or was added; the text names it.
    """
    try:
        written = (folder / MANIFEST).read_text()
        expected = json.loads(written)
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder}: no readable {MANIFEST}; this is no artifact") from error
    if written != _manifest(expected) or not _is_name_of(folder.resolve().name, expected):
        raise StoreError(
            f"{folder / MANIFEST}: changed since it was made. Fetch the artifact again."
        )
    found = _digests(folder)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise StoreError(f"{folder / name}: missing. Fetch the artifact again.")
        if name not in expected:
            raise StoreError(f"{folder / name}: does not belong to the artifact. Remove it.")
        if expected[name] != found[name]:
            raise StoreError(
                f"{folder / name}: changed since it was made (SHA-256 {found[name][:12]}… instead "
                f"of {expected[name][:12]}…). Fetch the artifact again."
            )


@contextmanager
def making(artifacts: Artifacts, kind: str) -> Iterator[Path]:
    """An empty folder beside the artifacts of a kind to make one in; gone when the block ends."""
    home = artifacts.folder / kind
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".making-", dir=home) as folder:
            inner = Path(folder) / "artifact"
            inner.mkdir()
            yield inner
    except OSError as error:
        raise storage_error(error, home) from error


def _manifest(digests: dict[str, str]) -> str:
    return json.dumps(digests, indent=1, sort_keys=True)


def _is_name_of(name: str, digests: dict[str, str]) -> bool:
    """Whether the folder's name is the artifact's id, or says nothing of one."""
    return re.fullmatch("[0-9a-f]{16}", name) is None or wire.digest(digests)[:16] == name


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
