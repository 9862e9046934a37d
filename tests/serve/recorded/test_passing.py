"""What a program sees that asks through the recorder: what it would see without."""

import asyncio
import gzip
import json
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from aiohttp import web
from openai import AsyncOpenAI
from yarl import URL

from kickwheel.records import Trace
from kickwheel.serve.recorded import Upstream
from tests.models.loopback import USAGE, chunk, loopback, stream
from tests.serve.conftest import Rooms, Served, running

QUESTION: Any = [{"role": "user", "content": "Where is parcel 7?"}]
WHOLE = {
    "id": "chatcmpl-7",
    "object": "chat.completion",
    "created": 1,
    "model": "m-1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "In Oslo."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
}


def client(server: Served, project: str = "shop", **options: Any) -> AsyncOpenAI:
    given = {"api_key": "theirs", "max_retries": 0, **options}
    return AsyncOpenAI(base_url=f"{server.url}/t/{project}/v1", **given)


def traces(server: Served, workload: str = "shop") -> list[Trace]:
    assert server.recorder.flush()
    return list(server.traces.all(workload))


async def test_an_answer_in_one_piece_passes_byte_by_byte_and_is_kept(tmp_path: Path) -> None:
    body = json.dumps(WHOLE, indent=3).encode()

    async def answer(request: web.Request) -> web.Response:
        headers = {
            "x-request-id": "req_theirs",
            "openai-processing-ms": "12",
            "X-Trace-Id": "theirs",
        }
        return web.Response(body=body, content_type="application/json", headers=headers)

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            raw = await client(server).chat.completions.with_raw_response.create(
                model="gpt", messages=QUESTION, temperature=0.5, max_completion_tokens=40
            )
            (trace,) = traces(server)
    assert raw.content == body
    assert raw.headers["x-request-id"] == "req_theirs"
    assert raw.headers["openai-processing-ms"] == "12"
    assert raw.headers.get_list("x-trace-id") == [trace.id]
    path, asked, headers = there.asked[0]
    assert path == "/v1/chat/completions"
    assert asked["messages"] == QUESTION
    assert headers["Authorization"] == "Bearer theirs"
    assert headers["Host"] == there.url.removeprefix("http://")
    (span,) = trace.spans
    assert (trace.workload, span.kind, span.name) == ("shop", "model", "gpt")
    assert [m.content for m in (*span.input, *span.output)] == ["Where is parcel 7?", "In Oslo."]
    said = dict(span.attributes)
    assert said.pop("gen_ai.response.time_to_first_chunk") > 0  # type: ignore[operator]
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 40,
        "gen_ai.response.id": "chatcmpl-7",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "user_agent.original": f"AsyncOpenAI/Python {openai.__version__}",
        "kickwheel.framework": "openai",
    }


