"""Adapters from the folder that NIM_PEFT_SOURCE names, as a NIM takes them.

    <folder>/<name>/adapter_config.json, adapter_model.safetensors  ─▶  the model <name>

Others fill the folder, and may do so at any moment: an adapter that is half there, damaged or for
another base is told of and left out, and looked at again when its files have changed. What fits a
base of the app is written as its engine reads it, once, in the store's folder.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kickwheel.core.errors import KickwheelError, UsageError
from kickwheel.core.files import sha256
from kickwheel.models import peft
from kickwheel.models.engines.adapters import check_fits
from kickwheel.models.engines.engine import Engine

SOURCE = "NIM_PEFT_SOURCE"
INTERVAL = "NIM_PEFT_REFRESH_INTERVAL"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fitting:
    """An adapter that fits a base."""

    base: str
    folder: Path
    """Where it lies as the engine reads it; another one for other weights."""
    created: int
    """Unix time, seconds."""


class PeftFolder:
    """The adapters of one folder."""

    def __init__(self, source: Path, cache: Path) -> None:
        self.found: Mapping[str, Fitting] = {}
        """By name, as it was when it was looked at last."""
        self._source = source
        self._cache = cache
        self._missing = ""
        """Why the folder could not be looked into, told once; empty while it can."""
        self._seen: dict[str, tuple[object, Fitting | None]] = {}

    def look(self, engines: Iterable[Engine]) -> None:
        """Looks what is there now; reads the disk.

        Args:
            engines: of the bases that an adapter may belong to.
        """
        bases = list(engines)
        folders = self._folders()
        seen: dict[str, tuple[object, Fitting | None]] = {}
        for folder in folders:
            as_it_is = (_state(folder), *(engine.base.name for engine in bases))
            known = self._seen.get(folder.name)
            if known is None or known[0] != as_it_is:
                known = as_it_is, self._fitting(folder, bases)
            seen[folder.name] = known
        for name in self._seen.keys() - seen.keys():
            _log.info("%s: %s is gone, and not served any more", SOURCE, name)
        self._seen = seen
        self.found = {name: fitting for name, (_, fitting) in seen.items() if fitting is not None}

    def _folders(self) -> list[Path]:
        try:
            found = sorted(f for f in self._source.iterdir() if f.is_dir() and f.name[0] != ".")
        except OSError as error:
            if (why := _missing(self._source, error)) != self._missing:
                self._missing = why
                _log.warning("%s", why)
            return []
        if self._missing:
            self._missing = ""
            _log.info("%s: %s is there now", SOURCE, self._source)
        return found

    def _fitting(self, folder: Path, engines: list[Engine]) -> Fitting | None:
        missing = [f for f in (peft.CONFIG, peft.WEIGHTS) if not (folder / f).is_file()]
        if missing:
            _left_out(folder, f"{' and '.join(missing)} missing")
            return None
        why = ["no base of kind local runs here"] if not engines else []
        for engine in engines:
            try:
                kept = self._written(folder, engine)
                _log.info("%s: %s is served beside %s", SOURCE, folder.name, engine.base.name)
                created = int((folder / peft.WEIGHTS).stat().st_mtime)
                return Fitting(engine.base.name, kept, created)
            except (KickwheelError, OSError) as error:
                why.append(f"{engine.base.name}: {error}")
            except Exception as error:  # Anybody's files: one must not end the looking at others.
                why.append(f"{engine.base.name}: {type(error).__name__}: {error}")
        _left_out(folder, "; ".join(why))
        return None

    def _written(self, folder: Path, engine: Engine) -> Path:
        """The folder with the adapter as the engine reads it; written where it is not yet."""
        shape = peft.shape_of(engine.header)
        digest = f"{sha256(folder / peft.WEIGHTS)[:16]}-{sha256(folder / peft.CONFIG)[:8]}"
        kept = self._cache / f"{digest}-{engine.base.sha256[:16]}"
        file = kept / "adapter.gguf"
        if not file.is_file():
            peft.write_gguf(folder, shape, file)
        check_fits(file, engine.base, engine.header)
        return kept


@asynccontextmanager
async def peft_folder(
    cache: Path, engines: Callable[[], Iterable[Engine]]
) -> AsyncGenerator[PeftFolder | None]:
    """The folder that the environment names, looked at now and, where it says how often, again;
    `None` where it names none.

    Args:
        cache: the folder for adapters as engines read them.
        engines: of the bases that run here.
    Raises:
        UsageError: the interval is no number of seconds.
    """
    source = os.environ.get(SOURCE)
    if not source:
        yield None
        return
    interval_s = _interval_s(os.environ.get(INTERVAL, ""))
    folder = PeftFolder(Path(source), cache)
    await asyncio.to_thread(folder.look, list(engines()))

    async def again() -> None:
        while interval_s:
            await asyncio.sleep(interval_s)
            await asyncio.to_thread(folder.look, list(engines()))

    looking = asyncio.create_task(again())
    try:
        yield folder
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def _interval_s(written: str) -> float:
    if not written:
        return 0.0
    try:
        seconds = float(written)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise UsageError(f"{INTERVAL} is {written!r}; it takes seconds, more than 0")
    return seconds


def _state(folder: Path) -> tuple[tuple[int, int], ...]:
    """Changes when the adapter's files do."""
    found = []
    for name in (peft.CONFIG, peft.WEIGHTS):
        try:
            about = (folder / name).stat()
        except OSError:
            found.append((0, -1))
        else:
            found.append((about.st_mtime_ns, about.st_size))
    return tuple(found)


def _missing(source: Path, error: OSError) -> str:
    """Why no adapter comes from the folder, and what to do."""
    what = {
        FileNotFoundError: "there is no such folder",
        NotADirectoryError: "that is a file, where a folder of adapters belongs",
        PermissionError: "it may not be read by this user",
    }.get(type(error), error.strerror or str(error))
    again = (
        "It is looked for again."
        if os.environ.get(INTERVAL)
        else f"Then start the server anew, or set {INTERVAL}: seconds from look to look."
    )
    return (
        f"{SOURCE} names {source.absolute()}: {what}. No adapter is served from it. "
        f"Put <name>/{peft.CONFIG} and <name>/{peft.WEIGHTS} there, or name another folder. {again}"
    )


def _left_out(folder: Path, why: str) -> None:
    _log.warning("%s: %s is not served: %s", SOURCE, folder.name, why)
