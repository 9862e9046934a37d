"""A file that was checked, and what it says of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kickwheel.appfile import AppFile, Flywheel
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import Part

SHELVES = ("models", "tools", "memory", "agents")
"""Shelves in the order in which their parts are opened."""
ANSWERING = ("agents", "models")
"""Shelves whose parts answer questions."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A file that was checked: every part a valid object, every name leads somewhere."""

    file: Path
    config: AppFile
    parts: Mapping[tuple[str, str], Part]
    store: Path
    """The folder of the store."""
    database: str | None = field(default=None, repr=False)
    """URL of the store's database, which may hold a password; `None` where it is in the folder."""

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the file start from."""
        return self.file.parent

    @property
    def loop(self) -> Flywheel:
        """The flywheel section.

        Raises:
            UsageError: the file has none.
        """
        if self.config.flywheel is None:
            raise UsageError(
                f"{self.file}: has no flywheel section. Add one, for example\n"
                "flywheel: {model: specialist, training_type: lora}"
            )
        return self.config.flywheel


@dataclass(frozen=True, slots=True)
class Trainable:
    """A model that can be tuned."""

    base: str
    """Name of the base, as the catalog takes it."""
    adapter: str
    """The ref that a promotion moves."""


def no_app(folder: Path) -> Plan:
    """An app without any parts, whose store is in the folder."""
    config = AppFile()
    return Plan(folder.resolve() / "app.yml", config, {}, folder.resolve() / config.place()[0])


def trained(plan: Plan) -> Trainable:
    """The model that the flywheel tunes: its base, and the ref that a promotion moves.

    Raises:
        UsageError: the file has no flywheel, or its model names no adapter ref.
    """
    part = plan.parts["models", plan.loop.model]
    base, adapter = getattr(part, "base", None), getattr(part, "adapter", None)
    if not isinstance(base, str) or not isinstance(adapter, str):
        raise UsageError(f"{plan.file}: models.{plan.loop.model} needs a base and an adapter ref")
    beside = plan.folder / base
    return Trainable(str(beside) if beside.exists() else base, adapter)
