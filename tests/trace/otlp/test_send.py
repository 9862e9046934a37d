"""Traces that leave, to collectors that take them, refuse them, or are away."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from kickwheel.app import open_app
from kickwheel.cli import group
from kickwheel.core.errors import ConfigError, KickwheelError, UsageError
from kickwheel.core.store import open_store
from kickwheel.flywheel.export import export
from kickwheel.flywheel.traffic import import_
from kickwheel.records import Message, Span, ToolSpec, Trace
from kickwheel.trace.otlp import plain, send
from kickwheel.trace.otlp.read import read
from kickwheel.trace.otlp.send import sending
from kickwheel.trace.otlp.target import Target
from kickwheel.trace.record import span
from kickwheel.trace.store import Traces

APP = """
models:
  echo: {kind: openai, model: m, base_url: "http://127.0.0.1:9/v1", api_key: none}
"""


def a_trace(number: int, spans: int = 1) -> Trace:
    root = Span(
        id=f"{1:016x}",
        kind="model",
        name="m",
        start_ns=1000,
        end_ns=2000,
        input=(Message(role="user", content="Mail ann@shop.io"),),
    )
    rest = [replace(root, id=f"{n:016x}", parent=root.id) for n in range(2, spans + 1)]
    return Trace(id=f"{number:032x}", workload="shop", spans=(root, *rest))


@dataclass
class Collector:
    """Answers by the next of `answers`, then with 200."""

    answers: list[web.Response] = field(default_factory=list)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def spans(self) -> int:
        return sum(
            len(scope.spans)
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
        )

    async def take(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        if self.answers:
            answer = self.answers.pop(0)
            if answer.status != 200:
                return answer
            self.requests.append(ExportTraceServiceRequest.FromString(body))
            return answer
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        return web.Response(body=b"", content_type="application/x-protobuf")


@asynccontextmanager
async def collecting(*answers: web.Response) -> AsyncIterator[Collector]:
    collector = Collector(list(answers))
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "PAUSE_S", 0.02)
    monkeypatch.setattr(send, "RETRY_S", 0.02)


async def test_traces_leave_together_redacted_with_the_headers_of_the_file() -> None:
    async with collecting() as collector:
        target = Target(collector.url, {"authorization": "Bearer k"})
        async with sending(target) as sender:
            sender.take([a_trace(1), a_trace(2)])
        assert (sender.sent, sender.lost) == (2, 0)
    (request,) = collector.requests
    assert len(request.resource_spans) == 2
    assert collector.headers[0]["authorization"] == "Bearer k"
    assert b"<email_1>" in request.SerializeToString()
    assert b"ann@shop.io" not in request.SerializeToString()


async def test_a_large_trace_leaves_in_several_requests() -> None:
    async with collecting() as collector:
        async with sending(Target(collector.url)) as sender:
            sender.take([a_trace(1, 2 * send.BATCH + 7), a_trace(2)])
        assert (sender.sent, collector.spans) == (2 * send.BATCH + 8, 2 * send.BATCH + 8)
    assert len(collector.requests) == 4


async def test_spans_with_much_text_leave_in_requests_that_collectors_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(send, "BODY_BYTES", 3000)
    async with collecting() as collector:
        async with sending(Target(collector.url)) as sender:
            sender.take([a_trace(1, 50)])
        assert (sender.sent, collector.spans) == (50, 50)
    assert all(request.ByteSize() <= 3000 for request in collector.requests)


async def test_a_trace_that_cannot_be_written_keeps_no_other_from_leaving() -> None:
    nested: dict[str, Any] = {}
    for _ in range(5000):
        nested = {"properties": nested}
    odd = a_trace(1)
    tools = (ToolSpec(name="deep", description="", parameters=nested),)
    odd = replace(odd, spans=(replace(odd.spans[0], tools=tools),))
    async with collecting() as collector:
        async with sending(Target(collector.url)) as sender:
            sender.take([a_trace(2), odd, a_trace(3)])
        assert (sender.sent, sender.lost) == (2, 1)
    assert collector.spans == 2


async def test_a_busy_collector_is_asked_again() -> None:
    busy = web.Response(status=503, headers={"retry-after": "0"})
    async with (
        collecting(busy, web.Response(status=429)) as collector,
        sending(Target(collector.url)) as sender,
    ):
        sender.take([a_trace(1)])
        await until(lambda: sender.sent == 1)
    assert (len(collector.headers), sender.lost) == (3, 0)


async def test_a_collector_that_comes_late_gets_what_waited(unused_tcp_port: int) -> None:
    async with sending(Target(f"http://127.0.0.1:{unused_tcp_port}")) as sender:
        sender.take([a_trace(1)])
        await asyncio.sleep(0.1)
        collector = Collector()
        app = web.Application()
        app.router.add_post("/v1/traces", collector.take)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        await until(lambda: sender.sent == 1)
        await runner.cleanup()
    assert sender.lost == 0


async def test_what_a_collector_refuses_or_rejects_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    some = ExportTraceServiceResponse()
    some.partial_success.rejected_spans = 2
    rejecting = web.Response(body=some.SerializeToString())
    async with collecting(web.Response(status=401, text="no key"), rejecting) as collector:
        async with sending(Target(collector.url)) as sender:
            sender.take([a_trace(1)])
            await until(lambda: sender.lost == 1)
            sender.take([a_trace(2, 5)])
        assert (sender.sent, sender.lost) == (3, 3)
    assert "says 401: no key" in caplog.text


async def test_what_waits_is_bounded_and_the_end_does_not_wait_for_ever(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(send, "WAITING", 10)
    monkeypatch.setattr(send, "CLOSE_S", 0.1)
    async with sending(Target(f"http://127.0.0.1:{unused_tcp_port}")) as sender:
        sender.take(a_trace(number) for number in range(1, 31))
        assert sender.lost == 20
    assert (sender.sent, sender.lost) == (0, 30)
    assert f"30 spans did not reach http://127.0.0.1:{unused_tcp_port}/v1/traces" in caplog.text


async def test_the_base_url_and_the_whole_one_mean_the_same() -> None:
    for url in ("http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"):
        assert Target(url).traces == "http://c:4318/v1/traces"
    assert Target("https://l.io/api/otel").traces == "https://l.io/api/otel/v1/traces"


async def test_an_app_sends_what_it_records_only_where_its_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "app.yml"
    async with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        for section, sent in (("", 0), ("trace: {export: {}}\n", 2)):
            file.write_text(APP + section)
            async with open_app(file, dry=True) as app:
                with app.recorder.trace("desk", "desk"), span("model", "echo"):
                    pass
            assert collector.spans == sent
    told = collector.requests[0].resource_spans[0].resource.attributes
    assert told[0].value.string_value == "desk"


async def test_a_variable_that_is_not_set_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    file = tmp_path / "app.yml"
    file.write_text(APP + "trace: {export: {headers: {authorization: '${KEY}'}}}\n")
    with pytest.raises(UsageError, match=r"headers\.authorization"):
        async with open_app(file, dry=True):
            pass
    file.write_text(APP + "trace: {export: {to: x}}\n")
    with pytest.raises(ConfigError, match='no option "to"'):
        async with open_app(file, dry=True):
            pass


async def test_what_is_stored_is_exported_to_a_file_and_to_a_collector(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(APP)
    kept = [a_trace(1), a_trace(2, 600)]
    with open_store(tmp_path / ".kickwheel") as store:
        traces = Traces(store)
        traces.add(kept)
        clean = [traces.get(trace.id) for trace in kept]
    file = tmp_path / "traces.jsonl"
    told = CliRunner().invoke(group, ["export", str(tmp_path), str(file), "--json"])
    assert json.loads(told.stdout) == {
        "to": str(file),
        "traces": 2,
        "spans": 601,
        "rejected": 0,
    }
    lines = file.read_bytes().splitlines()
    assert [read(plain.read(line)).arrivals[0].spans for line in lines] == [
        trace.spans for trace in clean
    ]
    other = tmp_path / "other"
    other.mkdir()
    (other / "app.yml").write_text(APP)
    assert import_(file, other).new == 2
    with open_store(other / ".kickwheel") as store:
        there = list(Traces(store).all())
    assert [trace.spans for trace in there] == [trace.spans for trace in clean]
    async with collecting(web.Response(status=503)) as collector:
        done = await asyncio.to_thread(export, tmp_path, collector.url, workload="shop")
        assert (done.traces, done.spans, collector.spans) == (2, 601, 601)
    async with collecting(web.Response(status=400, text="what?")) as collector:
        with pytest.raises(KickwheelError, match=r"says 400: what\?"):
            await asyncio.to_thread(export, tmp_path, collector.url)
    with pytest.raises(UsageError, match="no URL of a collector"):
        export(tmp_path, "ftp://there")


def test_what_was_recorded_without_an_app_is_exported(tmp_path: Path) -> None:
    with open_store(tmp_path / ".kickwheel") as store:
        Traces(store).add([a_trace(1)])
    done = export(tmp_path, str(tmp_path / "traces.jsonl"))
    assert (done.traces, done.spans) == (1, 1)
    assert len((tmp_path / "traces.jsonl").read_text().splitlines()) == 1
