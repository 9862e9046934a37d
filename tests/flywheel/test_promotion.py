"""Refs move after the gate, and back."""

from pathlib import Path

import pytest

from kickwheel import promote, rollback, why
from kickwheel.core.errors import NotPromoted, UsageError
from kickwheel.core.store import open_store
from tests.flywheel import made


def test_a_promotion_needs_the_gates_word(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        first = made.adapter(store, dataset, 1)
        with pytest.raises(UsageError, match="no report yet"):
            promote(app)
        made.report(store, dataset, first, promoted=False)
        with pytest.raises(NotPromoted, match="better by 10 points"):
            promote(app)
        assert store.refs.read("mine/specialist") is None


def test_promotions_and_rollbacks_move_the_ref_there_and_back(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        first, second = (made.adapter(store, dataset, seed) for seed in (1, 2))
        made.report(store, dataset, first, promoted=True)
        assert promote(app) == f"adapter/{first}"
        made.report(store, dataset, second, promoted=True, incumbent=f"adapter/{first}")
        assert promote(app) == f"adapter/{second}"
        assert promote(app) == f"adapter/{second}"
        assert rollback(app) == ("mine/specialist", f"adapter/{first}")
        assert rollback(app) == ("mine/specialist", None)
        with pytest.raises(UsageError, match="nothing before"):
            rollback(app)
        assert len(store.refs.history("mine/specialist")) == 4


def test_who_was_compared_with_another_incumbent_is_not_promoted(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        first, second = (made.adapter(store, dataset, seed) for seed in (1, 2))
        made.report(store, dataset, first, promoted=True)
        promote(app)
        made.report(store, dataset, second, promoted=True)
        with pytest.raises(UsageError, match="Compare again"):
            promote(app)
        assert store.refs.read("mine/specialist") == f"adapter/{first}"


def test_why_leads_from_an_example_to_its_trace_and_on_to_the_verdict(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
        adapter = made.adapter(store, dataset, 1)
        report = made.report(store, dataset, adapter, promoted=True)
        promote(app)
    way = why("e1", app)
    assert way.trace.id == made.trace(1).id
    assert way.trace.feedback[0].note == "yes"
    (stay,) = way.stays
    assert (stay.dataset, stay.adapters) == (dataset, (adapter,))
    assert stay.outcomes[0][0] == report
    assert stay.verdicts == ((report, "better by 10 points"),)
    assert way.refs == (("mine/specialist", f"adapter/{adapter}"),)


def test_why_says_where_a_trace_was_dropped(tmp_path: Path) -> None:
    app = made.app(tmp_path)
    with open_store(app / ".kickwheel") as store:
        dataset = made.dataset(store)
    way = why(made.trace(2).id, app)
    assert [(name, drop.reason) for name, drop in way.dropped] == [(dataset, "stands twice")]
    with pytest.raises(UsageError, match='no trace "zz"'):
        why("zz", app)
