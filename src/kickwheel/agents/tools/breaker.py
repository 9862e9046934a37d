"""A circuit breaker: what fails again and again is left in peace for a while.

closed ──FAILURES in a row──▶ open ──PAUSE_S──▶ one call is let through, the probe
  ▲                            ▲                        │
  └────────────────────────────┼─────── it works ◀──────┤
                               └─────── it fails ◀──────┘
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from kickwheel.core.errors import ToolError

FAILURES = 5
"""Failures in a row that open a breaker."""
PAUSE_S = 30.0
"""Seconds until an open breaker lets one call through."""


class Unavailable(ToolError):
    """The tool failed too often a moment ago; it was not called."""


class Breaker:
    """The breaker of one tool box; see the module."""

    __slots__ = ("_clock", "_failures", "_opened", "_probing")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._opened: float | None = None
        self._probing = False

    def admit(self, name: str) -> None:
        """Lets a call of the tool `name` pass; it ends with `worked`, `failed` or `spared`.

        Raises:
            Unavailable: the breaker is open, or its probe is on the way.
        """
        if self._opened is None:
            return
        left_s = self._opened + PAUSE_S - self._clock()
        if left_s > 0 or self._probing:
            until = datetime.now(UTC) + timedelta(seconds=max(left_s, 1.0))
            raise Unavailable(
                f"{name} is not available until {until:%H:%M:%S} UTC, {max(left_s, 1.0):.0f} s "
                f"from now: {self._failures} calls in a row failed. Do without it until then"
            )
        self._probing = True

    def worked(self) -> None:
        """The call came back."""
        self._failures = 0
        self._opened = None
        self._probing = False

    def failed(self) -> None:
        """The call failed in a way that says something about the tool, not about the arguments."""
        self._failures += 1
        if self._probing or self._failures >= FAILURES:
            self._opened = self._clock()
        self._probing = False

    def spared(self) -> None:
        """The call ended without saying anything about the tool: it was cancelled, or refused."""
        self._probing = False
