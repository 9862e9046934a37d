"""What is true of every framework; its tests call these."""

import asyncio
import copy
import json
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from tests.bridges import desk
from tests.bridges.conftest import Recording, Served
from tests.bridges.desk import Framework
from tests.bridges.stub import ANSWER, OUTPUT, PROMPT, Stub

from kickwheel import answer, open_app
from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.events import Called, Event, Finished, Returned, Text
from kickwheel.core.store import open_store
from kickwheel.records import Message, Trace, genai
from kickwheel.trace.store import Traces


async def recorded(
    framework: Framework, recording: Recording, *, streamed: bool, result: str = "sunny in Oslo"
) -> None:
    """Its own agent, pointed at the recorder, leaves a trace for each model call, whole.

    Args:
        result: what the framework makes of the tool's.
    """
    project = f"{framework.kind}-{'streamed' if streamed else 'whole'}"
    model = framework.model(recording.project(project))
    agent = framework.agent(model, [framework.tool()])
    assert await framework.ask(agent, desk.QUESTION, streamed=streamed) == ANSWER
    asked, answered = await kept(recording.store, project, 2)
    call = asked.spans[0].output[0].tool_calls[0]
    assert json.loads(call.arguments)["city"] == "Oslo"
    assert [tool.name for tool in asked.spans[0].tools] == [call.name]
    assert answered.spans[0].output[0].content == ANSWER
    results = [message for message in answered.spans[0].input if message.role == "tool"]
    assert [(one.content, one.tool_call_id) for one in results] == [(result, call.id)]
    for trace in (asked, answered):
        attributes = trace.spans[0].attributes
        assert trace.spans[0].input[-1].content
        assert int(str(attributes[genai.INPUT_TOKENS])) > 0
        assert int(str(attributes[genai.OUTPUT_TOKENS])) > 0


async def kept(store: Path, project: str, count: int) -> list[Trace]:
    """The traces of a project, oldest first, once there are so many."""
    async with asyncio.timeout(10):
        while True:
            with open_store(store) as opened:
                found = list(Traces(opened).all(project))
            if len(found) >= count:
                return sorted(found, key=lambda trace: trace.spans[0].start_ns)
            await asyncio.sleep(0.05)


