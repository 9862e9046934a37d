"""The folder of a snapshot.

It holds nothing of the hour or the machine, so that packing the same twice gives the same id.
"""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from kickwheel.app import Plan
from kickwheel.core.errors import UsageError
from kickwheel.core.files import sha256, write_whole
from kickwheel.core.store.files import MANIFEST, read_record
from kickwheel.flywheel.snapshot.sbom import sbom
from kickwheel.records import Adapter, Snapshot, wire

RECORD = "snapshot.json"
_SECRET = ("api_key", "key", "password", "token")


def pack(out: Path, snapshot: Snapshot, *, plan: Plan, adapter: Path, report: Path) -> None:
    """Fills the empty folder `out`.

    Args:
        snapshot: what is packed.
        plan: the app; its folder is copied without hidden files, its store and its traffic.
        adapter: folder of the adapter's artifact.
        report: folder of the report's artifact.
    Raises:
        UsageError: the app file no longer names the model, or holds a key in plain text.
    """
    for path in _files(plan):
        target = out / "app" / path.relative_to(plan.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    write_whole(out / "app" / "app.yml", _pinned(plan.file, snapshot.model))
    for folder, name in ((adapter, "adapter"), (report, "report")):
        shutil.copytree(folder, out / name, ignore=shutil.ignore_patterns(MANIFEST))
    record = read_record(adapter, Adapter)
    write_whole(out / "sbom.cdx.json", json.dumps(sbom(snapshot, record, adapter), indent=1))
    write_whole(out / RECORD, wire.to_bytes(snapshot))


def contents(plan: Plan) -> str:
    """Another text when a file of the app was changed that a snapshot holds."""
    found = {str(path.relative_to(plan.folder)): sha256(path) for path in _files(plan)}
    return wire.digest(found)


def _files(plan: Plan) -> list[Path]:
    loop = plan.config.flywheel
    left_out = [plan.store, *(plan.folder / entry for entry in (loop.traffic if loop else ()))]
    return [
        path
        for path in sorted(plan.folder.rglob("*"))
        if path.is_file()
        and path.suffix != ".pyc"
        and not any(part.startswith(".") for part in path.relative_to(plan.folder).parts)
        and not any(path.is_relative_to(left) for left in left_out)
    ]


def _pinned(app: Path, model: str) -> str:
    """The app file with the model's ref replaced by the packed adapter."""
    yaml = YAML(typ="rt")
    data = yaml.load(app.read_text(encoding="utf-8"))
    if model not in (data.get("models") or {}):
        raise UsageError(f"{app}: has no model {model} any more; turn again")
    for where, value in _texts(data):
        if where.rpartition(".")[2] in _SECRET and not value.startswith("${"):
            raise UsageError(
                f"{app}: {where} is a key in plain text, which a snapshot would carry along. "
                "Write ${NAME}, and set NAME where it is served."
            )
    data["models"][model]["adapter"] = "../adapter"
    data.pop("store", None)
    # The traffic stays where it is: a snapshot serves, and does not learn.
    data.get("flywheel", {}).pop("traffic", None)
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()


def _texts(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, str):
        yield where, node
