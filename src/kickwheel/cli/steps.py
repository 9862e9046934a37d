"""What a terminal shows of the flywheel's steps."""

import sys
import time
from types import TracebackType
from typing import Self

import click

from kickwheel.cli.show import Progress, table
from kickwheel.records import Report


class Steps:
    """Progress of running steps, and a line for each that ended."""

    def __init__(self) -> None:
        self._bars: dict[str, Progress] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)

    def step(self, name: str, note: str) -> None:
        """A step has ended."""
        now = time.monotonic()
        took = f"{now - self._last:6.1f} s"
        self._last = now
        bar = self._bars.pop(name, None) or Progress(name)
        bar.say(f"{click.style(f'{name:9}', bold=True)} {click.style(took, dim=True)}  {note}")

    def update(self, name: str, done: float, total: float, note: str) -> None:
        """A running step is at `done` of `total`."""
        self._bars.setdefault(name, Progress(f"{name:9}")).update(done, total, note)


def ended(report: Report) -> str:
    """The report as a table for the terminal."""
    from kickwheel.flywheel.evaluate.page import table as rows

    header, *lines = rows(report)
    return table(lines, header)
