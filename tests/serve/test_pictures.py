"""Pictures that callers send, through the real doors and the official client."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from kickwheel import serving
from kickwheel.app import App, check_app
from kickwheel.models.pictures import CHARS
from kickwheel.records import wire
from kickwheel.serve.pictures import MOST
from tests.agents.desk import desk
from tests.models.loopback import Loopback

APP = """
models:
  seeing: {kind: openai, model: m, base_url: URL, api_key: k, input: [text, image]}
  blind: {kind: openai, model: m, base_url: URL, api_key: k}
  either: {kind: fallback, models: [blind, seeing]}
  near: {kind: coalesced, model: seeing}
  kept: {kind: cache, model: seeing, threshold: 0.5}
agents:
  desk: {kind: tool_loop, model: seeing}
  thinker: {kind: react, model: seeing}
  dark: {kind: tool_loop, model: blind}
"""
PNG = b"\x89PNG\r\n\x1a\n and what it shows"
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
AT = "https://pictures.example/cat.png?signature=s3cret"


def asked(*urls: str, detail: str | None = None) -> list[Any]:
    """A conversation of chat in which each picture follows a word."""
    content: list[Any] = []
    for url in urls:
        content.append({"type": "text", "text": "Look: "})
        image = {"url": url} if detail is None else {"url": url, "detail": detail}
        content.append({"type": "image_url", "image_url": image})
    return [{"role": "user", "content": content}]


class Shop:
    def __init__(self, app: App, model: Loopback, client: openai.AsyncOpenAI) -> None:
        self.app, self.model, self.client = app, model, client

    async def chat(self, name: str, messages: list[Any]) -> str:
        answer = await self.client.chat.completions.create(model=name, messages=messages)
        return answer.choices[0].message.content or ""

    def shown(self) -> list[Any]:
        """The last message that the model was sent."""
        _, body, _ = self.model.asked[-1]
        content: list[Any] = body["messages"][-1]["content"]
        return content

    def traced(self) -> bytes:
        """All traces."""
        assert self.app.recorder.flush()
        return b"".join(wire.to_bytes(trace) for trace in self.app.traces.all())


@pytest_asyncio.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with (
        desk(tmp_path, lambda body: "Answer: a cat", APP) as (app, model),
        serving(app) as url,
        openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield Shop(app, model, client)


@pytest.mark.parametrize("name", ["seeing", "desk", "thinker", "either", "near"])
async def test_a_model_with_eyes_sees_them_where_they_stand(shop: Shop, name: str) -> None:
    assert "a cat" in await shop.chat(name, asked(DATA, AT, detail="low"))
    said = {"type": "text", "text": "Look: "}
    first = {"type": "image_url", "image_url": {"url": DATA, "detail": "low"}}
    second = {"type": "image_url", "image_url": {"url": AT, "detail": "low"}}
    assert shop.shown() == [said, first, said, second]


@pytest.mark.parametrize("name", ["seeing", "desk"])
async def test_a_trace_names_them_and_does_not_hold_them(shop: Shop, name: str) -> None:
    await shop.chat(name, asked(DATA, AT))
    (kept,) = shop.app.store.artifacts.ids("picture")
    file = shop.app.store.artifacts.path("picture", kept) / "picture.png"
    assert file.read_bytes() == PNG
    traced = shop.traced()
    assert f"picture/{kept}/picture.png".encode() in traced
    assert b"https://pictures.example/cat.png" in traced
    assert b"s3cret" not in traced
    assert b"base64" not in traced


@pytest.mark.parametrize("name", ["blind", "dark"])
async def test_a_model_without_eyes_is_not_asked(shop: Shop, name: str) -> None:
    with pytest.raises(openai.BadRequestError, match=r"blind takes no pictures.*text, image"):
        await shop.chat(name, asked(DATA))
    assert not shop.model.asked


@pytest.mark.parametrize(
    ("urls", "says"),
    [
        (["http://pictures.example/cat.png"], r"messages\[0\]: the URL of a picture must begin"),
        (["file:///etc/passwd"], "must begin with data: or https"),
        (["data:image/png,raw"], "data:image/png;base64"),
        (["data:image/svg+xml;base64,AAAA"], "image/webp"),
        (["data:image/png;base64,A*A"], "not base64"),
        ([f"data:image/jpeg;base64,{DATA.partition(',')[2]}"], "is no image/jpeg"),
        ([f"data:image/png;base64,{'A' * (CHARS + 1)}"], "5,000,000 characters of base64"),
        ([DATA] * (MOST + 1), "21 pictures are too many"),
    ],
)
async def test_what_is_no_picture_that_models_take_is_refused(
    shop: Shop, urls: list[str], says: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=says) as raised:
        await shop.chat("seeing", asked(*urls))
    assert raised.value.param == "messages"
    assert not shop.model.asked
    assert not shop.app.store.artifacts.ids("picture")


async def test_the_same_words_about_another_picture_are_another_question(shop: Shop) -> None:
    other = f"data:image/png;base64,{base64.b64encode(PNG + b' else').decode()}"
    for url in (DATA, DATA, other, other):
        await shop.chat("kept", asked(url))
    assert len(shop.model.asked) == 2


async def test_only_a_user_shows_pictures(shop: Shop) -> None:
    messages = [{**asked(DATA)[0], "role": "system"}, {"role": "user", "content": "Well?"}]
    with pytest.raises(openai.BadRequestError, match="must be text; this one is image_url"):
        await shop.chat("seeing", messages)


async def test_a_response_sees_them_and_so_does_one_that_goes_on_from_it(shop: Shop) -> None:
    content: Any = [
        {"type": "input_text", "text": "What is "},
        {"type": "input_text", "text": "this? "},
        {"type": "input_image", "image_url": DATA, "detail": "auto"},
    ]
    first = await shop.client.responses.create(
        model="desk", input=[{"role": "user", "content": content}]
    )
    said = {"type": "text", "text": "What is this? "}
    seen = [said, {"type": "image_url", "image_url": {"url": DATA, "detail": "auto"}}]
    assert shop.shown() == seen
    await shop.client.responses.create(
        model="desk", input="And its colour?", previous_response_id=first.id
    )
    assert shop.model.asked[-1][1]["messages"][0]["content"] == seen
    listed = await shop.client.responses.input_items.list(first.id)
    parts = listed.to_dict()["data"][0]["content"]  # type: ignore[index]
    assert [part["type"] for part in parts] == ["input_text", "input_image"]
    assert parts[1]["image_url"] == DATA
    assert b"base64" not in shop.traced()


async def test_a_result_of_the_callers_own_tool_may_show_one(shop: Shop) -> None:
    output = [{"type": "input_text", "text": "Done."}, {"type": "input_image", "image_url": DATA}]
    call = {"type": "function_call", "call_id": "c1", "name": "see", "arguments": "{}"}
    items: Any = [
        {"role": "user", "content": "Look."},
        call,
        {"type": "function_call_output", "call_id": "c1", "output": output},
    ]
    await shop.client.responses.create(model="seeing", input=items)
    _, body, _ = shop.model.asked[-1]
    assert body["messages"][-2] == {"role": "tool", "tool_call_id": "c1", "content": "Done."}
    note, picture = shop.shown()
    assert "no instruction" in note["text"]
    assert picture["image_url"]["url"] == DATA


async def test_a_response_without_eyes_or_by_file_is_refused(shop: Shop) -> None:
    for name, part, says in (
        ("blind", {"image_url": DATA}, "takes no pictures"),
        ("seeing", {"file_id": "file-1"}, "send its image_url"),
    ):
        content: Any = [{"type": "input_image", **part}]
        with pytest.raises(openai.BadRequestError, match=says):
            await shop.client.responses.create(
                model=name, input=[{"role": "user", "content": content}]
            )
    assert not shop.model.asked


async def test_the_page_is_true(shop: Shop, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/models/pictures.md").read_text("utf-8")
    blocks = dict(re.findall(r"```(yaml|python)\n(.*?)```", page, re.DOTALL))
    (tmp_path / "page.yml").write_text(blocks["yaml"])
    assert check_app(tmp_path / "page.yml").parts
    names: dict[str, Any] = {}
    exec(blocks["python"], names)
    (tmp_path / "cat.png").write_bytes(PNG)
    asked = (str(shop.client.base_url), "desk", str(tmp_path / "cat.png"))
    assert "cat" in await asyncio.to_thread(names["colour"], *asked)
    assert shop.shown()[1]["image_url"]["url"] == DATA
