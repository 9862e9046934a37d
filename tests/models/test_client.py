"""A model at a URL, against a server on the loopback."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web
from msgspec import structs

from kickwheel import open_app
from kickwheel.core.errors import ModelError, UsageError
from kickwheel.models import retry
from kickwheel.models.chat import ChatRequest, TextDelta, Usage, complete
from kickwheel.models.client import OPENAI_URL, RemoteModel, chat_body, open_remote
from kickwheel.models.prices import Prices
from kickwheel.models.wire import encoded
from kickwheel.records import Message, ToolCall, ToolSpec

from .loopback import USAGE, Handler, Loopback, chunk, loopback, stream

ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=5.0)
KEY = "sk-very-secret-1"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)


@asynccontextmanager
async def remote(handler: Handler) -> AsyncGenerator[tuple[RemoteModel, Loopback]]:
    async with (
        loopback(handler) as server,
        open_remote("general", "m", server.url + "/v1", KEY) as model,
    ):
        yield model, server


async def test_text_comes_piece_by_piece_with_the_servers_own_usage() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(
            request,
            chunk(role="assistant", content=""),
            chunk(content="I"),
            chunk(content=" do."),
            chunk("stop"),
            USAGE,
        )

    async with remote(answer) as (model, server):
        pieces = [delta async for delta in model.stream(ASKED)]
        whole = await complete(model, ASKED)
    assert [p.text for p in pieces if isinstance(p, TextDelta)] == ["I", " do."]
    assert whole.message == Message(role="assistant", content="I do.")
    assert whole.usage == Usage(prompt_tokens=11, output_tokens=3, cached_tokens=8)
    assert (whole.finish_reason, whole.model) == ("stop", "m-1")
    path, body, headers = server.asked[0]
    assert path == "/v1/chat/completions"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert headers["Authorization"] == f"Bearer {KEY}"


async def test_calls_are_put_together_from_their_pieces() -> None:
    def call(index: int, arguments: str, **head: object) -> dict[str, object]:
        name = head.pop("name", None)
        function = {"arguments": arguments, **({"name": name} if name else {})}
        return {"index": index, "function": function, **head}

    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(
            request,
            chunk(tool_calls=[call(0, "", id="a", name="find")]),
            chunk(tool_calls=[call(0, '{"x"')]),
            chunk(tool_calls=[call(1, "{}", id="b", name="book")]),
            chunk(tool_calls=[call(0, ":1}")]),
            chunk("stop"),  # some servers say so, although there are calls
        )

    async with remote(answer) as (model, _):
        whole = await complete(model, ASKED)
    assert whole.message.tool_calls == (
        ToolCall(id="a", name="find", arguments='{"x":1}'),
        ToolCall(id="b", name="book", arguments="{}"),
    )
    assert whole.finish_reason == "tool_calls"


async def test_a_server_that_answers_whole_is_understood() -> None:
    async def answer(request: web.Request) -> web.Response:
        message = {"role": "assistant", "content": "Me."}
        usage = {"prompt_tokens": 2, "completion_tokens": 1}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"model": "m", "choices": choices, "usage": usage})

    async with remote(answer) as (model, _):
        whole = await complete(model, ASKED)
    assert whole.message.content == "Me."
    assert whole.usage.prompt_tokens == 2


async def test_a_word_in_the_keys_place_is_no_secret_and_a_web_page_no_error_text() -> None:
    async def answer(request: web.Request) -> web.Response:
        page = "<!DOCTYPE HTML>\n<html><body>none of our pages</body></html>"
        return web.Response(status=404, text=page, content_type="text/html")

    async with (
        loopback(answer) as server,
        open_remote("general", "m", server.url + "/none", "none") as model,
    ):
        with pytest.raises(ModelError) as caught:
            await complete(model, ASKED)
    assert f"{server.url}/none answers 404: a page of HTML" in str(caught.value)
    assert "Is this the URL of a model server?" in str(caught.value)
    assert "base_url ends in /v1" in str(caught.value)
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_what_passes_is_tried_again(status: int) -> None:
    count = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count < 3:
            return web.Response(status=status, headers={"retry-after-ms": "5"})
        return await stream(request, chunk("stop", content="Now."))

    async with remote(answer) as (model, _):
        assert (await complete(model, ASKED)).message.content == "Now."
    assert count == 3


@pytest.mark.parametrize(
    ("status", "told", "tries"),
    [(401, 401, 1), (403, 401, 1), (404, 404, 1), (400, 400, 1), (422, 400, 1), (500, 502, 3)],
)
async def test_an_error_has_its_status_and_the_servers_words(
    status: int, told: int, tries: int
) -> None:
    async def answer(request: web.Request) -> web.Response:
        body = {"error": {"message": f"no, {KEY} is wrong"}}
        return web.json_response(body, status=status, headers={"retry-after-ms": "1"})

    async with remote(answer) as (model, server):
        with pytest.raises(ModelError, match=r"no, .* is wrong") as caught:
            await complete(model, ASKED)
    assert caught.value.status == told
    assert KEY not in str(caught.value)
    assert ("is wrong. Check the key (" in str(caught.value)) == (told == 401)
    assert len(server.asked) == tries


async def test_an_address_in_the_environment_that_is_none_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app.yml").write_text("models: {general: {kind: openai, model: any}}\n")
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:11434/v1")
    with pytest.raises(UsageError, match='OPENAI_BASE_URL is "localhost:11434/v1"; it must begin'):
        async with open_app(tmp_path):
            pass


async def test_a_wait_longer_than_the_request_is_not_begun() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"retry-after": "60"})

    async with remote(answer) as (model, server):
        with pytest.raises(ModelError) as caught:
            await complete(model, ASKED)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 60.0)
    assert len(server.asked) == 1


async def test_a_date_to_come_back_at_is_read() -> None:
    async def answer(request: web.Request) -> web.Response:
        headers = {"retry-after": formatdate(time.time() + 100, usegmt=True)}
        return web.Response(status=429, headers=headers)

    async with remote(answer) as (model, _):
        with pytest.raises(ModelError) as caught:
            await complete(model, ASKED)
    assert caught.value.retry_after_s == pytest.approx(100, abs=5)


async def test_a_server_that_says_not_to_try_again_is_left_alone() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=503, headers={"x-should-retry": "false"})

    async with remote(answer) as (model, server):
        with pytest.raises(ModelError):
            await complete(model, ASKED)
    assert len(server.asked) == 1


async def test_a_stream_that_breaks_is_an_error_and_not_an_answer() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunk(content="I was"), end=False)

    async with remote(answer) as (model, server):
        with pytest.raises(ModelError) as caught:
            await complete(model, ASKED)
    assert caught.value.status == 502
    assert len(server.asked) == 1, "pieces were shown: it must not be asked again"


async def test_a_stream_without_its_end_is_an_error() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunk(content="I was"))

    async with remote(answer) as (model, _):
        with pytest.raises(ModelError, match="broke off"):
            await complete(model, ASKED)


async def test_an_error_in_the_stream_is_told() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunk(content="I"), {"error": {"message": "overheated"}})

    async with remote(answer) as (model, _):
        with pytest.raises(ModelError, match="overheated"):
            await complete(model, ASKED)


async def test_a_silent_server_is_left_at_the_deadline() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async with remote(answer) as (model, _):
        asked = ChatRequest(messages=ASKED.messages, timeout_s=0.2)
        with pytest.raises(ModelError) as caught:
            await complete(model, asked)
    assert caught.value.status == 504


async def test_nobody_there_is_told_with_the_address() -> None:
    async with open_remote("general", "m", "http://127.0.0.1:9/v1") as model:
        with pytest.raises(ModelError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached"):
            await complete(model, ASKED)


async def test_labels_travel_as_a_schema_and_come_back_as_words() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunk(content='{"label"'), chunk("stop", content=':"spam"}'))

    async with remote(answer) as (model, server):
        asked = ChatRequest(messages=ASKED.messages, labels=("spam", "ham"), max_tokens=8)
        assert (await complete(model, asked)).message.content == "spam"
    body = server.asked[0][1]
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["label"]["enum"] == ["spam", "ham"]
    assert "max_tokens" not in body, "a model that thinks first would not come to the label"


async def test_openai_itself_is_held_to_a_schema_that_its_grammar_can_hold() -> None:
    total = {"type": "object", "properties": {"total": {"type": "number", "minimum": 0}}}
    async with open_remote("general", "m", OPENAI_URL, "k") as model:
        for more, strict in (({"required": ["total"]}, True), ({}, False)):
            asked = ChatRequest(messages=ASKED.messages, json_schema={**total, **more})
            form = model.sent(asked).body["response_format"]["json_schema"]
            assert form["strict"] is strict
            assert ("'minimum'" in str(form)) is not strict


def test_a_tools_name_as_choice_becomes_the_protocols_object() -> None:
    request = ChatRequest(messages=ASKED.messages, tools=(ToolSpec(name="find"),), max_tokens=5)
    named = ChatRequest(messages=ASKED.messages, tools=request.tools, tool_choice="find")
    assert chat_body(request, "m")["tool_choice"] == "auto"
    assert chat_body(named, "m")["tool_choice"] == {
        "type": "function",
        "function": {"name": "find"},
    }
    assert chat_body(request, "m", limit="max_completion_tokens")["max_completion_tokens"] == 5


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt_tokens=1_000_000, output_tokens=500_000, cached_tokens=400_000)
    # By hand: 0.6 M at 1 $ + 0.4 M at 0.5 $ + 0.5 M at 4 $.
    assert Prices(input=1, output=4, cached=0.5).cost_usd(usage) == pytest.approx(2.8)
    assert Prices(input=1, output=4).cost_usd(usage) == pytest.approx(3.0)


def test_the_address_of_openai_has_its_version() -> None:
    assert OPENAI_URL.endswith("/v1")


async def test_an_answer_nobody_waits_for_is_asked_in_one_piece() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "find", "arguments": "{}"}}

    async def answer(request: web.Request) -> web.Response:
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
        return web.json_response({**USAGE, "choices": choices})

    async with remote(answer) as (model, server):
        asked = structs.replace(ASKED, whole=True)
        whole = await complete(model, asked)
        pieces = [delta async for delta in model.stream(asked)]
    assert whole.message.tool_calls == (ToolCall(id="a", name="find", arguments="{}"),)
    assert whole.usage == Usage(prompt_tokens=11, output_tokens=3, cached_tokens=8)
    assert pieces[-1].usage == whole.usage  # type: ignore[union-attr]
    for _, body, _ in server.asked:
        assert "stream" not in body
        assert "stream_options" not in body


async def test_one_that_streams_although_it_should_not_is_understood() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunk(content="M"), chunk("stop", content="e."), USAGE)

    async with remote(answer) as (model, _):
        whole = await complete(model, structs.replace(ASKED, whole=True))
    assert (whole.message.content, whole.usage.prompt_tokens) == ("Me.", 11)


async def test_the_bytes_of_a_prompt_stay_the_same_from_step_to_step() -> None:
    sent: list[bytes] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        sent.append(await request.read())
        function = {"name": "weather", "arguments": "{}"}
        call = {"index": 0, "id": "a", "type": "function", "function": function}
        return await stream(request, chunk("tool_calls", tool_calls=[call]), USAGE)

    tools = tuple(
        ToolSpec(name=name, parameters={"type": "object", "properties": {"city": {}}})
        for name in ("weather", "trains", "hotels")
    )
    messages = (Message(role="system", content="Be brief."), *ASKED.messages)
    async with remote(answer) as (model, _):
        for step in range(4):
            choice = "required" if step == 0 else "auto"
            whole = await complete(
                model, structs.replace(ASKED, messages=messages, tools=tools, tool_choice=choice)
            )
            result = Message(role="tool", content=f"result {step}", tool_call_id="a")
            messages = (*messages, whole.message, result)
    assert sent[0].startswith(b'{"model":"m","tools":[{'), "tools first: they change least"
    for before, after in itertools.pairwise(sent):
        # Up to the end of the last message: what comes behind the prompt may change.
        prompt = before[: before.index(b'],"stream"')]
        assert after.startswith(prompt + b",")


def test_half_a_surrogate_pair_does_not_break_a_request() -> None:
    body = chat_body(ChatRequest(messages=(Message(role="user", content="\ud83d"),)), "m")
    assert json.loads(encoded(body))["messages"][0]["content"] == "?"
