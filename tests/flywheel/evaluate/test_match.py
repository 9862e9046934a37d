import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.flywheel.evaluate.made import BOOK, CITIES, called, example, said

from kickwheel.flywheel.evaluate import call, match
from kickwheel.records import AcceptedCall, Example, Message, ToolCall

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def table(**accepted: tuple[object, ...]) -> Example:
    arguments = {"city": ("New York", "NYC"), "seats": (2,), "outside": (False,), **accepted}
    return example(
        1,
        "a table",
        called("book", city="New York", seats=2),
        tools=(BOOK,),
        accepted=[AcceptedCall(name="book", arguments=arguments, optional=("outside",))],
    )


def faults(answer: Message, wanted: Example | None = None) -> list[str]:
    return [m.fault for m in call.mistakes(answer.tool_calls, wanted or table())]


def test_accepted_values_pass_in_any_case_and_punctuation() -> None:
    assert faults(called("book", city="new-york", seats=2)) == []
    assert faults(called("book", city="N.Y.C.", seats=2, outside=False)) == []


def test_what_is_wrong_is_named() -> None:
    assert faults(called("book", city="Rome", seats=2)) == ["wrong string"]
    assert faults(called("book", city="Rome", seats=3)) == ["wrong string", "wrong number"]
    assert faults(called("book", seats=2)) == ["missing argument"]
    assert faults(called("book", city="NYC")) == ["missing argument"]
    assert faults(called("book", city="NYC", seats="2")) == ["wrong type"]
    assert faults(called("book", city="NYC", seats=2.0)) == ["wrong type"]
    assert faults(called("book", city="NYC", seats=2, outside=True)) == ["wrong boolean"]
    assert faults(called("book", city="NYC", seats=2, window=1)) == ["unexpected argument"]
    assert faults(called("find", city="NYC")) == ["wrong tool"]
    assert faults(said("I would book a table")) == ["no call"]
    two = called("book", city="NYC", seats=2).tool_calls * 2
    assert faults(Message(role="assistant", tool_calls=two)) == ["wrong number of calls"]


def test_broken_arguments_are_a_wrong_call_and_no_crash() -> None:
    for text in ("{", "[1]", "null", '"x"', "[" * 100_000):
        broken = ToolCall(id="1", name="book", arguments=text)
        assert faults(Message(role="assistant", tool_calls=(broken,))) == ["broken call"]


def test_right_tool_counts_also_with_wrong_arguments() -> None:
    judged = match.judge(called("book", city="Rome"), table())
    assert not judged.right
    assert judged.scores == {"right_tool": 1.0}
    assert match.judge(called("find"), table()).scores == {"right_tool": 0.0}


def test_the_nearest_accepted_call_says_what_is_missing() -> None:
    both = example(
        1,
        "?",
        called("book", city="Rome", seats=2),
        tools=(BOOK,),
        accepted=[
            AcceptedCall(name="find", arguments={"city": ("Rome",)}),
            AcceptedCall(name="book", arguments={"city": ("Rome",), "seats": (2,)}),
        ],
    )
    assert faults(called("book", city="Rome", seats=3), both) == ["wrong number"]
    assert faults(called("find", city="Rome"), both) == []


def test_without_accepted_calls_only_the_answer_itself_is_right() -> None:
    own = example(1, "?", called("book", city="Rome", seats=2), tools=(BOOK,))
    assert faults(called("book", city="rome", seats=2), own) == []
    assert faults(called("book", city="Rome", seats=2, outside=False), own) == [
        "unexpected argument"
    ]


def test_several_calls_may_come_in_any_order() -> None:
    calls = tuple(
        ToolCall(id=c, name="book", arguments=json.dumps({"city": c, "seats": 2}))
        for c in CITIES[:3]
    )
    wanted = example(1, "?", Message(role="assistant", tool_calls=calls), tools=(BOOK,))
    assert faults(Message(role="assistant", tool_calls=calls[::-1]), wanted) == []
    twice = (calls[0], calls[0], calls[2])
    assert faults(Message(role="assistant", tool_calls=twice), wanted) == ["wrong string"]
    assert faults(Message(role="assistant", tool_calls=calls[:2]), wanted) == [
        "wrong number of calls"
    ]


def test_every_example_passes_by_its_own_answer() -> None:
    for wanted in (table(), example(1, "?", called("book", tags=["a", {"b": None}]))):
        assert match.judge(wanted.answer, wanted).right


