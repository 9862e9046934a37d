"""The next model where one does not answer."""

from pathlib import Path

import pytest
from aiohttp import web
from msgspec import structs

from kickwheel.core.errors import EngineError, ModelError
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, TextDelta, complete
from kickwheel.models.prices import Prices
from kickwheel.records import Message, genai
from tests.models.loopback import loopback
from tests.models.opened import attributes, opened

from .scripted import Script, says, yaml

ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=5.0)
CHAIN = "chain: {kind: fallback, models: [first, second]}\n"


@pytest.mark.parametrize(
    "error",
    [
        ModelError("busy", status=429),
        ModelError("wrong key", status=401),
        ModelError("no such model", status=404),
        ModelError("broken"),
        ModelError("late", status=504),
        EngineError("dead"),
    ],
    ids=str,
)
async def test_the_next_one_answers_where_one_does_not(tmp_path: Path, error: Exception) -> None:
    first, second = Script([error]), Script(says("Me."))
    async with opened(tmp_path, yaml(first=first, second=second) + CHAIN) as app:
        assert (await complete(app.model("chain"), ASKED)).message.content == "Me."
    assert len(first.asked) == len(second.asked) == 1


async def test_a_request_that_is_wrong_is_wrong_for_all(tmp_path: Path) -> None:
    first, second = Script([ModelError("too long", status=400)]), Script(says("Me."))
    async with opened(tmp_path, yaml(first=first, second=second) + CHAIN) as app:
        with pytest.raises(ModelError, match="too long"):
            await complete(app.model("chain"), ASKED)
    assert not second.asked


async def test_once_a_piece_was_told_no_other_one_is_asked(tmp_path: Path) -> None:
    first = Script([TextDelta("I was"), ModelError("broke off")])
    second = Script(says("Me."))
    async with opened(tmp_path, yaml(first=first, second=second) + CHAIN) as app:
        with pytest.raises(ModelError, match="broke off"):
            await complete(app.model("chain"), ASKED)
    assert not second.asked


async def test_where_nobody_answers_the_last_error_is_told(tmp_path: Path) -> None:
    first, second = Script([ModelError("a", status=502)]), Script([ModelError("b", status=429)])
    async with opened(tmp_path, yaml(first=first, second=second) + CHAIN) as app:
        with pytest.raises(ModelError, match="b") as caught:
            await complete(app.model("chain"), ASKED)
    assert caught.value.status == 429


async def test_one_that_asks_for_a_long_wait_is_not_waited_for_where_another_may_answer(
    tmp_path: Path,
) -> None:
    async def busy(request: web.Request) -> web.Response:
        return web.json_response({"error": "busy"}, status=429, headers={"Retry-After": "20"})

    async with loopback(busy) as server:
        remote = f"{{kind: openai, model: m, base_url: '{server.url}/v1', api_key: k}}"
        lines = f"first: {remote}\nlast: {{kind: fallback, models: [second, first]}}\n"
        second = Script(says("Me."))
        asked = structs.replace(ASKED, timeout_s=100.0)
        async with opened(tmp_path, yaml(second=second) + lines + CHAIN) as app:
            assert (await complete(app.model("chain"), asked)).message.content == "Me."
            assert len(server.asked) == 1
            second.pieces = [ModelError("gone")]
            # It is the last one, so what it asks for is waited, as far as there is time.
            with pytest.raises(ModelError) as caught:
                await complete(app.model("last"), structs.replace(asked, timeout_s=10.0))
    assert (caught.value.status, caught.value.retry_after_s) == (429, 20.0)


async def test_one_that_hangs_leaves_time_for_the_next(tmp_path: Path) -> None:
    first, second = Script([60.0]), Script(says("Me."))
    asked = ChatRequest(messages=ASKED.messages, timeout_s=1.0)
    async with opened(tmp_path, yaml(first=first, second=second) + CHAIN) as app:
        assert (await complete(app.model("chain"), asked)).message.content == "Me."
    assert first.stopped == 1
    assert 0 < second.asked[0].timeout_s <= 0.5


async def test_the_trace_tells_who_answered_why_and_for_how_much(tmp_path: Path) -> None:
    first = Script([ModelError("busy", status=429)], prices=Prices(input=1, output=1))
    second = Script(says("Me.", model="small-1"), prices=Prices(input=5, output=10))
    async with opened(tmp_path, yaml(first=first, second=second) + CHAIN) as app:
        with app.recorder.trace("chain", "chain"):
            async for _ in observed.stream(app.model("chain"), ASKED):
                pass
        (noted,) = attributes(app)
    assert noted[genai.DECISIONS] == [
        "fallback: first answers 429, second is asked",
        "fallback: second answers",
    ]
    assert noted[genai.ANSWERED_BY] == "second"
    assert noted[genai.RESPONSE_MODEL] == "small-1"
    assert noted[genai.COST_USD] == pytest.approx((10 * 5 + 2 * 10) / 1e6)


async def test_chains_nest(tmp_path: Path) -> None:
    broken, third = Script([ModelError("no")]), Script(says("Me."))
    models = yaml(first=broken, second=Script([ModelError("no")]), third=third)
    lines = models + CHAIN + "outer: {kind: fallback, models: [chain, third]}\n"
    async with opened(tmp_path, lines) as app:
        assert (await complete(app.model("outer"), ASKED)).message.content == "Me."