async def test_a_stream_passes_piece_by_piece_and_its_calls_are_put_together(
    tmp_path: Path,
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        call = {"index": 0, "id": "c1", "type": "function"}
        head = {**call, "function": {"name": "track", "arguments": ""}}
        pieces = ['{"parcel"', ": 7}"]
        rest = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
        chunks = [chunk(role="assistant", content=None, tool_calls=[head])]
        chunks += [chunk(tool_calls=[piece]) for piece in rest]
        return await stream(request, *chunks, chunk("tool_calls"))

    tools: Any = [
        {"type": "function", "function": {"name": "track", "parameters": {"type": "object"}}}
    ]
    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            got = await client(server).chat.completions.create(
                model="gpt", messages=QUESTION, tools=tools, stream=True
            )
            chunks = [piece async for piece in got]
            (trace,) = traces(server)
    assert len(chunks) == 4
    assert "stream_options" not in there.asked[0][1]
    (span,) = trace.spans
    (call,) = span.output[0].tool_calls
    assert (call.id, call.name, call.arguments) == ("c1", "track", '{"parcel": 7}')
    assert [tool.name for tool in span.tools] == ["track"]
    assert span.attributes["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert span.attributes["kickwheel.usage_estimated"] is True
    # The conversation and the tools of 140 bytes, and 18 bytes of answer, at 4 a token.
    assert 30 <= int(span.attributes["gen_ai.usage.input_tokens"]) <= 50  # type: ignore[arg-type]
    assert span.attributes["gen_ai.usage.output_tokens"] == 5


async def test_usage_that_the_client_asked_for_is_the_servers(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunk(content="Here."), chunk("stop"), USAGE)

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            got = await client(server).chat.completions.create(
                model="gpt",
                messages=QUESTION,
                stream=True,
                stream_options={"include_usage": True},
            )
            assert [piece async for piece in got][-1].usage is not None
            (trace,) = traces(server)
    said = trace.spans[0].attributes
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (11, 3)
    assert said["gen_ai.usage.cache_read.input_tokens"] == 8
    assert "kickwheel.usage_estimated" not in said


async def test_an_error_arrives_as_it_was_and_is_noted(tmp_path: Path) -> None:
    body = b'{"error": {"message": "Slow down", "type": "requests", "code": "rate_limit"}}'

    async def answer(request: web.Request) -> web.Response:
        headers = {"retry-after": "7", "x-ratelimit-remaining-requests": "0"}
        return web.Response(status=429, body=body, headers=headers)

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            with pytest.raises(openai.RateLimitError) as raised:
                await client(server).chat.completions.create(model="gpt", messages=QUESTION)
            (trace,) = traces(server)
    assert raised.value.response.content == body
    assert raised.value.response.headers["retry-after"] == "7"
    assert raised.value.response.headers["x-ratelimit-remaining-requests"] == "0"
    assert trace.spans[0].error == "429: Slow down"


async def test_an_upstream_that_is_not_there_is_told_as_openai_would(tmp_path: Path) -> None:
    with running(tmp_path, Rooms(), upstream=Upstream("http://127.0.0.1:9/v1")) as server:
        with pytest.raises(openai.InternalServerError) as raised:
            await client(server).chat.completions.create(model="gpt", messages=QUESTION)
        (trace,) = traces(server)
    assert raised.value.status_code == 502
    assert raised.value.code == "upstream_unreachable"
    assert "http://127.0.0.1:9/v1, cannot be reached" in raised.value.message
    assert "cannot be reached" in str(trace.spans[0].error)


async def test_a_client_that_leaves_ends_the_request_upstream_and_leaves_what_was_there(
    tmp_path: Path,
) -> None:
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(f"data: {json.dumps(chunk(content='Once upon'))}\n\n".encode())
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()
        return response

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            got = await client(server).chat.completions.create(
                model="gpt", messages=QUESTION, stream=True
            )
            await got.__anext__()
            await got.close()
            async with asyncio.timeout(5):
                await ended.wait()
            await asyncio.sleep(0.1)
            (trace,) = traces(server)
    (span,) = trace.spans
    assert span.error == "cancelled"
    assert span.output[0].content == "Once upon"
    assert span.attributes["kickwheel.usage_estimated"] is True


async def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunk(content="Once upon"), end=False)

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            got = await client(server).chat.completions.create(
                model="gpt", messages=QUESTION, stream=True
            )
            with pytest.raises(openai.APIConnectionError):
                [piece async for piece in got]
            (trace,) = traces(server)
    assert trace.spans[0].error == "the upstream broke off in the middle of its answer"
    assert trace.spans[0].output[0].content == "Once upon"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_answer_passes_and_is_read(tmp_path: Path, encoding: str) -> None:
    body = json.dumps(WHOLE).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)

    async def answer(request: web.Request) -> web.Response:
        headers = {"content-encoding": encoding, "content-type": "application/json"}
        return web.Response(body=packed, headers=headers)

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            url = f"{server.url}/t/shop/v1/chat/completions"
            asked = {"model": "gpt", "messages": QUESTION}
            accepted = {"accept-encoding": "br, zstd, gzip;q=0.9, deflate"}
            async with (
                aiohttp.ClientSession(auto_decompress=False) as session,
                session.post(url, json=asked, headers=accepted) as got,
            ):
                assert await got.read() == packed
            (trace,) = traces(server)
    assert there.asked[0][2]["Accept-Encoding"] == "gzip;q=0.9, deflate"
    assert trace.spans[0].output[0].content == "In Oslo."


