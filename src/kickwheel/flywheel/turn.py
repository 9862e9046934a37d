"""One turn of the whole flywheel, and its steps one by one.

Each step is in the journal: killed anywhere and started again, a turn goes on where it was. The
incumbent is read once, when the adapter is begun, so that a turn which was killed after its
promotion does not compare the winner with itself.
"""

from dataclasses import dataclass
from pathlib import Path

from kickwheel.flywheel.watch import Watch
from kickwheel.flywheel.wheel import Wheel, wheel


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """What a turn came to: ids of what it made, and what the gate said."""

    ref: str
    dataset: str
    adapter: str
    report: str
    snapshot: str
    promoted: bool
    why: str


def turn(app: Path = Path(), *, full: bool = False, watch: Watch | None = None) -> Turned:
    """Turns the flywheel of an app once: traffic, dataset, adapter, report, gate, snapshot.

    Started again on the same traffic and options it goes on where it was killed, and where it had
    ended it returns the same result.

    Args:
        app: the app file, or its folder.
        full: whether the slow contestant answers every test question, instead of the number that
            the file sets, and a learning curve is measured.
        watch: who is told how far it is.
    Raises:
        KickwheelError: a step cannot be done; what was finished stays.
    """
    with wheel(app, full=full, watch=watch) as steps:
        return turn_of(steps)


def curate(app: Path = Path(), *, watch: Watch | None = None) -> str:
    """Id of the dataset that the app's traces make; see `Wheel.curate`."""
    with wheel(app, watch=watch) as steps:
        steps.take_in()
        return steps.curate()


def tune(app: Path = Path(), dataset: str | None = None, *, watch: Watch | None = None) -> str:
    """Id of an adapter tuned on a dataset of the app, by default the newest."""
    with wheel(app, watch=watch) as steps:
        return steps.tune(steps.made.whole("dataset", dataset))


def evaluate(
    app: Path = Path(),
    adapter: str | None = None,
    *,
    full: bool = False,
    watch: Watch | None = None,
) -> str:
    """Id of the report on an adapter of the app, by default the newest; nothing is promoted."""
    with wheel(app, full=full, watch=watch) as steps:
        return steps.compared(steps.made.whole("adapter", adapter))


def snapshot(app: Path = Path(), report: str | None = None, *, watch: Watch | None = None) -> str:
    """Id of the snapshot of what a report of the app is about, by default the newest."""
    with wheel(app, watch=watch) as steps:
        return steps.snapshot(steps.made.whole("report", report))


def turn_of(steps: Wheel) -> Turned:
    """All steps, one after another."""
    steps.take_in()
    dataset = steps.curate()
    incumbent = steps.incumbent(dataset)
    adapter = steps.tune(dataset)
    measurement = steps.evaluate(dataset, adapter, incumbent)
    report = steps.gate(measurement, steps.learn(dataset, adapter) if steps.full else ())
    snapshot = steps.snapshot(report)
    verdict = steps.made.report(report).verdict
    assert verdict is not None
    if verdict.promoted:
        steps.promote(report)
    return Turned(
        ref=steps.ref,
        dataset=dataset,
        adapter=adapter,
        report=report,
        snapshot=snapshot,
        promoted=verdict.promoted,
        why=verdict.why,
    )
