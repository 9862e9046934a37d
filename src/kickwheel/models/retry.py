"""Asking again: what passes by itself is asked up to three times, under one deadline.

The time that a server asks for is waited, however long, or not at all: where it ends after the
deadline, or somebody else may answer sooner, the refusal is told at once.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from typing import TypeVar

from kickwheel.core.errors import ModelError

T = TypeVar("T")

TRIES = 3
"""The first one and two more."""
FIRST_WAIT_S = 0.5
"""Before the second try, where the server does not say; twice as long before the third."""
LONGEST_WAIT_S = 2.0
"""Where somebody else may answer: a longer wait is not begun."""
_PASSING = frozenset((408, 409, 429))
_others: ContextVar[bool] = ContextVar("kickwheel_others", default=False)


class Refused(Exception):
    """A try that brought no answer."""

    def __init__(self, told: ModelError, *, again: bool) -> None:
        super().__init__(str(told))
        self.told = told
        """The error, should no other try follow."""
        self.again = again
        """Whether another try may bring one."""


async def persist(attempt: Callable[[], Awaitable[T]], deadline: float) -> T:
    """The result of `attempt`, made again where it was refused and another try may help.

    Args:
        deadline: by the running loop's clock; no try begins after it.
    Raises:
        ModelError: it was refused for good, `TRIES` times, or there was no time left.
    """
    tries = 1
    while True:
        try:
            return await attempt()
        except Refused as refused:
            wait_s = refused.told.retry_after_s
            if wait_s is None:
                # Jitter keeps clients that failed together from coming back together.
                wait_s = FIRST_WAIT_S * 2 ** (tries - 1) * (1 - 0.25 * random.random())
            late = asyncio.get_running_loop().time() + wait_s >= deadline
            late = late or (_others.get() and wait_s > LONGEST_WAIT_S)
            if not refused.again or tries == TRIES or late:
                raise refused.told from refused.__cause__
        tries += 1
        await asyncio.sleep(wait_s)


@contextmanager
def others_may_answer() -> Iterator[None]:
    """Inside, whoever refuses is not waited for long: another model is asked next."""
    before = _others.set(True)
    try:
        yield
    finally:
        _others.reset(before)


def refused(
    text: str, status: int, headers: Mapping[str, str], *, key_hint: str = "the key"
) -> Refused:
    """The refusal that an HTTP status means.

    Args:
        text: what was said, without secrets.
        status: above 200.
        key_hint: what to check where the status is 401 or 403.
    """
    again = status in _PASSING or status >= 500
    if headers.get("x-should-retry") in ("true", "false"):
        again = headers["x-should-retry"] == "true"
    ours = 502
    if status in (401, 403):
        text, ours = f"{text.rstrip(' .')}. Check {key_hint}.", 401
    elif status == 529:  # Anthropic is overloaded: come back later.
        ours = 429
    elif status in (400, 404, 429):
        ours = status
    elif status in (413, 422):
        ours = 400
    elif status in (408, 504):
        ours = 504
    told = ModelError(text, status=ours, retry_after_s=retry_after_s(headers))
    return Refused(told, again=again)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the server asks to wait; `None` where it does not say."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds == seconds and seconds != float("inf"):
            return max(0.0, seconds)
    return None
