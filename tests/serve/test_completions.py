"""/v1/completions with the real openai client."""

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from kickwheel.core.errors import ModelError
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.models.client import open_remote
from tests.serve.conftest import Rooms, Served


class Writer:
    """Goes on with the prompt, a letter a piece, and breaks off at a prompt that says so."""

    name = "writer"

    def __init__(self) -> None:
        self.asked: list[tuple[str, ChatRequest]] = []

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        raise AssertionError("asked as a chat")
        yield

    async def continuation(self, prompt: str, request: ChatRequest) -> AsyncIterator[Delta]:
        self.asked.append((prompt, request))
        yield TextDelta(prompt[-1:])
        if "break" in prompt:
            raise ModelError("the engine died")
        yield TextDelta("!")
        yield Done("length", Usage(prompt_tokens=len(prompt), output_tokens=2))


@pytest.fixture
def writer(rooms: Rooms) -> Writer:
    rooms.live["writer"] = made = Writer()
    return made


def test_a_model_goes_on_with_the_text_as_it_stands(served: Served, writer: Writer) -> None:
    answer = served.client().completions.create(
        model="writer", prompt="Once upon", max_tokens=9, stop=["."], temperature=0.5, seed=3
    )
    assert (answer.object, answer.choices[0].text) == ("text_completion", "n!")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (9, 11)
    ((prompt, request),) = writer.asked
    assert prompt == "Once upon"
    assert (request.max_tokens, request.stop, request.temperature, request.seed) == (
        9,
        (".",),
        0.5,
        3,
    )


def test_several_prompts_are_answered_in_their_order(served: Served, writer: Writer) -> None:
    answer = served.client().completions.create(model="writer", prompt=["a", "bb"])
    assert [(c.index, c.text) for c in answer.choices] == [(0, "a!"), (1, "b!")]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3
    served.recorder.flush()
    asked = [served.traces.get(one.id).spans[0].input[0].content for one in served.traces.list()]
    assert sorted(map(str, asked)) == ["a", "bb"]


def test_a_stream_has_the_pieces_of_all_prompts_and_usage_at_its_end(
    served: Served, writer: Writer
) -> None:
    stream = served.client().completions.create(
        model="writer", prompt=["a", "b"], stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    pieces = [(c.choices[0].index, c.choices[0].text) for c in chunks[:-1]]
    assert pieces == [(0, "a"), (0, "!"), (0, ""), (1, "b"), (1, "!"), (1, "")]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 6
    with pytest.raises(openai.APIError, match="the engine died"):
        list(served.client().completions.create(model="writer", prompt="break", stream=True))


def test_to_an_agent_a_prompt_is_a_question_and_a_model_of_chats_is_refused(
    served: Served,
) -> None:
    client = served.client()
    answer = client.completions.create(model="agent", prompt="what is it?")
    assert answer.choices[0].text == "what is it?"
    with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
        client.completions.create(model="echo", prompt="x")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"prompt": [1, 2]}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"echo": True}, "echo"),
    ({"n": 2}, "n"),
    ({"best_of": 2}, "best_of"),
    ({"logprobs": 1}, "logprobs"),
    ({"suffix": "end"}, "suffix"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"temperature": 9}, "temperature"),
    ({"stream_options": {}}, "stream_options"),
]


@pytest.mark.parametrize(("body", "param"), WRONG)
def test_what_is_not_done_is_refused(
    served: Served, writer: Writer, body: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        served.client().post(
            "/completions", body={"model": "writer", "prompt": "x", **body}, cast_to=object
        )
    assert caught.value.param == param
    assert not writer.asked


async def test_a_model_elsewhere_goes_on_with_texts_where_its_server_does(
    served: Served, writer: Writer
) -> None:
    async with open_remote("far", "writer", f"{served.url}/v1") as model:
        request = ChatRequest(messages=(), max_tokens=7, stop=("x",))
        pieces = [piece async for piece in model.continuation("Once upon", request)]
    *texts, done = pieces
    assert texts == [TextDelta("n"), TextDelta("!")]
    assert isinstance(done, Done)
    assert (done.finish_reason, done.usage.prompt_tokens) == ("length", 9)
    assert (writer.asked[0][1].max_tokens, writer.asked[0][1].stop) == (7, ("x",))
