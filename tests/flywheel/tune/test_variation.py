import json
import random
import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.flywheel.tune.tiny_llama import event

from kickwheel.flywheel.tune.variation import Variation
from kickwheel.records import Message, ToolCall, ToolSpec

TRAIN = [event(i, "train", random.Random(i)) for i in range(40)]


def asked(text: str, **arguments: object):  # type: ignore[no-untyped-def]
    tool = ToolSpec(
        name="act",
        parameters={
            "type": "object",
            "properties": {
                "date": {"type": "string", "description": "YYYY-MM-DD"},
                "actor": {"type": "string"},
                "amount": {"type": "number"},
            },
        },
    )
    call = ToolCall(id="a", name="act", arguments=json.dumps(arguments))
    return replace(
        TRAIN[0],
        messages=(Message(role="user", content=text),),
        tools=(tool,),
        answer=Message(role="assistant", tool_calls=(call,)),
    )


def varied(example, seed: int, train=TRAIN):  # type: ignore[no-untyped-def]
    found = Variation(train, 1.0).of(example, random.Random(seed))
    return found.messages[-1].content, json.loads(found.answer.tool_calls[0].arguments)


@given(st.sampled_from(TRAIN), st.integers(0, 10_000))
def test_question_and_answer_change_alike(example, seed: int) -> None:  # type: ignore[no-untyped-def]
    question, arguments = varied(example, seed)
    assert arguments["city"] in question
    assert arguments["kind"].lower() in question
    month, day, _ = (int(part) for part in arguments["date"].split("/"))
    found = re.search(r"on ([A-Z][a-z]+) (\d+)(st|nd|rd|th)", question)
    assert found is not None
    assert int(found[2]) == day
    names = "January February March April May June July August September October November December"
    assert names.split().index(found[1]) + 1 == month


@given(st.integers(0, 1000))
def test_values_come_from_the_training_part(seed: int) -> None:
    cities = {json.loads(e.answer.tool_calls[0].arguments)["city"] for e in TRAIN}
    _, arguments = varied(TRAIN[3], seed)
    assert arguments["city"] in cities


@given(st.integers(0, 1000))
def test_dates_keep_the_way_they_are_written(seed: int) -> None:
    for text, shape in (
        ("On 2023-03-05", r"On 2023-\d\d-\d\d"),
        ("On 3/5/2023", r"On \d{1,2}/\d{1,2}/2023"),
        ("the 5th of march", r"the \d{1,2}(st|nd|rd|th) of [a-z]+"),
        ("on Mar 5", r"on [A-Z][a-z]{2} \d{1,2}"),
    ):
        question, arguments = varied(asked(text, date="2023-03-05"), seed)
        assert re.fullmatch(shape, question), question
        assert re.fullmatch(r"2023-\d\d-\d\d", arguments["date"])


def test_what_cannot_be_told_apart_stays() -> None:
    for example in (
        asked("from March 5 to March 9", date="2023-03-05"),  # Which of the two?
        asked("next friday", date="2023-03-05"),
        asked("on 12/5/2023 pay 5", amount=5),
        asked("Ann, Ann and Ann", actor="Ann"),
    ):
        assert varied(example, 1, [example])[0] == example.messages[-1].content


def test_the_same_chance_gives_the_same_and_a_share_of_nothing_changes_nothing() -> None:
    assert varied(TRAIN[5], 7) == varied(TRAIN[5], 7)
    assert Variation(TRAIN, 0.0).of(TRAIN[5], random.Random(0)) is TRAIN[5]
