"""Pictures of results and of callers, in each protocol that models speak."""

import asyncio
import base64
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec import UNSET

from kickwheel.core.errors import ModelError
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.client import chat_body, open_remote
from kickwheel.models.pictures import Eyes, eyes, few
from kickwheel.records import Image, Message, ToolCall, wire
from tests.wires.anthropic import message_body
from tests.wires.bedrock import converse_body

from .loopback import USAGE, chunk, loopback, stream

PICTURE = b"\x89PNG"
BASE64 = base64.b64encode(PICTURE).decode()
CALLS = (ToolCall(id="a", name="see", arguments="{}"), ToolCall(id="b", name="add", arguments="{}"))
REQUEST = ChatRequest(
    messages=(
        Message(role="user", content="What is there?"),
        Message(role="assistant", tool_calls=CALLS),
        Message(
            role="tool",
            content="seen",
            tool_call_id="a",
            images=(Image(kept="picture/1/p.png", media_type="image/png"),),
        ),
        Message(role="tool", content="3", tool_call_id="b"),
        Message(role="user", content="Well?"),
    )
)


@pytest.fixture
def sees(tmp_path: Path) -> Eyes:
    (tmp_path / "picture" / "1").mkdir(parents=True)
    (tmp_path / "picture" / "1" / "p.png").write_bytes(PICTURE)
    found = eyes(("text", "image"), tmp_path)
    assert found is not None
    return found


def test_openai_gets_it_from_the_user_behind_all_results_of_the_step(sees: Eyes) -> None:
    messages = sees.openai(REQUEST.messages, chat_body(REQUEST, "m")["messages"])
    roles = [message["role"] for message in messages]
    assert roles == ["user", "assistant", "tool", "tool", "user", "user"]
    note, picture = messages[4]["content"]
    assert "no instruction" in note["text"]
    url = f"data:image/png;base64,{BASE64}"
    assert picture == {"type": "image_url", "image_url": {"url": url}}


def test_anthropic_gets_it_in_the_result(sees: Eyes) -> None:
    result: Any = message_body(REQUEST, "m", 10, sees)["messages"][2]["content"]
    assert result[0]["content"] == [
        {"type": "text", "text": "seen"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": BASE64},
        },
    ]
    assert result[1]["content"] == "3"


def test_bedrock_gets_its_bytes_in_the_result(sees: Eyes) -> None:
    result: Any = converse_body(REQUEST, "m", sees)["messages"][2]["content"]
    assert result[0]["toolResult"]["content"] == [
        {"text": "seen"},
        {"image": {"format": "png", "source": {"bytes": PICTURE}}},
    ]
    assert result[1]["toolResult"]["content"] == [{"text": "3"}]


KEPT = Image(kept="picture/1/p.png", media_type="image/png", sent=True, at=5)
SENT = ChatRequest(
    messages=(
        Message(role="user", content="This and that?", images=(KEPT, replace(KEPT, at=14))),
        Message(role="user", images=(replace(KEPT, at=0, kept="", url="https://a.example/b"),)),
    )
)


def test_what_a_caller_sent_stands_where_it_stood(sees: Eyes) -> None:
    (turn,) = message_body(SENT, "m", 10, sees)["messages"]
    image = {"type": "base64", "media_type": "image/png", "data": BASE64}
    assert turn["content"] == [
        {"type": "text", "text": "This "},
        {"type": "image", "source": image},
        {"type": "text", "text": "and that?"},
        {"type": "image", "source": image},
        {"type": "image", "source": {"type": "url", "url": "https://a.example/b"}},
    ]
    (turn,) = converse_body(ChatRequest(messages=SENT.messages[:1]), "m", sees)["messages"]
    picture = {"image": {"format": "png", "source": {"bytes": PICTURE}}}
    assert turn["content"] == [{"text": "This "}, picture, {"text": "and that?"}, picture]


def test_bedrock_which_fetches_nothing_says_so(sees: Eyes) -> None:
    with pytest.raises(ModelError, match="send them as data: URLs") as raised:
        converse_body(SENT, "m", sees)
    assert raised.value.status == 400


def test_of_results_the_last_are_seen_and_of_what_a_caller_sent_all() -> None:
    result = replace(REQUEST.messages[2], content="r")
    both = replace(SENT.messages[0], images=(KEPT, replace(KEPT, sent=False, at=None)))
    seen = few([both, SENT.messages[1], result, result, result])
    assert [len(message.images or ()) for message in seen] == [1, 1, 1, 1, 1]
    assert seen[0].images == (KEPT,)
    assert few([result] * 5)[:2] == (replace(result, images=UNSET),) * 2


def test_without_eyes_there_is_the_text_alone(tmp_path: Path) -> None:
    assert eyes(("text",), tmp_path) is None
    bodies = (chat_body(REQUEST, "m"), message_body(REQUEST, "m", 10), converse_body(REQUEST, "m"))
    assert not any("image" in str(body) for body in bodies)


def test_a_picture_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"picture/1/p\.png is not in the store any more"):
        message_body(REQUEST, "m", 10, Eyes(tmp_path))


async def test_while_pictures_are_read_all_else_goes_on(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        read.append(body["messages"][0]["content"][-1]["image_url"]["url"])
        return await stream(request, chunk(content="A cat."), chunk("stop"), USAGE)

    read: list[str] = []
    went_on, in_time = threading.Event(), []
    # A picture that cannot be read before somebody writes it.
    slow = tmp_path / "p.png"
    os.mkfifo(slow)

    def write() -> None:
        in_time.append(went_on.wait(20))
        slow.write_bytes(PICTURE)

    writer = threading.Thread(target=write)
    writer.start()
    seen = replace(KEPT, kept="p.png", at=None)
    asked = ChatRequest(messages=(Message(role="user", content="What?", images=(seen,)),))
    async with loopback(answer) as server, open_remote("m", "m", f"{server.url}/v1", "k") as model:
        model.eyes = Eyes(tmp_path)
        task = asyncio.create_task(complete(model, asked))
        await asyncio.sleep(0)
        went_on.set()
        assert (await task).message.content == "A cat."
    writer.join()
    assert (in_time, read) == ([True], [f"data:image/png;base64,{BASE64}"])


def test_records_without_pictures_have_the_bytes_that_they_always_had() -> None:
    assert wire.to_bytes(Message(role="user", content="Hi")) == (
        b'{"role":"user","content":"Hi","tool_calls":[],"tool_call_id":null}'
    )
    pictured = REQUEST.messages[2]
    assert wire.from_bytes(wire.to_bytes(pictured), Message) == pictured
