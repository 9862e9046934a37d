"""What stands around many questions."""

from hypothesis import given
from hypothesis import strategies as st

from kickwheel.flywheel.curate.frame import Frame, frame

BEFORE = "you sort tickets of a shop, and you are always fair and very polite: ticket: "
AFTER = " (answer with one of the four labels that you know, and with nothing else at all)"

words = st.lists(st.sampled_from(["a", "my", "order", "box", "came", "late", "why"]), max_size=6)
questions = st.lists(words, min_size=10, max_size=30).map(
    lambda many: [" ".join([f"{n}a", *one, f"{n}z"]) for n, one in enumerate(many)]
)


@given(questions)
def test_what_all_questions_share_is_no_part_of_them(texts: list[str]) -> None:
    found = frame([f"{BEFORE}{text}{AFTER}" for text in texts])
    for text in texts:
        assert found.inside(f"{BEFORE}{text}{AFTER}") == text


@given(questions)
def test_short_beginnings_are_part_of_the_question(texts: list[str]) -> None:
    assert frame([f"please tell me {text}" for text in texts]) == Frame()


def test_two_prompts_in_one_workload_are_two_frames() -> None:
    other = "translate the sentence into french, keep names as they are, no comments: sentence: "
    texts = [f"{BEFORE}{n} boxes" for n in range(20)] + [f"{other}{n} cats" for n in range(20)]
    found = frame(texts)
    assert {found.inside(text) for text in texts[:20]} == {f"{n} boxes" for n in range(20)}
    assert {found.inside(text) for text in texts[20:]} == {f"{n} cats" for n in range(20)}


def test_few_questions_have_no_frame() -> None:
    assert frame([f"{BEFORE}{n} boxes" for n in range(9)]) == Frame()
    assert frame([]) == Frame()
