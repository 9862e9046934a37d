"""What the flywheel of an app has made: datasets, adapters, reports, by id."""

from pathlib import Path

from kickwheel.core.errors import UsageError
from kickwheel.core.store import Store
from kickwheel.records import Adapter, Dataset, Report

_VERBS = {"dataset": "curate", "adapter": "tune", "report": "evaluate"}
"""What makes each kind of artifact."""


class Made:
    """The artifacts of one flywheel; fine-tuning jobs, too, keep theirs in the same store."""

    def __init__(self, store: Store, ref: str) -> None:
        self._artifacts, self._ref = store.artifacts, ref

    def dataset(self, identity: str) -> Dataset:
        """The dataset with this id."""
        return self._artifacts.record("dataset", identity, Dataset)

    def adapter(self, identity: str) -> Adapter:
        """The adapter with this id."""
        return self._artifacts.record("adapter", identity, Adapter)

    def report(self, identity: str) -> Report:
        """The report with this id."""
        return self._artifacts.record("report", identity, Report)

    def measurement(self, identity: str) -> Report:
        """The measurement with this id: a report of which no gate has said anything yet."""
        return self._artifacts.record("measurement", identity, Report)

    def folder(self, kind: str, identity: str) -> Path:
        """Where the files of an artifact are."""
        return self._artifacts.path(kind, identity)

    def whole(self, kind: str, identity: str | None) -> str:
        """The whole id of an artifact that begins so; of the newest, where nothing is given.

        Raises:
            UsageError: there is none, or several begin so.
        """
        if identity is not None:
            return self.folder(kind, identity).name
        found = self.newest(kind)
        if found is None:
            raise UsageError(
                f"there is no {kind} of {self._ref} yet: `kickwheel {_VERBS[kind]}` makes one"
            )
        return found

    def newest(self, kind: str) -> str | None:
        """The id of this flywheel's newest dataset, adapter or report."""
        for identity in reversed(self._artifacts.ids(kind)):
            dataset = identity
            if kind == "adapter":
                dataset = self.adapter(identity).dataset
            elif kind == "report":
                dataset = self.report(identity).dataset
            if self.dataset(dataset).name == self._ref:
                return identity
        return None
