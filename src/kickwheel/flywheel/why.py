"""The way back from an example, an answer or a trace, and on to every adapter made from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kickwheel.app import check_app
from kickwheel.core.errors import UsageError
from kickwheel.core.store import Store, open_store
from kickwheel.records import (
    Adapter,
    Dataset,
    Dropped,
    Example,
    Message,
    Outcome,
    Report,
    Trace,
)
from kickwheel.trace.store import Traces

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """An example in one dataset, and what came of it there."""

    dataset: str
    example: Example
    adapters: tuple[str, ...]
    """Adapters tuned on that dataset: it was learned from only where the split is `train`."""
    outcomes: tuple[tuple[str, Outcome], ...]
    """What contestants answered to it, each with the id of the report."""
    verdicts: tuple[tuple[str, str], ...]
    """What the gate said of each report on that dataset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """All that is known of one trace."""

    trace: Trace
    stays: tuple[Stay, ...]
    dropped: tuple[tuple[str, Dropped], ...]
    """Datasets that it did not get into, with step and reason."""
    refs: tuple[tuple[str, str], ...]
    """Refs that point at one of the adapters now."""


def why(identity: str, app: Path = Path()) -> Way:
    """The way of a trace: its feedback, each curation, dataset, adapter and verdict.

    Args:
        identity: id of an example or a trace, or how it begins.
        app: the app whose store is searched.
    Raises:
        UsageError: nothing begins so, or several do.
    """
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        datasets = _all(store, "dataset", Dataset)
        trace = Traces(store).get(_trace_id(identity, datasets))
        adapters = _all(store, "adapter", Adapter)
        reports = [one for one in _all(store, "report", Report) if one[1].verdict is not None]
        stays = tuple(
            _stay(name, example, adapters, reports)
            for name, dataset in datasets
            for example in dataset.examples
            if example.source == trace.id
        )
        mine = {f"adapter/{adapter}" for stay in stays for adapter in stay.adapters}
        refs = ((ref, store.refs.read(ref)) for ref in store.refs.names())
        return Way(
            trace=trace,
            stays=stays,
            dropped=tuple(
                (name, drop)
                for name, dataset in datasets
                for drop in dataset.dropped
                if drop.trace == trace.id
            ),
            refs=tuple((ref, target) for ref, target in refs if target in mine and target),
        )


def said_in(trace: Trace) -> list[Message]:
    """What was said in the trace, in its order, each thing once: a span repeats what was said in
    those around it and before."""
    moments = []
    for number, span in enumerate(trace.spans):
        moments.append((span.start_ns, number, span.input))
        # The outer span ends with what the inner ones came to.
        moments.append((span.end_ns, 2 * len(trace.spans) - number, span.output))
    said: list[Message] = []
    for _, _, messages in sorted(moments, key=lambda moment: moment[:2]):
        said += [message for message in messages if message not in said]
    return said


def _trace_id(identity: str, datasets: list[tuple[str, Dataset]]) -> str:
    sources = {
        example.source
        for _, dataset in datasets
        for example in dataset.examples
        if example.id.startswith(identity)
    }
    if len(sources) > 1:
        raise UsageError(f'several examples begin with "{identity}". Give more of the id.')
    return sources.pop() if sources else identity


def _stay(
    dataset: str,
    example: Example,
    adapters: list[tuple[str, Adapter]],
    reports: list[tuple[str, Report]],
) -> Stay:
    about = [(name, report) for name, report in reports if report.dataset == dataset]
    return Stay(
        dataset=dataset,
        example=example,
        adapters=tuple(name for name, adapter in adapters if adapter.dataset == dataset),
        outcomes=tuple(
            (name, outcome)
            for name, report in about
            for outcome in report.outcomes
            if outcome.example == example.id
        ),
        verdicts=tuple(
            (name, report.verdict.why) for name, report in about if report.verdict is not None
        ),
    )


def _all(store: Store, kind: str, of: type[R]) -> list[tuple[str, R]]:
    """Every artifact of a kind with its record, oldest first."""
    artifacts = store.artifacts
    return [(name, artifacts.record(kind, name, of)) for name in artifacts.ids(kind)]
