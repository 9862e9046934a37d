"""What a snapshot is made of: packages, base and adapter, as a CycloneDX 1.6 document.

Source: ECMA-424, CycloneDX 1.6; models are components of type `machine-learning-model`.
"""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from kickwheel.core.files import sha256
from kickwheel.records import Adapter, Snapshot


def sbom(snapshot: Snapshot, record: Adapter, adapter: Path) -> dict[str, Any]:
    """The document; packages are those that kickwheel needs here, in the versions installed."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": snapshot.ref,
                "name": snapshot.ref,
                "version": snapshot.adapter,
            }
        },
        "components": [
            _model(snapshot.base, "base", snapshot.base_sha256),
            _model(
                f"{snapshot.ref}-adapter",
                snapshot.adapter,
                sha256(adapter / "adapter_model.safetensors"),
            ),
            {
                "type": "data",
                "bom-ref": f"dataset-{record.dataset}",
                "name": "training dataset",
                "version": record.dataset,
            },
            *(_package(found) for _, found in sorted(_closure("kickwheel").items())),
        ],
    }


def _model(name: str, version: str, digest: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model-{name}",
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def _package(found: Distribution) -> dict[str, Any]:
    name = _canonical(found.metadata["Name"])
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{found.version}",
        "name": name,
        "version": found.version,
        "purl": f"pkg:pypi/{name}@{found.version}",
    }
    if "License-Expression" in found.metadata:
        component["licenses"] = [{"expression": found.metadata["License-Expression"]}]
    return component


def _closure(root: str) -> dict[str, Distribution]:
    """The installed packages that serving needs: what `root` and its extra `local` require."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        name = _canonical(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        requirements = found[name].requires or []
        wanted = [r for r in requirements if "extra ==" not in r or _local(r, name == root)]
        waiting += [re.split(r"[ ;<>=!~\[(]", requirement, maxsplit=1)[0] for requirement in wanted]
    return found


def _local(requirement: str, of_root: bool) -> bool:
    return of_root and re.search(r"extra == ['\"]local['\"]", requirement) is not None


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
