"""The table on docs/bridges/README.md: which framework does what, as the tests saw it.

A test that carries `@pytest.mark.shows("recorded")` fills a cell of the row of its module's
`FRAMEWORK`; where its tools are known to differ, `FRAMEWORK.differs` says how. At the end of a
session the rows of the frameworks that were tested whole must be those on the page;
`--write-table` writes them there.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "bridges" / "README.md"
CELLS = ("recorded", "streamed", "tools equal", "its own telemetry", "as ours", "ours as theirs")

_passed = pytest.StashKey[dict[str, dict[str, bool]]]()
_rows = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write the table on the page")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shows(cell): fills that cell of the table")
    config.stash[_passed] = {}
    config.stash[_rows] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Iterator[Any]:
    report: Any = yield
    framework = getattr(item.module, "FRAMEWORK", None)
    if framework is not None and (call.when == "call" or report.failed):
        cells = item.config.stash[_passed].setdefault(framework.name, {})
        item.config.stash[_rows][framework.name] = framework
        for mark in item.iter_markers("shows"):
            for cell in mark.args:
                cells[cell] = cells.get(cell, True) and report.passed
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    rows = {
        name: _row(config.stash[_rows][name], cells)
        for name, cells in config.stash[_passed].items()
        if cells.keys() >= set(CELLS)
    }
    if not rows:
        return
    before = PAGE.read_text("utf-8")
    after = _with(before, rows)
    if after == before:
        return
    if config.getoption("--write-table"):
        PAGE.write_text(after, "utf-8")
        return
    print(f"\n{PAGE} is stale; pytest --write-table writes:\n" + "\n".join(rows.values()))
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _row(framework: Any, cells: dict[str, bool]) -> str:
    tested = ", ".join(f"{name} {version(name)}" for name in framework.packages)
    marks = {cell: "yes" if cells[cell] else "no" for cell in CELLS}
    if cells["tools equal"]:
        marks["tools equal"] = getattr(framework, "differs", "yes")
    if cells["its own telemetry"]:
        marks["its own telemetry"] = framework.telemetry.cell
    first = f"| {framework.name} | `{framework.kind}` | {tested} | "
    return first + " | ".join(marks.values()) + " |"


def _with(page: str, rows: dict[str, str]) -> str:
    """The page with these rows in the place of those of the same frameworks, or added."""
    lines = page.splitlines()
    last = max(place for place, line in enumerate(lines) if line.startswith("|"))
    for name, row in rows.items():
        old = [place for place, line in enumerate(lines) if line.startswith(f"| {name} |")]
        if old:
            lines[old[0]] = row
        else:
            last += 1
            lines.insert(last, row)
    return "\n".join(lines) + "\n"
