"""So much of a model may be used, and no more."""

import re
from contextlib import aclosing
from pathlib import Path

import pytest
from pydantic import SecretStr

from kickwheel.core.errors import ConfigError, ModelError, StoreError, UsageError
from kickwheel.models import observed
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import ChatRequest, Model, TextDelta, Usage, complete
from kickwheel.models.prices import Prices
from kickwheel.records import Message, genai
from tests.models.opened import attributes, opened

from .scripted import Script, says, yaml

ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=20.0)
ANNA, BEN = Caller(user="anna"), Caller(user="ben")


async def refused(model: Model, request: ChatRequest = ASKED) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await complete(model, request)
    assert caught.value.status == 429
    return caught.value


async def test_what_is_used_up_is_refused_and_told_with_when_it_starts_again(
    tmp_path: Path,
) -> None:
    first = Script(says("Me.", usage=Usage(prompt_tokens=40, output_tokens=20)))
    lines = yaml(first=first) + "metered: {kind: budget, model: first, total: {tokens: 100}}"
    async with opened(tmp_path, lines) as app:
        model = app.model("metered")
        await complete(model, ASKED)
        await complete(model, ASKED)
        error = await refused(model)
    assert "of all together, 120 of 100 tokens are used" in str(error)
    assert error.retry_after_s is not None
    assert 0 < error.retry_after_s <= 86_400
    assert len(first.asked) == 2


async def test_each_user_and_each_key_has_a_budget_of_its_own(
    tmp_path: Path, database: str | None
) -> None:
    first = Script(says("Me."))
    both = "{kind: budget, model: first, user: {tokens: 12}, key: {tokens: 24}}"
    async with opened(tmp_path, yaml(first=first) + f"metered: {both}", database) as app:
        model = app.model("metered")
        for who in ("anna", "ben"):
            with acting_for(Caller(user=who, token=SecretStr("k-1"))):
                await complete(model, ASKED)
        with acting_for(Caller(user="anna", token=SecretStr("k-2"))):
            assert "of this user," in str(await refused(model))
        with acting_for(Caller(user="cleo", token=SecretStr("k-1"))):
            assert "of this key," in str(await refused(model))
        with acting_for(Caller(user="cleo", token=SecretStr("k-2"))):
            await complete(model, ASKED)


async def test_users_of_one_name_in_two_tenants_and_keys_of_one_user_are_told_apart(
    tmp_path: Path,
) -> None:
    lines = (
        "by_user: {kind: budget, model: first, user: {tokens: 12}}\n"
        "by_key: {kind: budget, model: first, key: {tokens: 12}}"
    )
    who = [
        ("by_user", Caller(user="ann", tenant="clinic"), Caller(user="ann", tenant="school")),
        ("by_key", Caller(user="ann", credential="k-1"), Caller(user="ann", credential="k-2")),
    ]
    async with opened(tmp_path, yaml(first=Script(says("Me."))) + lines) as app:
        for name, one, other in who:
            with acting_for(one):
                await complete(app.model(name), ASKED)
                await refused(app.model(name))
            with acting_for(other):
                await complete(app.model(name), ASKED)


async def test_what_was_used_survives_a_restart(tmp_path: Path, database: str | None) -> None:
    first = Script(says("Me."))
    lines = yaml(first=first) + "metered: {kind: budget, model: first, user: {tokens: 12}}"
    async with opened(tmp_path, lines, database) as app:
        with acting_for(ANNA):
            await complete(app.model("metered"), ASKED)
    async with opened(tmp_path, lines, database) as app:
        with acting_for(ANNA):
            await refused(app.model("metered"))
        with acting_for(BEN):
            await complete(app.model("metered"), ASKED)


async def test_another_window_starts_with_nothing_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Script(says("Me."))
    now = 1_000_000.0
    monkeypatch.setattr("kickwheel.models.policies.budget.time.time", lambda: now)
    lines = "metered: {kind: budget, model: first, window_s: 60, total: {tokens: 12}}"
    async with opened(tmp_path, yaml(first=first) + lines) as app:
        model = app.model("metered")
        await complete(model, ASKED)
        # By hand: 1,000,000 is 40 seconds into the minute that began at 999,960.
        assert (await refused(model)).retry_after_s == 20.0
        now += 20.0
        await complete(model, ASKED)


async def test_money_is_counted_by_the_models_prices(tmp_path: Path, database: str | None) -> None:
    used = Usage(prompt_tokens=1000, output_tokens=100)
    # By hand: 1000 at 1 $ and 100 at 10 $ for a million are 0.002 $.
    first = Script(says("Me.", usage=used), prices=Prices(input=1, output=10))
    lines = "metered: {kind: budget, model: first, total: {cost_usd: 0.004}}"
    async with opened(tmp_path, yaml(first=first) + lines, database) as app:
        model = app.model("metered")
        await complete(model, ASKED)
        await complete(model, ASKED)
        assert "0.004 of 0.004 dollars are used" in str(await refused(model))