@settings(deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_arguments_match_themselves(arguments: dict[str, object]) -> None:
    wanted = example(1, "?", called("f", **{f"a{i}": v for i, v in enumerate(arguments.values())}))
    assert faults(wanted.answer, wanted) == []


@settings(deadline=None)
@given(st.text())
def test_any_text_is_judged_without_a_crash(text: str) -> None:
    for kind in ("call", "json", "label", "text"):
        answer = called("book", city="x") if kind == "call" else said('"x"')
        wanted = example(1, "?", answer, kind=kind)  # type: ignore[arg-type]
        match.judge(said(text), wanted)
        broken = Message(
            role="assistant", tool_calls=(ToolCall(id="1", name=text, arguments=text),)
        )
        match.judge(broken, wanted)


def invoice(answer: str) -> match.Judged:
    wanted = '{"total": 12.5, "paid": true, "items": [{"name": "a b"}, {"name": "c"}]}'
    return match.judge(said(answer), example(1, "?", said(wanted), kind="json"))


def test_json_is_right_field_by_field() -> None:
    assert invoice('{"items":[{"name":"a  b"},{"name":"c"}],"paid":true,"total":12.50}').right
    assert invoice(
        '```json\n{"items":[{"name":"a b"},{"name":"c"}],"paid":true,"total":12.5}\n```'
    ).right
    half = invoice('{"total": 12.5, "paid": 1, "items": [{"name": "a b"}]}')
    # total and the first name of four fields; 1 is not true.
    assert half.scores["fields"] == pytest.approx(2 / 4)
    assert half.fault == "wrong field"
    assert half.detail == "paid, items[1].name"
    assert invoice('{"total": 12.5}').fault == "missing field"
    assert invoice("total: 12.5").fault == "no JSON"
    assert invoice("").fault == "no JSON"
    assert invoice("[" * 100_000).fault == "no JSON"


@settings(deadline=None)
@given(json_values, json_values)
def test_fields_are_all_right_only_for_equal_json(given_: object, wanted: object) -> None:
    judged = match.judge(
        said(json.dumps(given_)), example(1, "?", said(json.dumps(wanted)), kind="json")
    )
    assert 0 <= judged.scores["fields"] <= 1
    assert judged.right == (judged.scores["fields"] == 1)
    same = match.judge(
        said(json.dumps(wanted)), example(1, "?", said(json.dumps(wanted)), kind="json")
    )
    assert same.right


def test_a_label_is_right_whatever_its_case_and_blanks() -> None:
    wanted = example(1, "?", said("Technical issue"), kind="label")
    assert match.judge(said(" technical  issue\n"), wanted).right
    wrong = match.judge(said("Technical issue, I think"), wanted)
    assert (wrong.right, wrong.fault) == (False, "wrong label")
    assert match.judge(said(""), wanted).fault == "no answer"


@pytest.mark.parametrize(
    ("given_text", "wanted", "score"),
    # sacrebleu 2.5: CHRF(eps_smoothing=False).sentence_score(given, [wanted]).score
    [
        ("the cat sat on the mat", "the cat is on the mat", 64.5779420625287),
        ("Zurich", "Zürich", 37.77777777777778),
        ("abc", "abcdefgh", 32.250580046403705),
        ("hello world", "goodbye", 8.771929824561402),
        ("a", "ab", 55.55555555555556),
        ("The invoice was sent on Monday.", "We sent the invoice on Monday.", 63.35207207450067),
    ],
)
def test_similarity_is_sacrebleu_s_chrf(given_text: str, wanted: str, score: float) -> None:
    assert 100 * match.chrf(given_text, wanted) == pytest.approx(score)


@settings(deadline=None)
@given(st.text(), st.text())
def test_similarity_is_one_for_the_same_text_only(given_text: str, wanted: str) -> None:
    assert 0 <= match.chrf(given_text, wanted) <= 1 + 1e-12
    assert match.chrf(wanted, wanted) == pytest.approx(1)


def test_an_answer_that_was_cut_off_says_so() -> None:
    wanted = example(1, "?", said("yes, of course"), kind="text")
    assert match.judge(said("yes, of"), wanted, cut=True).fault == "cut off"
    assert match.judge(said("yes, of course"), wanted, cut=True).fault is None


def test_calls_read_like_code() -> None:
    shown = call.readable(called("book", city="Łódź", seats=2, tags=["a"]).tool_calls)
    assert shown == 'book(city="Łódź", seats=2, tags=["a"])'