def _same(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return tools


def not_strict(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tools, each with `strict: false`, which changes nothing."""
    return [{**tool, "function": {**tool["function"], "strict": False}} for tool in tools]


async def tools_equal(
    framework: Framework,
    stub: Stub,
    served: Served,
    known: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = _same,
) -> list[dict[str, Any]]:
    """The tools that reach a model from their agent, asserted to be those that ours sends.

    Args:
        known: what the framework is known to make of ours.
    """
    async for _ in served.app.model("concierge").run([_question()]):  # type: ignore[attr-defined]
        pass
    ours = stub.tools()
    stub.fresh()
    model = framework.bridge.model("stub", stub.url, api_key="sk-stub")
    agent = framework.agent(model, framework.bridge.tools(served.app.tools("desk")))
    assert await framework.ask(agent, desk.QUESTION, streamed=False) == ANSWER
    assert stub.tools() == known(copy.deepcopy(ours))
    return ours


async def as_ours(
    framework: Framework,
    app_file: Path,
    module: str,
    stub: Stub,
    *,
    tool: str = "weather",
    asks: int = 2,
    streams: bool = True,
    handed: Callable[[Stub], None] | None = None,
) -> None:
    """Named in an app file, their agent streams, tells its calls, counts, and leaves spans.

    Args:
        tool: what the framework calls it.
        asks: how often it asks a model for that.
        streams: whether the answer comes in pieces.
        handed: looks at what reached the model of the earlier turns; `handed_over` by default.
    """
    _name(framework, app_file, module)
    async with open_app(app_file) as app:
        agent = app.model("theirs")
        with app.recorder.trace("theirs", "theirs") as root:
            events = [
                event
                async for event in agent.run([*desk.EARLIER, _question()])  # type: ignore[attr-defined]
            ]
        app.recorder.flush()
        trace = app.traces.get(root.trace_id or "")
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.answer.content == ANSWER
    usage = finished.usage
    assert (usage.prompt_tokens, usage.output_tokens) == (asks * PROMPT, asks * OUTPUT)
    assert finished.steps == asks
    told = [event for event in events if isinstance(event, Called | Returned)]
    assert [type(event) for event in told] == [Called, Returned]
    assert json.loads(told[0].call.arguments)["city"] == "Oslo"
    assert told[1].text == "sunny in Oslo"
    assert told[1].call == told[0].call
    pieces = [event.text for event in events if isinstance(event, Text)]
    assert "".join(pieces).endswith(ANSWER)
    assert len(pieces) > 3 or not streams
    assert desk.CALLS == ["Oslo"]
    spans = [(span.kind, span.name) for span in trace.spans]
    assert spans.count(("tool", tool)) == 1
    assert [kind for kind, _ in spans].count("model") == asks
    (handed or handed_over)(stub)


def handed_over(
    stub: Stub,
    *,
    asked: str = desk.QUESTION,
    result: str = "rain in Rome",
    system: str = "system",
) -> None:
    """The earlier turns reached the model as they were, before the question.

    Args:
        asked: what the framework makes of the question.
        result: what it makes of a tool's.
        system: the role that it gives to what the system said.
    """
    turns = stub.asked[0].body["messages"]
    said = [(turn["role"], words(turn.get("content"))) for turn in turns]
    assert said[-1] == ("user", asked)
    assert ("user", "And in Rome?") in said
    assert ("tool", result) in said
    assert ("assistant", "It rains.") in said
    called = [turn["tool_calls"][0] for turn in turns if turn.get("tool_calls")]
    assert [call["function"]["name"] for call in called] == ["weather"]
    assert [t["tool_call_id"] for t in turns if t["role"] == "tool"] == [called[0]["id"]]
    assert "Be brief." in "\n".join(words for role, words in said if role == system)


def words(content: Any) -> str:
    """The text of a message, in whichever form it was sent."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""


async def ran(kind: str, target: str, app_file: Path, *messages: Message) -> list[Event]:
    """What an object of theirs, named in the app file, tells about the question."""
    _write(app_file, f'  theirs: {{kind: {kind}, object: "{target}"}}\n')
    async with open_app(app_file) as app:
        asked = [*messages, _question()]
        return [event async for event in app.model("theirs").run(asked)]  # type: ignore[attr-defined]


async def left_early(framework: Framework, app_file: Path, module: str, stub: Stub) -> None:
    """Who reads no further ends their work, down to the request that their model reads."""
    _name(framework, app_file, module)
    stub.pause_s = 30
    async with open_app(app_file) as app, asyncio.timeout(10):
        agent = app.model("theirs")
        async with aclosing(agent.run([_question()])) as events:  # type: ignore[attr-defined]
            async for event in events:
                if isinstance(event, Text) and event.text.strip():
                    break
        while True:
            if stub.left:
                break
            await asyncio.sleep(0.01)
    assert len(stub.asked) == 2


async def read_back(framework: Framework, app_file: Path, module: str) -> None:
    """Their work is one step: a run that goes on later reads it back and does it once."""
    _name(framework, app_file, module)
    with app_file.open("a", encoding="utf-8") as file:
        file.write(_WAITING)
    with acting_for(Caller(run="run-1")):
        async with open_app(app_file) as app:
            events = [e async for e in app.model("asking").run([_question()])]  # type: ignore[attr-defined]
    waiting = events[-1]
    assert isinstance(waiting, Finished)
    assert waiting.why == "waiting"
    assert desk.CALLS == ["Oslo"]
    done = await asyncio.to_thread(answer, app_file, waiting.run or "", "yes")
    assert done.state == "done"
    assert ANSWER in done.answer
    assert desk.CALLS == ["Oslo"]


_WAITING = """
  person: {kind: human, question: Was that right?}
  asking:
    kind: graph
    nodes: {first: {agent: theirs}, person: {agent: person}}
    edges: [{to: first}, {from: first, to: person}]
    answer: first
"""


async def responses(framework: Framework, model: Any, stub: Stub) -> None:
    """Their agent works with our model over `/v1/responses`, whole and streamed."""
    agent = framework.agent(model, [framework.tool()])
    for streamed in (False, True):
        assert await framework.ask(agent, desk.QUESTION, streamed=streamed) == ANSWER
    assert desk.CALLS == ["Oslo", "Oslo"]
    results = [asked.body["messages"][-1] for asked in stub.asked[1::2]]
    assert [result["content"] for result in results] == ["sunny in Oslo"] * 2


async def their_tools(
    framework: Framework, app_file: Path, module: str, *, tool: str = "weather"
) -> None:
    """A tool of theirs, named in an app file, works in an agent of ours.

    Args:
        tool: what the framework calls it.
    """
    _offer(framework, app_file, module)
    async with open_app(app_file) as app:
        spec = app.tools("theirs")[0].spec
        events = [event async for event in app.model("asks").run([_question()])]  # type: ignore[attr-defined]
    assert spec.name == tool
    assert "Weather of a city." in spec.description.splitlines()
    assert {"city", "when", "unit"} == set(spec.parameters["properties"])
    assert "$ref" not in json.dumps(spec.parameters)
    returned = [event for event in events if isinstance(event, Returned)]
    assert [(event.text, event.state) for event in returned] == [("sunny in Oslo", "done")]
    assert desk.CALLS == ["Oslo"]


async def any_names(
    framework: Framework, served: Served, stub: Stub, *, wrong: str = "rror"
) -> None:
    """Arguments come through whatever they are called, and what goes wrong is told the model.

    Args:
        wrong: what stands in the framework's words for it.
    """
    bridge = framework.bridge
    tools = bridge.tools(served.app.tools("odd"))
    given = dict.fromkeys(("config", "run_manager", "context", "name", "args", "arguments"), "x")
    for arguments, said in ((given, "x x x x x x"), ({"config": 1}, wrong)):
        stub.fresh()
        stub.arguments["odd"] = arguments
        agent = framework.agent(bridge.model("stub", stub.url, api_key="sk-stub"), tools)
        assert await framework.ask(agent, desk.QUESTION, streamed=False) == ANSWER
        assert said in json.dumps(stub.asked[1].body["messages"][-1]["content"])


async def ours_as_theirs(
    framework: Framework, served: Served, stub: Stub, *, asks: int = 1
) -> None:
    """Our tool and our model at work in their agent, our agent as their tool and their model.

    Args:
        asks: how often an agent of theirs without tools asks its model.
    """
    bridge, app = framework.bridge, served.app
    model = bridge.model("general", served.url)
    agent = framework.agent(model, bridge.tools(app.tools("desk")))
    for streamed in (False, True):
        assert await framework.ask(agent, desk.QUESTION, streamed=streamed) == ANSWER
    assert desk.CALLS == ["Oslo", "Oslo"]
    stub.fresh()
    stub.arguments["concierge"] = {"task": "Oslo?"}
    agent = framework.agent(model, bridge.tools(app.tools("concierge")))
    assert await framework.ask(agent, desk.QUESTION, streamed=False) == ANSWER
    agent = framework.agent(bridge.model("concierge", served.url), [])
    assert await framework.ask(agent, desk.QUESTION, streamed=True) == ANSWER
    assert len(desk.CALLS) == 3 + asks
    app.recorder.flush()
    assert app.traces.count("weather") == 2  # What was called by others has traces of its own.


def _question() -> Message:
    return Message(role="user", content=desk.QUESTION)


def _name(framework: Framework, app_file: Path, module: str) -> None:
    _write(app_file, f'  theirs: {{kind: {framework.kind}, object: "{module}:made"}}\n')


def _write(app_file: Path, line: str) -> None:
    with app_file.open("a", encoding="utf-8") as file:
        file.write(line)


def _offer(framework: Framework, app_file: Path, module: str) -> None:
    offered = f"""\
  theirs: {{kind: {framework.kind}, object: "{module}:offered", effects: none}}
agents:
  asks: {{kind: tool_loop, model: general, tools: [theirs]}}"""
    app_file.write_text(app_file.read_text("utf-8").replace("agents:", offered), "utf-8")
