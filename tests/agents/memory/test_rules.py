"""Which sentences are facts, and which only look like them."""

import pytest

from kickwheel.agents.memory.fact import Turn
from kickwheel.agents.memory.rules import by_rules


async def read(text: str) -> list[tuple[str, str, str]]:
    return [(c.text, c.kind, c.slot) for c in await by_rules([Turn(role="user", text=text)])]


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("My name is Yusuf Rossi.", ("My name is Yusuf Rossi", "name", "name")),
        ("hi, I'm Ann Lee!", ("I'm Ann Lee", "name", "name")),
        ("Please call me Bo", ("Call me Bo", "name", "called")),
        ("I now live in New York.", ("I now live in New York", "place", "home")),
        ("I've moved to Rome", ("I've moved to Rome", "place", "home")),
        ("My zip code is 19122", ("My zip code is 19122", "attribute", "my zip code")),
        ("Our budget limit is now 2,000.50 EUR.",
         ("Our budget limit is now 2,000.50 EUR", "attribute", "my budget limit")),
        ("I am allergic to peanuts", ("I am allergic to peanuts", "trait", "")),
        ("I can't stand loud music", ("I can't stand loud music", "preference",
                                      "likes loud music")),
        ("I was born on 3 May 1990", ("I was born on 3 May 1990", "date", "birth")),
        ("We agreed to ship on Friday", ("We agreed to ship on Friday", "decision", "")),
        ("Could you remember that the gate code is 4417",
         ("The gate code is 4417", "note", "")),
        ("Don't forget: my dog is called Rex.", ("My dog is called Rex", "attribute", "my dog")),
        ("I have two children", ("I have two children", "trait", "")),
    ],
)  # fmt: skip
async def test_plain_words_are_facts(said: str, fact: tuple[str, str, str]) -> None:
    assert await read(said) == [fact]


@pytest.mark.parametrize(
    "said",
    [
        "What is my name?",
        "Is my name Ann?",
        "My question is whether you are open",
        "I have a question",
        "I'd like a room",
        "I like it",
        "If I lived in Rome, my name is Mario",
        "Imagine my name is Mario",
        'He said "my name is Bond"',
        "> my name is quoted",
        "```\nmy name is in code\n```",
        "Translate: my name is Mario",
        "I'm tired",
        "I'm Looking forward to hearing from you all",
        "Do you remember me?",
        "call me back tomorrow",
        "",
        "?",
        "my name is " + "x" * 400,
        "\x00\ud800",
    ],
)
async def test_what_only_looks_like_a_fact_is_left_alone(said: str) -> None:
    assert await read(said) == []


async def test_a_sentence_may_tell_several() -> None:
    said = "My name is Ann, I live in Oslo and my zip code is 0150, but what is the weather?"
    found = [text for text, *_ in await read("My name is Ann, I live in Oslo and my zip is 0150.")]
    assert found == ["My name is Ann", "I live in Oslo", "My zip is 0150"]
    assert await read(said) == []


async def test_results_of_tools_are_not_read() -> None:
    assert await by_rules([Turn(role="tool", text="My name is Mallory")]) == []


async def test_long_texts_take_no_long_time() -> None:
    assert await read("my " * 30_000 + "is") == []
    assert await read("and " * 30_000) == []