async def test_headers_of_one_connection_stay_on_it(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        headers = {"Connection": "x-hop", "x-hop": "1", "Keep-Alive": "timeout=9", "x-end": "2"}
        return web.Response(body=b"{}", headers=headers)

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            headers = {"Connection": "keep-alive, x-mine", "x-mine": "1", "TE": "trailers"}
            headers["x-city"] = "Århus"
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{server.url}/t/shop/v1/models?a=b%2Fc", headers=headers) as got,
            ):
                assert await got.read() == b"{}"
    asked = {name.lower() for name in there.asked[0][2]}
    assert asked.isdisjoint({"x-mine", "te", "keep-alive"})
    assert there.asked[0][2]["x-city"] == "Århus"
    assert got.headers["x-end"] == "2"
    assert {"x-hop", "keep-alive"}.isdisjoint(name.lower() for name in got.headers)
    assert len(got.headers.getall("date")) == 1


async def test_anything_else_just_passes(tmp_path: Path) -> None:
    seen = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.raw_path, await request.read()))
        return web.json_response({"object": "file", "id": "file-1"})

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            async with aiohttp.ClientSession() as session:
                for method, path in (
                    ("DELETE", "/files/file%2F1"),
                    ("GET", "/models?limit=2"),
                    ("PATCH", "/anything"),
                ):
                    url = f"{server.url}/t/shop/v1{path}"
                    async with session.request(method, URL(url, encoded=True)) as r:
                        assert r.status == 200
                        assert "x-trace-id" not in r.headers
            assert traces(server) == []
    assert [one[:2] for one in seen] == [
        ("DELETE", "/v1/files/file%2F1"),
        ("GET", "/v1/models?limit=2"),
        ("PATCH", "/v1/anything"),
    ]


async def test_where_we_have_a_key_the_client_shows_it_and_the_upstream_gets_its_own(
    tmp_path: Path,
) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(WHOLE)

    async with loopback(answer) as there:
        upstream = Upstream(f"{there.url}/v1", "sk-upstream")
        with running(tmp_path, Rooms(), upstream=upstream, keys=["ours"]) as server:
            with pytest.raises(openai.AuthenticationError):
                await client(server).chat.completions.create(model="gpt", messages=QUESTION)
            await client(server, api_key="ours").chat.completions.create(
                model="gpt", messages=QUESTION, extra_headers={"Cookie": "session=ours"}
            )
        with running(tmp_path / "b", Rooms(), upstream=Upstream(there.url), keys=["k"]) as server:
            await client(server, api_key="k").chat.completions.create(
                model="gpt", messages=QUESTION
            )
    assert [asked[2].get("Authorization") for asked in there.asked] == ["Bearer sk-upstream", None]
    assert [asked[2].get("Cookie") for asked in there.asked] == [None, None]


async def test_without_an_upstream_the_house_answers_and_the_traffic_is_the_projects(
    tmp_path: Path, rooms: Rooms
) -> None:
    with running(tmp_path, rooms) as server:
        asked = client(server)
        answer = await asked.chat.completions.create(model="echo", messages=QUESTION)
        assert answer.choices[0].message.content == "Where is parcel 7?"
        assert {model.id async for model in asked.models.list()} >= {"echo"}
        with pytest.raises(openai.NotFoundError, match="kickwheel serve --record URL"):
            await asked.chat.completions.create(model="gpt", messages=QUESTION)
        (trace,) = [one for one in traces(server) if one.spans[0].error is None]
    assert trace.spans[0].name == "echo"


async def test_who_asks_us_for_what_another_server_has_is_told_the_way(tmp_path: Path) -> None:
    with running(tmp_path, Rooms(), upstream=Upstream("http://127.0.0.1:9/v1")) as server:
        asked = AsyncOpenAI(base_url=f"{server.url}/v1", api_key="theirs", max_retries=0)
        with pytest.raises(openai.NotFoundError, match="/t/PROJECT/v1 in place of /v1"):
            await asked.chat.completions.create(model="gpt", messages=QUESTION)


@pytest.mark.parametrize("path", ["/t/shop/chat", "/t//v1/models", "/t/shop/v1/../secret"])
async def test_a_path_that_names_no_project_says_how_they_are_named(
    tmp_path: Path, path: str
) -> None:
    with running(tmp_path, Rooms(), upstream=Upstream("http://127.0.0.1:9/v1")) as server:
        async with aiohttp.ClientSession() as session:
            url = URL(server.url + path, encoded=True)
            async with session.get(url) as got:
                said = await got.json()
    assert got.status == 404
    assert "/t/<project>/v1" in said["error"]["message"]


