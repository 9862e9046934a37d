"""A second request where the first is slow."""

import asyncio
from pathlib import Path

import pytest

from kickwheel.core.errors import ModelError
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.policies.hedged import ENOUGH, HedgedModel
from kickwheel.records import Message, genai
from tests.models.opened import attributes, opened

from .scripted import Script, says, yaml

ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=20.0)
HEDGED = "hedged: {kind: hedged, model: first, second: second, after_s: 0.05}\n"


async def test_where_the_first_is_slow_the_second_answers_and_the_first_is_stopped(
    tmp_path: Path,
) -> None:
    first, second = Script([60.0, *says("Late.")]), Script(says("Me."))
    async with opened(tmp_path, yaml(first=first, second=second) + HEDGED) as app:
        with app.recorder.trace("hedged", "hedged"):
            answer = await observed.complete(app.model("hedged"), ASKED)
        (noted,) = attributes(app)
    assert answer.message.content == "Me."
    assert first.stopped == 1
    asked, stopped = noted[genai.DECISIONS]
    assert asked.startswith("hedged: second is asked too, after 0.")
    assert stopped == "hedged: second began first, first is stopped"
    assert noted[genai.ANSWERED_BY] == "second"


async def test_where_the_first_is_fast_nobody_else_is_asked(tmp_path: Path) -> None:
    first, second = Script(says("Me.")), Script(says("Other."))
    lines = yaml(first=first, second=second) + HEDGED.replace("0.05", "5")
    async with opened(tmp_path, lines) as app:
        assert (await complete(app.model("hedged"), ASKED)).message.content == "Me."
    assert not second.asked


async def test_the_second_is_stopped_where_the_first_begins_first(tmp_path: Path) -> None:
    first, second = Script([0.3, *says("Me.")]), Script([60.0])
    async with opened(tmp_path, yaml(first=first, second=second) + HEDGED) as app:
        assert (await complete(app.model("hedged"), ASKED)).message.content == "Me."
    assert (len(second.asked), second.stopped) == (1, 1)


async def test_an_error_of_one_waits_for_the_other(tmp_path: Path) -> None:
    first, second = Script([0.3, ModelError("broken")]), Script([0.5, *says("Me.")])
    async with opened(tmp_path, yaml(first=first, second=second) + HEDGED) as app:
        assert (await complete(app.model("hedged"), ASKED)).message.content == "Me."


async def test_where_both_fail_the_first_ones_error_is_told(tmp_path: Path) -> None:
    first = Script([0.3, ModelError("mine", status=504)])
    second = Script([ModelError("other")])
    async with opened(tmp_path, yaml(first=first, second=second) + HEDGED) as app:
        with pytest.raises(ModelError, match="mine") as caught:
            await complete(app.model("hedged"), ASKED)
    assert caught.value.status == 504


async def test_when_to_ask_again_is_learnt_from_what_was_seen(tmp_path: Path) -> None:
    first = Script(says("Me."))
    lines = yaml(first=first) + "hedged: {kind: hedged, model: first}\n"
    async with opened(tmp_path, lines) as app:
        model = app.model("hedged")
        assert isinstance(model, HedgedModel)
        for _ in range(ENOUGH):
            assert model.after_s(ASKED) is None
            await complete(model, ASKED)
        learnt_s = model.after_s(ASKED)
        assert learnt_s is not None
        assert learnt_s < 5.0
        first.pieces = [60.0]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(complete(model, ASKED), learnt_s + 1.0)
    assert len(first.asked) == ENOUGH + 2, "the same model was asked a second time"
    assert first.stopped == 2, "who leaves stops both"