async def test_money_without_prices_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    lines = "metered: {kind: budget, model: first, total: {cost_usd: 1}}"
    with pytest.raises((UsageError, ConfigError), match="first has no prices"):
        async with opened(tmp_path, yaml(first=Script(says("Me."))) + lines):
            pass


async def test_the_models_time_is_counted(tmp_path: Path) -> None:
    first = Script([0.06, *says("Me.")])
    lines = "metered: {kind: budget, model: first, total: {seconds: 0.05}}"
    async with opened(tmp_path, yaml(first=first) + lines) as app:
        await complete(app.model("metered"), ASKED)
        assert "of 0.05 seconds are used" in str(await refused(app.model("metered")))


async def test_one_request_is_cut_to_its_own_budget(tmp_path: Path) -> None:
    first = Script(says("Me."), prices=Prices(input=1, output=10))
    lines = "metered: {kind: budget, model: first, request: {tokens: 101, seconds: 3}}"
    async with opened(tmp_path, yaml(first=first) + lines) as app:
        model = app.model("metered")
        await complete(model, ASKED)
        long = ChatRequest(messages=(Message(role="user", content="word " * 100),))
        assert "125 tokens" in str(await refused(model, long))
    # «Who?» has 4 bytes: one token, which leaves 100.
    assert (first.asked[0].max_tokens, first.asked[0].timeout_s) == (100, 3.0)


async def test_one_request_is_cut_to_its_own_money(tmp_path: Path) -> None:
    first = Script(says("Me."), prices=Prices(input=1, output=10))
    lines = "metered: {kind: budget, model: first, request: {cost_usd: 0.000201}}"
    async with opened(tmp_path, yaml(first=first) + lines) as app:
        await complete(app.model("metered"), ASKED)
    # By hand: 0.000001 $ for the prompt leave 0.0002 $, which are 20 tokens at 10 $ a million.
    assert first.asked[0].max_tokens == 20


async def test_what_is_under_way_counts(tmp_path: Path) -> None:
    first = Script([TextDelta("I "), 60.0])
    lines = "metered: {kind: budget, model: first, total: {tokens: 50}}"
    asked = ChatRequest(messages=ASKED.messages, max_tokens=49)
    async with opened(tmp_path, yaml(first=first) + lines) as app:
        model = app.model("metered")
        async with aclosing(model.stream(asked)) as pieces:  # type: ignore[type-var]
            await anext(pieces)
            await refused(model)
        first.pieces = says("Me.")
        await complete(model, ASKED)


async def test_an_answer_that_was_left_is_counted_as_far_as_it_came(tmp_path: Path) -> None:
    first = Script([TextDelta("x" * 400), 60.0])
    lines = "metered: {kind: budget, model: first, total: {tokens: 101}}"
    async with opened(tmp_path, yaml(first=first) + lines) as app:
        model = app.model("metered")
        async with aclosing(model.stream(ASKED)) as pieces:  # type: ignore[type-var]
            await anext(pieces)
        # 400 bytes are some 100 tokens, and the prompt is one more.
        assert "101 of 101 tokens" in str(await refused(model))


async def test_the_store_names_nobody_and_the_trace_tells_the_refusal(tmp_path: Path) -> None:
    lines = "metered: {kind: budget, model: first, user: {tokens: 12}}"
    async with opened(tmp_path, yaml(first=Script(says("Me."))) + lines) as app:
        with acting_for(ANNA), app.recorder.trace("metered", "metered"):
            await observed.complete(app.model("metered"), ASKED)
            with pytest.raises(ModelError):
                await observed.complete(app.model("metered"), ASKED)
        rows = app.store.database.read("SELECT who FROM spent")
        noted = attributes(app)
    assert re.fullmatch(r"user [0-9a-f]{16}", rows[0][0])
    assert noted[1][genai.DECISIONS] == ["budget: refused, of this user, 12 of 12 tokens are used"]


async def test_a_store_that_cannot_be_written_does_not_take_an_answer_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = Script(says("Me."))
    lines = "full: {kind: budget, model: first, total: {tokens: 100}}"
    async with opened(tmp_path, yaml(first=first) + lines) as app:

        def full(work: object, *, sync: bool = False) -> None:
            raise StoreError("the disk is full")

        monkeypatch.setattr(app.store.database, "write", full)
        assert (await complete(app.model("full"), ASKED)).message.content == "Me."
        monkeypatch.undo()
    assert "the disk is full" in caplog.text
