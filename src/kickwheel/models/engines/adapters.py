"""Adapters as engines take them: their files and records, and whether they fit a base."""

from pathlib import Path

from kickwheel.core.errors import DataError
from kickwheel.core.store.files import read_record
from kickwheel.models import gguf
from kickwheel.models.catalog import Base
from kickwheel.records import Adapter


def adapter_file(adapter: Path) -> Path:
    """The GGUF file of an adapter's folder, or the file itself.

    Raises:
        DataError: there is none.
    """
    file = adapter if adapter.is_file() else adapter / "adapter.gguf"
    if not file.is_file():
        what = "no adapter.gguf there" if adapter.is_dir() else "no such adapter"
        raise DataError(f"{adapter}: {what}. Tune one with kickwheel tune.")
    return file.resolve()


def record_in(folder: Path) -> Adapter | None:
    """The record of an adapter's folder; `None` where it was made elsewhere and has none.

    Raises:
        StoreError: it is damaged.
    """
    return read_record(folder, Adapter) if (folder / "adapter.json").exists() else None


def calls_only(record: Adapter | None) -> bool:
    """Whether every answer that the adapter was tuned on is a call."""
    answers = record.config.get("answers") if record else None
    return isinstance(answers, dict) and set(answers) == {"call"}


def check_fits(file: Path, base: Base, header: gguf.Header) -> None:
    """Returns if the adapter belongs to the base.

    Raises:
        DataError: it is none, or was tuned on another base.
    """
    adapter = gguf.read_header(file)
    if adapter.metadata.get("general.type") != "adapter":
        raise DataError(f"{file}: a GGUF, but no adapter")
    record = record_in(file.parent)
    if record is not None and record.base_sha256 not in ("", base.sha256):
        raise DataError(
            f"{file}: tuned on {record.base} with SHA-256 {record.base_sha256[:12]}…, not on "
            f"{base.name} ({base.sha256[:12]}…). Serve it beside its own base, or tune it again."
        )
    if adapter.architecture != header.architecture:
        raise DataError(
            f"{file}: an adapter for {adapter.architecture}, but {base.name} is "
            f"{header.architecture}. Serve it beside its own base."
        )
    for name, (shape, _) in adapter.tensors.items():
        # lora_a is [in, rank] and lora_b [rank, out], fastest dimension first.
        weight, _, which = name.rpartition(".")
        known = header.tensors.get(weight)
        side = 0 if which == "lora_a" else -1
        if known is None or shape[side] != known[0][side]:
            has = "has no such weight" if known is None else f"has {known[0]}"
            raise DataError(
                f"{file}: {name} is {shape}, but {base.name} {has}: an adapter for another base."
            )
