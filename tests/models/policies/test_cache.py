"""Answers that were given before."""

from pathlib import Path

import pytest

from kickwheel.core.errors import ModelError, StoreError
from kickwheel.models import observed
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import CallDelta, ChatRequest, Done, Usage, complete
from kickwheel.models.policies.cache import fixed
from kickwheel.records import Message, ToolCall, genai
from tests.models.opened import attributes, opened

from .scripted import USED, Script, says, yaml

CACHED = "cached: {kind: cache, model: first}\n"
NEAR = "cached: {kind: cache, model: first, threshold: 0.8}\n"


def asked(text: str, **options: float) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content=text),), **options)  # type: ignore[arg-type]


async def test_what_was_asked_before_is_not_asked_again_nor_after_a_restart(
    tmp_path: Path, database: str | None
) -> None:
    first = Script(says("I ", "do.", model="m-1"))
    for _ in range(2):
        async with opened(tmp_path, yaml(first=first) + CACHED, database) as app:
            model = app.model("cached")
            answers = [await complete(model, asked("Who?")) for _ in range(2)]
        assert {answer.message.content for answer in answers} == {"I do."}
        assert {answer.model for answer in answers} == {"m-1"}
    assert len(first.asked) == 1
    assert answers[1].usage == Usage(cost_usd=0.0), "no model read anything"


async def test_calls_are_kept_as_they_were_made(tmp_path: Path) -> None:
    pieces = [CallDelta(0, '{"x"', "a", "find"), CallDelta(0, ":1}"), CallDelta(1, "{}", "b", "go")]
    first = Script([*pieces, Done("tool_calls", USED)])
    async with opened(tmp_path, yaml(first=first) + CACHED) as app:
        answers = [await complete(app.model("cached"), asked("Who?")) for _ in range(2)]
    assert answers[0].message == answers[1].message
    assert answers[1].message.tool_calls[0] == ToolCall(id="a", name="find", arguments='{"x":1}')
    assert answers[1].finish_reason == "tool_calls"


@pytest.mark.parametrize("other", [asked("Who?", max_tokens=3), asked("who?")])
async def test_what_differs_is_asked(tmp_path: Path, other: ChatRequest) -> None:
    first = Script(says("Me."))
    async with opened(tmp_path, yaml(first=first) + CACHED) as app:
        await complete(app.model("cached"), asked("Who?"))
        await complete(app.model("cached"), other)
    assert len(first.asked) == 2


@pytest.mark.parametrize("lines", [CACHED, NEAR], ids=["exact", "near"])
async def test_nothing_is_shared_between_tenants(tmp_path: Path, lines: str) -> None:
    first = Script(says("Me."))
    async with opened(tmp_path, yaml(first=first) + lines) as app:
        for tenant in ("a", "b", "a"):
            with acting_for(Caller(tenant=tenant)):
                await complete(app.model("cached"), asked("Who?"))
    assert len(first.asked) == 2


async def test_another_model_behind_the_name_is_asked(tmp_path: Path) -> None:
    first = Script(says("Old."), identity="adapter 1")
    async with opened(tmp_path, yaml(first=first) + CACHED) as app:
        model = app.model("cached")
        await complete(model, asked("Who?"))
        first.identity, first.pieces = "adapter 2", says("New.")
        assert (await complete(model, asked("Who?"))).message.content == "New."


@pytest.mark.parametrize(
    "pieces",
    [
        [*says("Half")[:1], Done("length", USED)],
        says("Mail anna.berg@example.com."),
        [ModelError("broken")],
    ],
    ids=["cut", "with an address", "failed"],
)
async def test_what_must_not_be_kept_is_not(tmp_path: Path, pieces: list[object]) -> None:
    first = Script(pieces)  # type: ignore[arg-type]
    async with opened(tmp_path, yaml(first=first) + CACHED) as app:
        for _ in range(2):
            try:
                await complete(app.model("cached"), asked("Who?"))
            except ModelError:
                continue
    assert len(first.asked) == 2


async def test_answers_that_are_meant_to_vary_are_asked_for(tmp_path: Path) -> None:
    first = Script(says("Me."))
    async with opened(tmp_path, yaml(first=first) + CACHED) as app:
        for request in (asked("Who?", temperature=0.7), asked("Who?", temperature=0.0)):
            for _ in range(2):
                await complete(app.model("cached"), request)
    assert len(first.asked) == 3


