"""A promotion moves a ref after the gate; a rollback moves it back."""

from pathlib import Path

from kickwheel.app import Plan, check_app, trained
from kickwheel.core.errors import NotPromoted, UsageError
from kickwheel.core.store import Move, Store, open_store
from kickwheel.records import Report


def promote(app: Path = Path(), adapter: str | None = None) -> str:
    """Points the app's ref at an adapter whose report the gate let pass; returns `adapter/<id>`.

    Args:
        app: the app file, or its folder.
        adapter: id of the adapter, or how it begins; by default that of the newest report. An
            adapter that was rolled back must be named.
    Raises:
        NotPromoted: the gate said no; the text says why. Nothing was changed.
        UsageError: there is no report on it, the ref was moved since it was compared, or it was
            rolled back and is not named.
    """
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        identity, report = _newest(store, adapter)
        assert report.verdict is not None
        if not report.verdict.promoted:
            raise NotPromoted(report.verdict.why)
        back = taken_back(store, plan, report)
        if back is not None and adapter is None:
            raise UsageError(
                f"adapter/{report.adapter} was promoted before and taken back ({back.why}). To "
                f"put it to work again, name it: --adapter {report.adapter}"
            )
        return move(store, plan, report, identity)


def taken_back(store: Store, plan: Plan, report: Report) -> Move | None:
    """The rollback that took the report's adapter from work; `None` where none did, or where it
    was promoted again since."""
    before: str | None = None
    found = None
    for one in store.refs.history(trained(plan).adapter):
        if one.target == f"adapter/{report.adapter}":
            found = None
        elif before == f"adapter/{report.adapter}" and one.is_rollback:
            found = one
        before = one.target
    return found


def move(store: Store, plan: Plan, report: Report, identity: str) -> str:
    """Moves the ref to the report's adapter, if it still points at the report's incumbent."""
    ref, target = trained(plan).adapter, f"adapter/{report.adapter}"
    if store.refs.read(ref) != target:
        why = f"report {identity}: {report.verdict.why if report.verdict else ''}"
        store.refs.move(ref, target, expected=report.incumbent, why=why)
    return target


def rollback(app: Path = Path(), *, why: str = "by hand") -> tuple[str, str | None]:
    """Takes the last promotion back; returns the ref and where it points now.

    Raises:
        UsageError: nothing was promoted before.
    """
    plan = check_app(app)
    ref = trained(plan).adapter
    with open_store(plan.store, plan.database) as store:
        return ref, store.refs.back(ref, why=why)


def _newest(store: Store, adapter: str | None) -> tuple[str, Report]:
    for identity in reversed(store.artifacts.ids("report")):
        report = store.artifacts.record("report", identity, Report)
        wanted = adapter is None or (report.adapter or "").startswith(adapter)
        if report.verdict is not None and wanted:
            return identity, report
    what = f'on an adapter "{adapter}"' if adapter else "yet"
    raise UsageError(f"no report {what}: compare first, with kickwheel turn or kickwheel evaluate")
