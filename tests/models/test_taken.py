"""What a model refuses is left out, and asked again at once."""

import json
from typing import Any

import pytest
from aiohttp import web
from msgspec import structs

from kickwheel.core.errors import ModelError
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.client import open_remote
from kickwheel.models.taken import Taken
from kickwheel.records import Message

from .loopback import USAGE, chunk, loopback, stream

ASKED = ChatRequest(
    messages=(Message(role="user", content="Who?"),),
    temperature=0.0,
    seed=1,
    max_tokens=9,
    timeout_s=20.0,
)
OPENAI = "Unsupported value: '{}' does not support 0 with this model. Only the default (1) value."
"""As OpenAI's reasoning models say it."""


def refusal(name: str, said: str = OPENAI) -> web.Response:
    error = {"message": said.format(name), "type": "invalid_request_error", "param": name}
    return web.json_response({"error": error}, status=400)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_model_that_refuses_a_temperature_is_asked_without_it_from_then_on(
    whole: bool,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        for name in ("temperature", "seed"):
            if name in body:
                return refusal(name)
        if "max_tokens" in body:
            said = "Unsupported parameter: '{}'. Use 'max_completion_tokens' instead."
            return refusal("max_tokens", said)
        if not body.get("stream"):
            message = {"role": "assistant", "content": "Me."}
            return web.json_response(
                {**USAGE, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            )
        return await stream(request, chunk(content="Me."), chunk("stop"), USAGE)

    asked = structs.replace(ASKED, whole=whole)
    async with loopback(answer) as server, open_remote("m", "m", f"{server.url}/v1", "k") as model:
        for _ in range(2):
            assert (await complete(model, asked)).message.content == "Me."
        last: dict[str, Any] = server.asked[-1][1]
        assert last["max_completion_tokens"] == 9
        assert last == json.loads(json.dumps(model.sent(asked).body))
    # Three refusals and an answer, and the second question at once.
    assert len(server.asked) == 5


NO_STOP = "Unsupported parameter: 'stop' is not supported with this model."
WRITTEN = "Action: find\nInput: {}\nObservation: 12\nAnswer: 12"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("cut", [1, 7, 100])
async def test_a_model_that_refuses_a_stop_is_asked_without_and_its_answer_ends_there(
    whole: bool, cut: int
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "stop" in body:
            error = {"message": NO_STOP, "param": "stop", "code": "unsupported_parameter"}
            return web.json_response({"error": error}, status=400)
        if not body.get("stream"):
            message = {"role": "assistant", "content": WRITTEN}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            return web.json_response({**USAGE, "choices": [choice]})
        pieces = [WRITTEN[n : n + cut] for n in range(0, len(WRITTEN), cut)]
        return await stream(request, *(chunk(content=p) for p in pieces), chunk("length"), USAGE)

    asked = structs.replace(ASKED, stop=("\nObservation:", "\n\n"), whole=whole)
    async with loopback(answer) as server, open_remote("m", "m", f"{server.url}/v1", "k") as model:
        for _ in range(2):
            completion = await complete(model, asked)
            assert completion.message.content == "Action: find\nInput: {}"
            assert completion.finish_reason == "stop"
        assert "stop" not in model.sent(asked).body
    assert len(server.asked) == 3, "one refusal, and two answers"


async def test_a_stop_that_does_not_come_takes_nothing_away() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunk(content="12\nObs"), chunk("stop"), USAGE)

    asked = structs.replace(ASKED, stop=("\nObservation:",))
    async with loopback(answer) as server, open_remote("m", "m", f"{server.url}/v1", "k") as model:
        assert (await complete(model, asked)).message.content == "12\nObs"


async def test_a_stop_that_is_refused_otherwise_is_an_error() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return refusal("stop", "Invalid '{}': array too long. Expected at most 4.")

    async with loopback(answer) as server, open_remote("m", "m", f"{server.url}/v1", "k") as model:
        with pytest.raises(ModelError, match="array too long") as caught:
            await complete(model, ChatRequest(messages=ASKED.messages, stop=("x",) * 5))
    assert caught.value.status == 400
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("`temperature` is deprecated for this model.", {"top_p": 1, "max_tokens": 5}),
        ("`temperature` and `top_p` cannot both be specified", {"top_p": 1, "max_tokens": 5}),
        ("Unknown parameter: 'top_p'", {"temperature": 3, "max_tokens": 5}),
        ("Invalid 'temperature': expected a value <= 2", None),
        ("max_tokens is too large, not supported", None),
        ("the temperatures of Oslo are not supported", None),
        ("no", None),
    ],
)
def test_only_a_refusal_by_name_is_one(said: str, left: dict[str, int] | None) -> None:
    body = {"temperature": 3, "top_p": 1, "max_tokens": 5}
    taken = Taken("m")
    assert taken.learned(said, body) is (left is not None)
    assert taken.fitted(body) == (left or body)
