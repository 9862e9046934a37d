"""What frameworks say of themselves over OTLP: switched on as docs/otlp.md shows, sent by the real
exporter to `kickwheel serve`, and looked at as it is stored there.

What a framework's telemetry can tell stands in its `FRAMEWORK.telemetry`.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from tests.bridges import checks, desk
from tests.bridges.conftest import Recording
from tests.bridges.desk import Framework
from tests.bridges.provider import LINE, PAGE
from tests.bridges.stub import ANSWER, OUTPUT, PROMPT, Stub

from kickwheel.core.store import open_store
from kickwheel.flywheel.curate.extract import extract
from kickwheel.records import Span, Trace, genai
from kickwheel.trace.store import Traces


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What the spans of a framework tell, where they differ."""

    dialect: str
    """As the table on the page has it."""
    package: str = ""
    """What makes the spans, and whose version the table lists; the framework itself by default."""
    agent: str | None = None
    """Name of the agent's span; some have none."""
    traces: int = 1
    """That a run leaves."""
    tools: tuple[str, ...] = ("weather",)
    """Offered to the model, as far as it is told."""
    result: str = "sunny in Oslo"
    """Of the tool."""
    counts_streams: bool = True
    """Whether streams have tokens, too."""

    @property
    def cell(self) -> str:
        by = f"`{self.package}` {version(self.package)}" if self.package else "by itself"
        return f"{self.dialect}, {by}"


async def told(
    framework: Framework, stub: Stub, recording: Recording, *, streamed: bool
) -> list[Trace]:
    """The traces that are stored of a run whose spans were sent; streamed ones come gzipped."""
    project = f"{framework.kind}-told-{'streamed' if streamed else 'whole'}"
    how = Compression.Gzip if streamed else Compression.NoCompression
    exporter = OTLPSpanExporter(recording.project(project) + "/traces", compression=how)
    _switch_on(framework.name)
    with _heard(exporter):
        agent = framework.agent(framework.model(stub.url), [framework.tool()])
        assert await framework.ask(agent, desk.QUESTION, streamed=streamed) == ANSWER
    traces = await checks.kept(recording.store, project, framework.telemetry.traces)
    assert _listed(recording, project) == desk.QUESTION
    return traces


def _listed(recording: Recording, project: str) -> str:
    """What a list of traces shows as the question of the newest."""
    with open_store(recording.store) as store:
        return Traces(store).list(project)[0].question


def whole(framework: Framework, traces: list[Trace], *, streamed: bool) -> None:
    """The traces say what was asked, called, given and answered, by whom and with how many tokens;
    and the flywheel can learn from it."""
    can: Telemetry = framework.telemetry
    assert len(traces) == can.traces
    found = traces[-1]
    asked, answered = of_kind(found, "model")
    (call,) = asked.output[-1].tool_calls
    assert call.name.endswith("weather")
    assert json.loads(call.arguments)["city"] == "Oslo"
    assert asked.input[-1].role == "user"
    assert desk.QUESTION in (asked.input[-1].content or "")
    (result,) = [message for message in answered.input if message.role == "tool"]
    assert (result.content, result.tool_call_id) == (can.result, call.id)
    assert answered.output[-1].content == ANSWER
    for span in (asked, answered):
        assert len(span.output) == 1
        assert genai.UNREAD not in span.attributes
        assert "stub" in str(span.attributes[genai.REQUEST_MODEL])
        if can.counts_streams or not streamed:
            assert span.attributes[genai.INPUT_TOKENS] == PROMPT
            assert span.attributes[genai.OUTPUT_TOKENS] == OUTPUT
    ran(found, can.result)
    below(found, can.agent)
    first, last = learned(found)
    assert (first.answer.tool_calls, last.answer.content) == ((call,), ANSWER)
    assert tuple(tool.name for tool in first.tools) == can.tools


def of_kind(found: Trace, kind: str) -> list[Span]:
    return [span for span in found.spans if span.kind == kind]


def ran(found: Trace, result: str = "sunny in Oslo") -> None:
    """A span says that the tool ran, with what and what it gave."""
    spans = [span for span in of_kind(found, "tool") if span.name.endswith("weather")]
    (call,) = spans[0].input[0].tool_calls
    assert call.name == spans[0].name
    assert json.loads(call.arguments)["city"] == "Oslo"
    assert spans[0].output[0].content == result
    assert spans[0].output[0].tool_call_id == call.id
    assert desk.CALLS == ["Oslo"]


def below(found: Trace, agent: str | None) -> None:
    """All calls of models and tools lie below the agent, or below the root where there is none."""
    spans = {span.id: span for span in found.spans}
    top = [span for span in found.spans if span.parent is None]
    assert top == [found.spans[0]]
    for span in (*of_kind(found, "model"), *of_kind(found, "tool")):
        above = set()
        while span.parent is not None:
            span = spans[span.parent]
            above.add((span.kind, span.name))
        assert agent is None or ("agent", agent) in above


def learned(found: Trace) -> Any:
    """What the trace has to teach; the question comes first."""
    candidates = extract(found)
    assert not isinstance(candidates, str), candidates
    assert desk.QUESTION in (candidates[0].messages[-1].content or "")
    return candidates


@cache
def _switch_on(name: str) -> None:
    """Runs what the page shows for the framework. It stays so, heard or not: some instrumentations
    take off more than they put on."""
    section = PAGE.read_text("utf-8").partition(f"\n### {name}\n")[2].partition("\n##")[0]
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(block, {"__name__": "page"})


@contextmanager
def _heard(exporter: OTLPSpanExporter) -> Iterator[None]:
    """While it holds, what is told is sent; all of it has been when it ends."""
    LINE.listening = BatchSpanProcessor(exporter)
    try:
        yield
    finally:
        LINE.listening.shutdown()
        LINE.listening = None
