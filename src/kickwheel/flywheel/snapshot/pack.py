"""The folder of a snapshot.

It holds nothing of the hour or the machine, so that packing the same twice gives the same id.
"""

import io
import json
import shutil
from pathlib import Path

from ruamel.yaml import YAML

from kickwheel.core.errors import UsageError
from kickwheel.core.files import write_whole
from kickwheel.flywheel.snapshot.sbom import sbom
from kickwheel.records import Adapter, Snapshot, wire

RECORD = "snapshot.json"


def pack(out: Path, snapshot: Snapshot, *, app: Path, adapter: Path, report: Path) -> None:
    """Fills the empty folder `out`.

    Args:
        snapshot: what is packed.
        app: the app file; its folder is copied without hidden files and stores.
        adapter: folder of the adapter's artifact.
        report: folder of the report's artifact.
    Raises:
        UsageError: the app file no longer names the model.
    """
    shutil.copytree(
        app.parent, out / "app", ignore=shutil.ignore_patterns(".*", "__pycache__", "*.pyc")
    )
    write_whole(out / "app" / "app.yml", _pinned(app, snapshot.model))
    for folder, name in ((adapter, "adapter"), (report, "report")):
        shutil.copytree(folder, out / name, ignore=shutil.ignore_patterns("manifest.json"))
    record = wire.from_bytes((adapter / "adapter.json").read_bytes(), Adapter)
    write_whole(out / "sbom.cdx.json", json.dumps(sbom(snapshot, record, adapter), indent=1))
    write_whole(out / RECORD, wire.to_bytes(snapshot))


def _pinned(app: Path, model: str) -> str:
    """The app file with the model's ref replaced by the packed adapter."""
    yaml = YAML(typ="rt")
    data = yaml.load(app.read_text(encoding="utf-8"))
    try:
        data["models"][model]["adapter"] = "../adapter"
    except KeyError as error:
        raise UsageError(f"{app}: has no model {model} any more; turn again") from error
    data.pop("store", None)
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()
