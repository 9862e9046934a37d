"""What an OpenAI client asks an agent for by `response_format`, it gets, whole and streamed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError

from kickwheel.agents.kinds.react import React, Reacting
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from tests.serve.conftest import Rooms, running

WANTED: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "invoice",
        "schema": {
            "type": "object",
            "properties": {"total": {"type": "number"}},
            "required": ["total"],
        },
    },
}
ASKED: Any = [{"role": "user", "content": "What do I owe?"}]


class Slow:
    """Answers in words first, and in JSON once it is told that they are none."""

    name = "slow"

    def __init__(self, second: str) -> None:
        self.second = second

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        told = "Your answer is not of the form" in (request.messages[-1].content or "")
        yield TextDelta(self.second if told else "Answer: Twelve fifty.")
        yield Done("stop", Usage(prompt_tokens=1, output_tokens=1))


def test_an_agents_answer_has_the_form_that_the_client_wants(tmp_path: Path) -> None:
    good = Reacting("good", Slow('{"total": 12.5}'), {}, React(model="m"))
    bad = Reacting("bad", Slow("Twelve!"), {}, React(model="m"))
    with running(tmp_path, Rooms(live={"good": good, "bad": bad})) as served:
        chat = served.client().chat.completions
        whole = chat.create(model="good", messages=ASKED, response_format=WANTED)
        assert json.loads(whole.choices[0].message.content or "") == {"total": 12.5}
        pieces = chat.create(model="good", messages=ASKED, response_format=WANTED, stream=True)
        said = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert said == '{"total": 12.5}'
        with pytest.raises(APIStatusError) as raised:
            chat.create(model="bad", messages=ASKED, response_format=WANTED)
    assert raised.value.status_code == 502