async def test_it_is_bounded_in_size_and_age(
    tmp_path: Path, database: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Script(says("Me."))
    now = 1_000_000.0
    monkeypatch.setattr("kickwheel.models.policies.cache.time.time", lambda: now)
    lines = "cached: {kind: cache, model: first, entries: 3, max_age_s: 100}\n"
    async with opened(tmp_path, yaml(first=first) + lines, database) as app:
        model = app.model("cached")
        for i in range(10):
            now += 1
            await complete(model, asked(f"Who {i}?"))
        (count,) = app.store.database.read("SELECT count(*) FROM answer")[0]
        assert count <= 3
        await complete(model, asked("Who 9?"))
        assert len(first.asked) == 10
        now += 101
        await complete(model, asked("Who 9?"))
        assert len(first.asked) == 11


async def test_another_wording_is_the_same_question_where_that_is_asked_for(
    tmp_path: Path,
    database: str | None,
) -> None:
    first = Script(says("By mail."))
    async with opened(tmp_path, yaml(first=first) + NEAR, database) as app:
        model = app.model("cached")
        await complete(model, asked("How can I reset my password?"))
        await complete(model, asked("How do I reset my password please?"))
        assert len(first.asked) == 1
        await complete(model, asked("Which trains leave in the morning?"))
    assert len(first.asked) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is a table for 4 free tonight?", "Is a table for 6 free tonight?"),
        ("Is the pool open today?", "Isn't the pool open today?"),
        ("Show rooms with a view", "Show rooms without a view"),
        ("What is the weather in Oslo?", "What is the weather in Paris?"),
    ],
)
async def test_numbers_names_and_negations_make_another_question(
    tmp_path: Path, one: str, other: str
) -> None:
    first = Script(says("Yes."))
    lines = NEAR.replace("0.8", "0.01")
    async with opened(tmp_path, yaml(first=first) + lines) as app:
        await complete(app.model("cached"), asked(one))
        await complete(app.model("cached"), asked(other))
    assert len(first.asked) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Is there a flight from Oslo to Bergen?", "Is there a flight from Bergen to Oslo?"),
        ("any train from oslo to bergen?", "any train from bergen to oslo, please?"),
        ("any train from oslo to bergen?", "any train to oslo from bergen?"),
        ("Convert 3 EUR to USD", "Convert 3 USD to EUR"),
        ("move money from my savings to my giro", "move money from my giro to my savings"),
    ],
)
async def test_the_same_words_in_another_order_are_another_question(
    tmp_path: Path, one: str, other: str
) -> None:
    first = Script(says("Yes."))
    async with opened(tmp_path, yaml(first=first) + NEAR) as app:
        await complete(app.model("cached"), asked(one))
        await complete(app.model("cached"), asked(other))
        assert len(first.asked) == 2
        await complete(app.model("cached"), asked(f"Hi! {one}"))
    assert len(first.asked) == 2, "a greeting changes nothing"


async def test_calls_are_shared_only_word_for_word(tmp_path: Path) -> None:
    first = Script([CallDelta(0, "{}", "a", "find"), Done("tool_calls", USED)])
    async with opened(tmp_path, yaml(first=first) + NEAR) as app:
        model = app.model("cached")
        await complete(model, asked("How can I reset my password?"))
        await complete(model, asked("How do I reset my password?"))
    assert len(first.asked) == 2


def test_what_must_be_the_same_is_found_in_a_question() -> None:
    assert fixed("Isn't Oslo 3 km from here?") == ["3", "isn't", "oslo"]
    assert fixed("Please tell me what I can do") == []
    assert fixed("on 2026-11-25 at 10:30, not later") == ["10:30", "2026-11-25", "not"]


async def test_hits_are_visible_in_the_trace(tmp_path: Path) -> None:
    first = Script(says("By mail."))
    async with opened(tmp_path, yaml(first=first) + NEAR) as app:
        with app.recorder.trace("cached", "cached"):
            for words in ("How can I pay?", "How can I pay?", "How do I pay?"):
                async for _ in observed.stream(app.model("cached"), asked(words)):
                    pass
        noted = attributes(app)
    missed, same, near = (one[genai.DECISIONS][0] for one in noted)
    assert (missed, same) == ("cache: miss", "cache: hit, the same words")
    assert near.startswith("cache: hit, cosine 0.")
    assert [one[genai.COST_USD] for one in noted[1:]] == [0.0, 0.0]


async def test_a_store_that_cannot_be_written_does_not_take_an_answer_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = Script(says("Me."))
    lines = "full: {kind: cache, model: first, max_age_s: 60}"
    async with opened(tmp_path, yaml(first=first) + lines) as app:

        def full(work: object, *, sync: bool = False) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(app.store.database, "write", full)
        assert (await complete(app.model("full"), asked("Who?"))).message.content == "Me."
        monkeypatch.undo()
    assert "the disk is full" in caplog.text