async def test_a_locked_store_breaks_no_call_and_loses_nothing_once_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kickwheel.core.store.sqlite.BUSY_S", 0.02)
    monkeypatch.setattr("kickwheel.trace.record.RETRY_S", 0.02)

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(WHOLE)

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            for _ in range(5):
                await client(server).chat.completions.create(model="gpt", messages=QUESTION)
            assert not server.recorder.flush(timeout_s=0.1)
            other.execute("ROLLBACK")
            assert len(traces(server)) == 5
            assert server.recorder.lost == 0


async def test_a_full_store_breaks_no_call_and_what_is_lost_is_counted(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(WHOLE)

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            pages = server.store.database.read("PRAGMA page_count")[0][0]
            server.store.database.write(lambda c: c.execute(f"PRAGMA max_page_count = {pages}"))
            long: Any = [{"role": "user", "content": "x" * 5000}]
            ours = client(server)
            for _ in range(50):
                await ours.chat.completions.create(model="gpt", messages=long)
    assert server.recorder.kept + server.recorder.lost == 50
    assert server.recorder.lost > 0


async def test_many_streams_at_once_stay_apart(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        word = (await request.json())["messages"][0]["content"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in (*(chunk(content=f"{word} ") for _ in range(5)), chunk("stop")):
            await response.write(f"data: {json.dumps(piece)}\n\n".encode())
            await asyncio.sleep(0.002)
        await response.write(b"data: [DONE]\n\n")
        return response

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            ours = client(server)

            async def one(number: int) -> str:
                asked: Any = [{"role": "user", "content": f"w{number}"}]
                got = await ours.chat.completions.create(model="g", messages=asked, stream=True)
                return "".join([piece.choices[0].delta.content or "" async for piece in got])

            said = await asyncio.gather(*(one(number) for number in range(100)))
            kept = traces(server)
    assert said == [f"w{number} " * 5 for number in range(100)]
    assert len(kept) == 100
    for trace in kept:
        (span,) = trace.spans
        assert span.output[0].content == f"{span.input[0].content} " * 5


@pytest.mark.parametrize("status", [304, 418, 529])
async def test_any_status_passes(tmp_path: Path, status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"etag": '"7"'})

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            async with aiohttp.ClientSession() as session:
                for method in ("GET", "HEAD", "POST"):
                    url = f"{server.url}/t/shop/v1/files/1"
                    async with session.request(method, url) as got:
                        assert (got.status, got.headers["etag"]) == (status, '"7"')
                        assert await got.read() == b""


async def test_a_redirect_is_the_clients_to_follow(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPFound("https://elsewhere.example/file", headers={"Set-Cookie": "a=b"})

    async with loopback(answer) as there:
        with running(tmp_path, Rooms(), upstream=Upstream(f"{there.url}/v1")) as server:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{server.url}/t/shop/v1/files/1", allow_redirects=False) as got,
            ):
                assert got.status == 302
                assert got.headers["location"] == "https://elsewhere.example/file"
                assert got.headers["set-cookie"] == "a=b"


async def test_half_a_request_does_not_pass_for_a_whole_one(tmp_path: Path) -> None:
    ends: asyncio.Queue[str] = asyncio.Queue()

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = await reader.read(-1)
        ends.put_nowait("whole" if said.endswith(b"0\r\n\r\n") else "half")
        writer.close()

    there = await asyncio.start_server(upstream, "127.0.0.1", 0)
    port = there.sockets[0].getsockname()[1]
    with running(tmp_path, Rooms(), upstream=Upstream(f"http://127.0.0.1:{port}/v1")) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        head = "POST /t/shop/v1/files HTTP/1.1\r\nHost: localhost\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".encode())
        await writer.drain()
        await asyncio.sleep(0.2)
        writer.close()
        async with asyncio.timeout(5):
            assert await ends.get() == "half"
    there.close()


async def test_a_password_in_the_upstreams_url_is_not_told(tmp_path: Path) -> None:
    upstream = Upstream("http://me:hunter2hunter2@127.0.0.1:9/v1")
    with (
        running(tmp_path, Rooms(), upstream=upstream) as server,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        await client(server).chat.completions.create(model="gpt", messages=QUESTION)
    assert "hunter2" not in str(raised.value)
