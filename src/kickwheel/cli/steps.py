"""What a terminal shows of the flywheel's steps."""

import signal
import socket
import sys
import time
from types import TracebackType
from typing import Self

import click

from kickwheel.cli.show import Progress, table
from kickwheel.records import Report


class Steps:
    """Progress of running steps, and a line for each that ended.

    A Ctrl-C holds here: inside a destructor, or a library that catches everything, Python loses
    it, and it is raised again at the next progress.
    """

    def __init__(self) -> None:
        self._bars: dict[str, Progress] = {}
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        # Beside its handler, whoever that is then, each signal leaves a byte here.
        self._signals, self._written = socket.socketpair()
        self._signals.setblocking(False)
        self._written.setblocking(False)
        self._before = signal.set_wakeup_fd(self._written.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(self._before)
        self._signals.close()
        self._written.close()
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
        if self._interrupted():
            raise KeyboardInterrupt
        self._bars.setdefault(name, Progress(f"{name:9}")).update(done, total, note)

    def _interrupted(self) -> bool:
        try:
            return signal.SIGINT in self._signals.recv(64)
        except BlockingIOError:
            return False


def ended(report: Report) -> str:
    """The report as a table for the terminal."""
    from kickwheel.flywheel.evaluate.page import table as rows

    header, *lines = rows(report)
    return table(lines, header)
