"""Fixtures that every room's tests may use, and how the suite is shared out to processes."""

import itertools
import os
import signal

import pytest
from hypothesis import settings

from tests.postgres import database, postgres, postgres_url

__all__ = ["database", "postgres", "postgres_url"]

# How long an example takes says more of the machine than of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Started in the background, as CI may, Python leaves Ctrl-C ignored, and so would its children.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Keeps each of several processes to a core, or to a few where there are more cores: what tunes
    or answers with a model takes all that it may use, and two such on the same cores are slower
    than one after the other."""
    worker = getattr(config, "workerinput", None)
    if worker is None or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    first = int(worker["workerid"].removeprefix("gw")) % len(cores)
    os.sched_setaffinity(0, cores[first :: worker["workercount"]])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long ones first, dealt out among the processes, each of which begins with as many tests
    as the others: begun last, one of them would keep a single process at work."""
    count = getattr(config, "workerinput", {"workercount": 1})["workercount"]
    long = sorted((item for item in items if item.get_closest_marker("slow")), key=_minutes)[::-1]
    short = iter([item for item in items if not item.get_closest_marker("slow")])
    left, dealt = len(items), list[pytest.Item]()
    for number in range(count):
        mine = long[number::count]
        share = (left - len(dealt)) // (count - number)
        dealt += [*mine, *itertools.islice(short, max(0, share - len(mine)))]
    items[:] = [*dealt, *short]


def _minutes(item: pytest.Item) -> float:
    """What a test's mark says of how long it takes; `slow` alone means some seconds."""
    mark = item.get_closest_marker("slow")
    return float(mark.kwargs.get("minutes", 0)) if mark else 0.0
