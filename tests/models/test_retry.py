"""What passes by itself is asked again: at most three times, under one deadline."""

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.core.errors import ModelError
from kickwheel.models.retry import FIRST_WAIT_S, TRIES, persist, refused, retry_after_s

STATUSES = [400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529]


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes at once: it moves on to whatever is waited for."""

    def __init__(self) -> None:
        self.now_s = 0.0
        clock = self

        class Select(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
            def select(self, timeout: float | None = None) -> Any:
                clock.now_s += timeout or 0.0
                return super().select(0)

        super().__init__(Select())

    def time(self) -> float:
        return self.now_s


def on_a_clock(work: Callable[[Clock], Coroutine[Any, Any, None]]) -> None:
    loop = Clock()
    try:
        loop.run_until_complete(work(loop))
    finally:
        loop.close()


@settings(deadline=None)
@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from(STATUSES),
            st.none() | st.floats(min_value=0, max_value=200),
            st.floats(min_value=0, max_value=20),
        ),
        max_size=5,
    ),
    deadline=st.floats(min_value=0.1, max_value=100),
)
def test_no_server_makes_us_ask_too_often_too_early_or_too_late(
    answers: list[tuple[int, float | None, float]], deadline: float
) -> None:
    """Each answer: its status, the wait that it asks for, and how long it takes."""

    async def work(loop: Clock) -> None:
        began: list[float] = []
        ended: list[float] = []

        async def attempt() -> str:
            began.append(loop.time())
            if len(began) > len(answers):
                return "answer"
            status, wait_s, takes_s = answers[len(began) - 1]
            await asyncio.sleep(takes_s)
            ended.append(loop.time())
            headers = {} if wait_s is None else {"retry-after": str(wait_s)}
            raise refused("no", status, headers)

        error: ModelError | None = None
        try:
            assert await persist(attempt, deadline) == "answer"
        except ModelError as raised:
            error = raised
        assert len(began) <= TRIES
        for i, start in enumerate(began[1:]):
            status, wait_s, _ = answers[i]
            assert status in (408, 409, 429) or status >= 500, "what will not pass is asked once"
            assert start < deadline, "no try begins after the deadline"
            waited = start - ended[i]
            if wait_s is not None:
                assert waited == pytest.approx(wait_s, abs=1e-3)
            else:
                most = FIRST_WAIT_S * 2**i
                assert 0.75 * most - 1e-3 <= waited <= most + 1e-3
        if error is not None:
            status, wait_s, _ = answers[len(began) - 1]
            assert error.status in (400, 401, 404, 429, 502, 504)
            assert error.retry_after_s == wait_s
            assert loop.time() == pytest.approx(ended[-1]), "what ends late is not waited for"

    on_a_clock(work)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_the_wait_that_is_asked_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_a_date_to_come_back_at_is_read_as_the_time_until_then() -> None:
    headers = {"retry-after": formatdate(time.time() + 100, usegmt=True)}
    assert retry_after_s(headers) == pytest.approx(100, abs=5)


@given(st.text(max_size=40))
def test_whatever_stands_in_the_header_it_is_a_time_or_nothing(value: str) -> None:
    found = retry_after_s({"retry-after": value})
    assert found is None or 0 <= found < float("inf")
