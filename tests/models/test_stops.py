from hypothesis import given
from hypothesis import strategies as st

from kickwheel.models.stops import Stops

SHORT = st.text("ab\n", max_size=12)


def ended(whole: str, stops: list[str]) -> str:
    """The text as a model writes it, sign by sign, until a stop stands at its end."""
    for length in range(1, len(whole) + 1):
        met = [len(stop) for stop in stops if stop and whole[:length].endswith(stop)]
        if met:
            return whole[: length - max(met)]
    return whole


@given(pieces=st.lists(SHORT, max_size=8), stops=st.lists(SHORT, max_size=3))
def test_however_it_is_cut_an_answer_ends_before_the_stop_that_is_whole_first(
    pieces: list[str], stops: list[str]
) -> None:
    whole = "".join(pieces)
    read = Stops(stops)
    told = [read.passed(piece) for piece in pieces]
    assert "".join([*told, read.rest()]) == ended(whole, stops)
    assert read.met is any(stop and stop in whole for stop in stops)
