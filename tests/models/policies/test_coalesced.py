"""One request for many that ask the same at once."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from kickwheel.core.errors import ModelError
from kickwheel.models import observed
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import ChatRequest, Completion, TextDelta, Usage, complete
from kickwheel.records import Message, genai
from tests.models.opened import attributes, opened

from .scripted import USED, Script, says, yaml

ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=20.0)
ONCE = "once: {kind: coalesced, model: first}\n"


async def test_all_who_ask_the_same_at_once_get_one_answer_whole(tmp_path: Path) -> None:
    first = Script([TextDelta("I "), 0.05, *says("do.")])
    async with opened(tmp_path, yaml(first=first) + ONCE) as app:
        model = app.model("once")

        async def ask() -> Completion:
            await asyncio.sleep(0)
            return await complete(model, ASKED)

        answers = await asyncio.gather(*(ask() for _ in range(10)))
        assert {answer.message.content for answer in answers} == {"I do."}
        assert len(first.asked) == 1
        await complete(model, ASKED)
    assert len(first.asked) == 2, "only what is under way is shared"
    used = [answer.usage for answer in answers]
    assert used.count(USED) == 1, "one request was made, and one pays"
    assert used.count(Usage(cost_usd=0.0)) == 9


async def test_one_who_leaves_stops_nobody_and_the_last_one_the_model(tmp_path: Path) -> None:
    first = Script([TextDelta("I "), 60.0])
    async with opened(tmp_path, yaml(first=first) + ONCE) as app:
        model = app.model("once")
        async with aclosing(model.stream(ASKED)) as one:  # type: ignore[type-var]
            async with aclosing(model.stream(ASKED)) as other:  # type: ignore[type-var]
                assert await anext(one) == await anext(other) == TextDelta("I ")
            assert first.stopped == 0
        assert first.stopped == 1
    assert len(first.asked) == 1


async def test_where_the_one_who_began_leaves_another_one_pays(tmp_path: Path) -> None:
    first = Script([TextDelta("I "), 0.2, *says("do.")])
    async with opened(tmp_path, yaml(first=first) + ONCE) as app:
        model = app.model("once")
        begun = asyncio.create_task(complete(model, ASKED))
        await asyncio.sleep(0.01)
        joined = asyncio.create_task(complete(model, ASKED))
        await asyncio.sleep(0.01)
        begun.cancel()
        assert (await joined).usage == USED


async def test_an_error_is_told_to_all(tmp_path: Path) -> None:
    first = Script([0.05, ModelError("busy", status=429)])
    async with opened(tmp_path, yaml(first=first) + ONCE) as app:
        asking = (complete(app.model("once"), ASKED) for _ in range(3))
        answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [getattr(answer, "status", None) for answer in answers] == [429] * 3
    assert len(first.asked) == 1


@pytest.mark.parametrize(
    "other",
    [
        ChatRequest(messages=(Message(role="user", content="Who else?"),), timeout_s=20.0),
        ChatRequest(messages=ASKED.messages, timeout_s=20.0, max_tokens=5),
    ],
    ids=["another question", "another option"],
)
async def test_what_differs_is_asked_for_itself(tmp_path: Path, other: ChatRequest) -> None:
    first = Script([0.05, *says("Me.")])
    async with opened(tmp_path, yaml(first=first) + ONCE) as app:
        model = app.model("once")
        await asyncio.gather(complete(model, ASKED), complete(model, other))
    assert len(first.asked) == 2


async def test_nothing_is_shared_between_tenants(tmp_path: Path) -> None:
    first = Script([0.05, *says("Me.")])
    async with opened(tmp_path, yaml(first=first) + ONCE) as app:
        model = app.model("once")

        async def ask(tenant: str) -> None:
            with acting_for(Caller(tenant=tenant)):
                await complete(model, ASKED)

        await asyncio.gather(ask("a"), ask("b"), ask("a"))
    assert len(first.asked) == 2


@pytest.mark.parametrize(
    "between",
    [
        "",
        "chain: {kind: fallback, models: [metered, metered]}\n",
        "chain: {kind: hedged, model: metered}\n",
        "chain: {kind: cache, model: metered}\n",
    ],
    ids=["alone", "fallback", "hedged", "cache"],
)
async def test_whose_budget_is_used_up_is_refused_alone(tmp_path: Path, between: str) -> None:
    first = Script([0.05, *says("Me.")])
    lines = "metered: {kind: budget, model: first, user: {tokens: 12}}\n" + between
    lines += f"once: {{kind: coalesced, model: {'chain' if between else 'metered'}}}\n"
    async with opened(tmp_path, yaml(first=first) + lines) as app:

        async def ask(user: str, question: ChatRequest = ASKED) -> int | str | None:
            with acting_for(Caller(user=user)):
                try:
                    return (await complete(app.model("once"), question)).message.content
                except ModelError as error:
                    return error.status

        other = ChatRequest(messages=(Message(role="user", content="Where?"),))
        assert await ask("ann", other) == "Me.", "12 tokens"
        told = await asyncio.gather(ask("ann"), ask("bob"), ask("bob"))
    assert told == [429, "Me.", "Me."]
    assert len(first.asked) == 2, "and one is still asked once"


async def test_answers_that_are_meant_to_vary_are_not_shared(tmp_path: Path) -> None:
    first = Script([0.05, *says("Me.")])
    sampled = ChatRequest(messages=ASKED.messages, temperature=0.8)
    async with opened(tmp_path, yaml(first=first) + ONCE) as app:
        model = app.model("once")
        await asyncio.gather(*(complete(model, sampled) for _ in range(3)))
    assert len(first.asked) == 3


async def test_the_trace_tells_who_shared(tmp_path: Path) -> None:
    first = Script([0.05, *says("Me.")])
    async with opened(tmp_path, yaml(first=first) + ONCE) as app:

        async def ask() -> None:
            with app.recorder.trace("once", "once"):
                async for _ in observed.stream(app.model("once"), ASKED):
                    pass

        await asyncio.gather(ask(), ask())
        noted = attributes(app)
    decisions = sorted(str(one.get(genai.DECISIONS)) for one in noted)
    assert decisions == ["None", "['coalesced: the same was asked already']"]
    assert sorted(one[genai.INPUT_TOKENS] for one in noted) == [0, 10]
