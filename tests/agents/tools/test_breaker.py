import pytest

from kickwheel.agents.tools.breaker import FAILURES, PAUSE_S, Breaker, Unavailable


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def call(breaker: Breaker, *, works: bool) -> None:
    breaker.admit("weather")
    if works:
        breaker.worked()
    else:
        breaker.failed()


def opened(breaker: Breaker) -> None:
    for _ in range(FAILURES):
        call(breaker, works=False)


def test_five_failures_in_a_row_open_it_and_it_says_for_how_long(
    breaker: Breaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += 3
    with pytest.raises(
        Unavailable,
        match=r"^weather is not available until \d\d:\d\d:\d\d UTC, 27 s from now: "
        r"5 calls in a row failed\. Do without it until then$",
    ):
        breaker.admit("weather")


def test_one_success_starts_the_count_again(breaker: Breaker) -> None:
    for _ in range(3):
        for _ in range(FAILURES - 1):
            call(breaker, works=False)
        call(breaker, works=True)


def test_after_the_pause_one_call_is_let_through_and_decides(
    breaker: Breaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += PAUSE_S
    breaker.admit("weather")
    with pytest.raises(Unavailable):
        breaker.admit("weather")
    breaker.failed()
    clock.now += PAUSE_S - 1
    with pytest.raises(Unavailable):
        breaker.admit("weather")
    clock.now += 1
    call(breaker, works=True)
    call(breaker, works=False)
    call(breaker, works=True)


def test_a_probe_that_says_nothing_leaves_room_for_another(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += PAUSE_S
    breaker.admit("weather")
    breaker.spared()
    call(breaker, works=True)
    call(breaker, works=True)
