import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kickwheel.agents import Called, Event, Finished, Returned, Text
from kickwheel.agents.kinds.tool_loop import Loop, ToolLoop
from kickwheel.agents.tools import Limits, Toolbox
from kickwheel.core.errors import ModelError, ToolError, UsageError
from kickwheel.core.plugins import Context
from kickwheel.core.store import Store, open_store
from kickwheel.models.chat import (
    CallDelta,
    ChatRequest,
    Delta,
    Done,
    FinishReason,
    TextDelta,
    Usage,
    complete,
)
from kickwheel.records import Message, ToolCall, ToolSpec, genai
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
QUESTION = (Message(role="user", content="What is the weather in Oslo?"),)


class Answer:
    """One answer of a scripted model."""

    def __init__(
        self,
        text: str = "",
        *calls: tuple[str, str],
        reason: FinishReason | None = None,
        after_s: float = 0,
    ) -> None:
        self.text = text
        self.calls = calls
        self.reason: FinishReason = reason or ("tool_calls" if calls else "stop")
        self.after_s = after_s


def calling(*calls: tuple[str, Any], text: str = "") -> Answer:
    return Answer(text, *((n, a if isinstance(a, str) else json.dumps(a)) for n, a in calls))


class Scripted:
    """A model that gives its answers in turn, the last one again and again."""

    name = "small"

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[ChatRequest] = []
        self.closed = 0

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        self.asked.append(request)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        try:
            await asyncio.sleep(answer.after_s)
            for word in answer.text.split(" ") if answer.text else ():
                yield TextDelta(f"{word} ")
            for index, (name, arguments) in enumerate(answer.calls):
                yield CallDelta(index, id=f"call_{index}", name=name)
                yield CallDelta(index, arguments[:4])
                yield CallDelta(index, arguments[4:])
            yield Done(answer.reason, Usage(prompt_tokens=10, output_tokens=2, cached_tokens=1))
        finally:
            self.closed += 1


class Weather:
    """A tool that knows one thing, after as long as the test wants."""

    def __init__(
        self,
        act: Callable[[Mapping[str, Any]], Awaitable[str]] | None = None,
        name: str = "weather",
        timeout_s: float = 5,
    ) -> None:
        self.spec = ToolSpec(name=name, parameters=CITY)
        self.limits = Limits(timeout_s=timeout_s)
        self.act = act
        self.seen: list[Mapping[str, Any]] = []

    async def call(self, arguments: Mapping[str, Any]) -> str:
        self.seen.append(arguments)
        return await self.act(arguments) if self.act else f"Sunny in {arguments['city']}."


OSLO = ("weather", {"city": "Oslo"})
ROME = ("weather", {"city": "Rome"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def traces(store: Store) -> Traces:
    return Traces(store)


def loop(model: Scripted, *tools: Weather, **options: Any) -> Loop:
    return Loop(
        "desk", model, {tool.spec.name: tool for tool in tools}, ToolLoop(model="m", **options)
    )


async def events(
    agent: Loop, messages: Sequence[Message] = QUESTION, request: ChatRequest | None = None
) -> list[Event]:
    return [event async for event in agent.run(messages, request)]


def results(found: list[Event]) -> list[Returned]:
    return [event for event in found if isinstance(event, Returned)]


def finished(found: list[Event]) -> Finished:
    assert isinstance(found[-1], Finished)
    assert not any(isinstance(event, Finished) for event in found[:-1])
    return found[-1]


async def test_the_model_is_asked_until_it_answers() -> None:
    model = Scripted(calling(OSLO), Answer("It is sunny."))
    found = await events(loop(model, Weather(), instructions="Be brief."))
    call = ToolCall(id="call_0", name="weather", arguments='{"city": "Oslo"}')
    assert found == [
        Called(call),
        Returned(call, "Sunny in Oslo."),
        Text("It "),
        Text("is "),
        Text("sunny. "),
        Finished(
            why="answered",
            answer=Message(role="assistant", content="It is sunny. "),
            usage=Usage(prompt_tokens=20, output_tokens=4, cached_tokens=2),
            steps=2,
        ),
    ]
    assert model.asked[1].messages == (
        Message(role="system", content="Be brief."),
        *QUESTION,
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="Sunny in Oslo.", tool_call_id="call_0"),
    )
    assert [tool.name for tool in model.asked[0].tools] == ["weather"]


async def test_calls_of_one_step_run_at_once_and_keep_their_order() -> None:
    both = asyncio.Barrier(2)

    async def meet(arguments: Mapping[str, Any]) -> str:
        await both.wait()  # Passes only if the other call is running too.
        if arguments["city"] == "Oslo":
            await asyncio.sleep(0.02)
        return str(arguments["city"])

    model = Scripted(calling(OSLO, ROME), Answer("Both."))
    found = await events(loop(model, Weather(meet)))
    assert [event.text for event in results(found)] == ["Rome", "Oslo"]
    assert [m.content for m in model.asked[1].messages[-2:]] == ["Oslo", "Rome"]


async def test_ids_that_come_twice_are_made_different() -> None:
    model = Scripted(calling(OSLO), calling(ROME, OSLO), Answer("Done."))
    await events(loop(model, Weather()))
    messages = model.asked[2].messages
    ids = [call.id for message in messages for call in message.tool_calls]
    assert len(set(ids)) == 3
    assert [m.tool_call_id for m in messages if m.role == "tool"] == ids


async def test_with_answer_result_the_tool_has_the_last_word() -> None:
    model = Scripted(calling(OSLO, ROME))
    found = await events(loop(model, Weather(), answer="result"))
    assert found[-2] == Text("Sunny in Oslo.\nSunny in Rome.")
    end = finished(found)
    assert (end.why, end.answer.content) == ("answered", "Sunny in Oslo.\nSunny in Rome.")
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("answer", "asked", "passed_on"),
    [
        ("model", "auto", ["auto", "auto"]),
        ("model", "required", ["required", "auto"]),
        ("model", "weather", ["weather", "auto"]),
        ("model", "none", ["none", "none"]),
        ("result", "auto", ["required", "required"]),
        ("result", "weather", ["weather", "required"]),
        ("result", "none", ["none", "none"]),
    ],
)
async def test_what_the_model_must_do_is_the_callers_wish_once_then_the_agents(
    answer: str, asked: str, passed_on: list[str]
) -> None:
    model = Scripted(calling(("weather", {})), Answer("I do not know."))
    request = ChatRequest(messages=QUESTION, tool_choice=asked)
    await events(loop(model, Weather(), answer=answer), QUESTION, request)
    assert [request.tool_choice for request in model.asked] == passed_on


@pytest.mark.parametrize("answer", ["model", "result"])
@pytest.mark.parametrize(
    ("wrong", "told", "sent_back"),
    [
        (("weather", '{"city": "Os'), "the arguments are not JSON", "{}"),
        (("weahter", {"city": "Oslo"}), 'there is no tool "weahter"', '{"city": "Oslo"}'),
        (("weather", {"city": 3}), 'argument "city" must be string, not 3', '{"city": 3}'),
        (("weather", {}), 'argument "city" is missing', "{}"),
    ],
)
async def test_a_call_that_cannot_be_made_is_told_to_the_model(
    answer: str, wrong: tuple[str, Any], told: str, sent_back: str
) -> None:
    model, tool = Scripted(calling(wrong), calling(OSLO), Answer("Sunny.")), Weather()
    found = await events(loop(model, tool, answer=answer))
    first, second = results(found)
    assert (first.state, second.state) == ("invalid", "done")
    assert first.text.startswith(f"error: {told}")
    assert tool.seen == [{"city": "Oslo"}]
    call, result = model.asked[1].messages[-2:]
    assert (result.role, result.content) == ("tool", first.text)
    assert call.tool_calls[0].arguments == sent_back
    assert finished(found).why == "answered"


async def test_a_model_that_writes_no_possible_call_three_times_in_a_row_ends_with_an_error() -> (
    None
):
    model = Scripted(calling(("weather", "{")))
    with pytest.raises(ModelError, match="small wrote no call that can be made, 3 times") as caught:
        await events(loop(model, Weather()))
    assert caught.value.status == 502
    assert len(model.asked) == 3


async def test_a_good_call_between_bad_ones_starts_the_count_again() -> None:
    bad = calling(("weather", "{"))
    model = Scripted(bad, bad, calling(OSLO), bad, bad, Answer("Sunny."))
    assert finished(await events(loop(model, Weather()))).steps == 6


async def test_a_tool_that_raises_is_told_to_the_model_which_may_go_on() -> None:
    async def broken(arguments: Mapping[str, Any]) -> str:
        raise ValueError("no station, ask ann@example.com")

    model = Scripted(calling(OSLO), Answer("I could not find out."))
    found = await events(loop(model, Weather(broken)))
    told = "error: ValueError: no station, ask <email_1>"
    assert results(found)[0].text == model.asked[1].messages[-1].content == told
    assert finished(found).answer.content == "I could not find out. "


async def test_a_tool_that_hangs_is_told_to_the_model_which_may_go_on() -> None:
    async def hang(arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(60)
        return ""

    model = Scripted(calling(OSLO), Answer("It takes too long."))
    found = await events(loop(model, Weather(hang, timeout_s=0.05)))
    assert results(found)[0].text == "error: no answer within 0.05 s"
    assert finished(found).why == "answered"


async def test_with_answer_result_a_failed_tool_is_an_error_and_no_answer() -> None:
    async def broken(arguments: Mapping[str, Any]) -> str:
        raise ToolError("the station is closed")

    with pytest.raises(ToolError, match=r"^the station is closed$"):
        await events(loop(Scripted(calling(OSLO)), Weather(broken), answer="result"))


async def test_with_answer_result_what_worked_and_what_failed_are_both_told() -> None:
    async def half(arguments: Mapping[str, Any]) -> str:
        if arguments["city"] == "Oslo":
            raise ToolError("closed")
        return "Sunny."

    found = await events(loop(Scripted(calling(OSLO, ROME)), Weather(half), answer="result"))
    assert finished(found).answer.content == "error: closed\nSunny."


async def test_a_model_that_never_stops_calling_is_stopped() -> None:
    agent = loop(Scripted(calling(OSLO)), Weather(), max_steps=3)
    end = finished(await events(agent))
    assert (end.why, end.steps, end.answer.content) == ("steps", 3, None)
    assert end.note == "found no answer in 3 steps; allow it more with max_steps"
    with pytest.raises(ModelError, match="desk found no answer in 3 steps") as caught:
        await complete(agent, ChatRequest(messages=QUESTION))
    assert caught.value.status == 504


async def test_a_run_that_takes_too_long_is_stopped_wherever_it_is() -> None:
    ended = asyncio.Event()

    async def hang(arguments: Mapping[str, Any]) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return ""

    slow_model = Scripted(Answer("Late.", after_s=60))
    slow_tool = loop(Scripted(calling(OSLO)), Weather(hang, timeout_s=60), timeout_s=0.05)
    for agent in (loop(slow_model, timeout_s=0.05), slow_tool):
        end = finished(await events(agent))
        assert (end.why, end.steps) == ("time", 1)
        assert "found no answer within 0.05 s" in end.note
    assert slow_model.closed == 1
    await asyncio.wait_for(ended.wait(), 5)


async def test_an_error_of_the_model_is_passed_on() -> None:
    class Broken(Scripted):
        async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
            yield TextDelta("Half an ")
            raise ModelError("too many requests", status=429, retry_after_s=3)

    running = loop(Broken()).run(QUESTION)
    assert await anext(running) == Text("Half an ")
    with pytest.raises(ModelError) as caught:
        await anext(running)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 3)


@pytest.mark.parametrize(("reason", "why"), [("length", "length"), ("content_filter", "filtered")])
async def test_an_answer_that_was_cut_says_so_and_calls_in_it_are_not_made(
    reason: FinishReason, why: str
) -> None:
    cut = Answer("I will", ("weather", '{"city": "Oslo"}'), reason=reason)
    tool = Weather()
    agent = loop(Scripted(cut), tool)
    end = finished(await events(agent))
    assert (end.why, end.answer) == (why, Message(role="assistant", content="I will "))
    assert (await complete(agent, ChatRequest(messages=QUESTION))).finish_reason == reason
    assert tool.seen == []


async def test_calls_of_the_callers_own_tools_go_back_to_the_caller() -> None:
    mine = ToolSpec(name="open_door", parameters={"type": "object"})
    model = Scripted(calling(OSLO), calling(("open_door", {}), ROME, text="One moment."))
    tool = Weather()
    agent = loop(model, tool)
    asked = ChatRequest(messages=QUESTION, tools=(mine,), tool_choice="required", temperature=0.5)
    end = finished(await events(agent, QUESTION, asked))
    assert end.why == "calls"
    assert [call.name for call in end.answer.tool_calls] == ["open_door"]
    assert tool.seen == [{"city": "Oslo"}], "calls beside the caller's wait"
    assert [[t.name for t in r.tools] for r in model.asked] == [["open_door", "weather"]] * 2
    assert [r.tool_choice for r in model.asked] == ["required", "auto"]
    assert [r.temperature for r in model.asked] == [0.5, 0.5]

    model.asked.clear()
    whole = await complete(agent, asked)
    assert whole.finish_reason == "tool_calls"
    assert [(c.name, c.arguments) for c in whole.message.tool_calls] == [("open_door", "{}")]


async def test_a_tool_that_the_caller_brings_under_the_same_name_is_the_callers() -> None:
    tool = Weather()
    asked = ChatRequest(messages=QUESTION, tools=(ToolSpec(name="weather"),))
    end = finished(await events(loop(Scripted(calling(OSLO)), tool), QUESTION, asked))
    assert (end.why, tool.seen) == ("calls", [])


async def test_as_a_model_it_gives_the_same_words_and_the_usage_of_all_steps() -> None:
    model = Scripted(calling(OSLO, text="Let me look."), Answer("It is sunny."))
    whole = await complete(loop(model, Weather()), ChatRequest(messages=QUESTION))
    assert whole.message == Message(role="assistant", content="Let me look. \n\nIt is sunny. ")
    assert (whole.finish_reason, whole.model) == ("stop", "desk")
    assert whole.usage == Usage(prompt_tokens=20, output_tokens=4, cached_tokens=2)


@pytest.mark.parametrize(
    ("agents", "callers", "passed_on"), [(None, None, None), (9, None, 9), (9, 5, 5), (9, 50, 9)]
)
async def test_the_tighter_limit_of_tokens_counts(
    agents: int | None, callers: int | None, passed_on: int | None
) -> None:
    model = Scripted(Answer("Hi."))
    request = ChatRequest(messages=QUESTION, max_tokens=callers)
    await events(loop(model, max_tokens=agents), QUESTION, request)
    assert model.asked[0].max_tokens == passed_on


async def test_whoever_stops_listening_stops_the_agent() -> None:
    ended = asyncio.Event()

    async def hang(arguments: Mapping[str, Any]) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return ""

    async with aclosing(loop(Scripted(calling(OSLO)), Weather(hang)).run(QUESTION)) as running:
        async for event in running:
            assert isinstance(event, Called)
            await asyncio.sleep(0.01)
            break
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_cancelled_request_stops_the_model() -> None:
    model = Scripted(Answer("Late.", after_s=60))
    task = asyncio.create_task(complete(loop(model), ChatRequest(messages=QUESTION)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.closed == 1


async def test_a_run_leaves_one_tree_of_spans(traces: Traces) -> None:
    with Recorder(traces) as recorder:
        for name in ("desk", "front"):
            with recorder.trace(name, name):
                model = Scripted(calling(OSLO, ROME), Answer("Sunny."))
                await events(loop(model, Weather()))
    root, nested = sorted(traces.all(), key=lambda trace: trace.spans[0].start_ns)
    kinds = ["agent", "model", "tool", "tool", "model"]
    assert [span.kind for span in root.spans] == kinds, "the root is the agent's own span"
    assert [span.kind for span in nested.spans] == ["agent", *kinds]
    agents_span = root.spans[0]
    assert {span.parent for span in root.spans[1:]} == {agents_span.id}
    assert agents_span.input == QUESTION
    assert agents_span.output == (Message(role="assistant", content="Sunny. "),)
    assert agents_span.attributes == {
        genai.OPERATION: "invoke_agent",
        genai.AGENT_NAME: "desk",
        genai.INPUT_TOKENS: 20,
        genai.OUTPUT_TOKENS: 4,
        genai.FINISH_REASONS: ["answered"],
    }


async def test_requests_at_once_do_not_mix(traces: Traces) -> None:
    async def slow(arguments: Mapping[str, Any]) -> str:
        await asyncio.sleep(0.01)
        return str(arguments["city"])

    class Echo(Scripted):
        async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
            last = request.messages[-1]
            if last.role == "tool":
                yield TextDelta(last.content or "")
            else:
                yield CallDelta(0, json.dumps({"city": last.content}), "call_0", "weather")
            yield Done("stop", Usage())

    agent = loop(Echo(), Weather(slow))

    async def ask(recorder: Recorder, city: str) -> str | None:
        messages = (Message(role="user", content=city),)
        with recorder.trace(city, "desk"):
            return finished(await events(agent, messages)).answer.content

    cities = [f"City {n}" for n in range(20)]
    with Recorder(traces) as recorder:
        assert await asyncio.gather(*(ask(recorder, city) for city in cities)) == cities
    for trace in traces.all():
        assert [s.kind for s in trace.spans] == ["agent", "model", "tool", "model"]
        assert trace.spans[0].input[0].content == trace.workload


@asynccontextmanager
async def opened(
    store: Store, boxes: Mapping[str, Toolbox], model: Scripted, **options: Any
) -> AsyncIterator[Loop]:
    async def share(key: Any, make: Any) -> Any:
        raise AssertionError("an agent shares nothing")

    parts: dict[tuple[str, str], Any] = {("tools", name): box for name, box in boxes.items()}
    parts["models", "small"] = model
    context = Context("desk", store.folder, store, parts, share=share)
    part = ToolLoop(model="small", tools=tuple(boxes), **options)
    async with part.open(context) as agent:
        yield agent


async def test_an_agent_opens_with_all_tools_of_its_boxes(store: Store) -> None:
    boxes = {"a": [Weather(), Weather(name="tides")], "b": [Weather(name="stars")]}
    async with opened(store, boxes, Scripted(Answer("Hi."))) as agent:
        assert agent.name == "desk"
        assert [tool.name for tool in agent.tools] == ["weather", "tides", "stars"]
        assert finished(await events(agent)).answer.content == "Hi. "


async def test_two_tools_of_one_name_are_refused(store: Store) -> None:
    with pytest.raises(UsageError, match=r'agents\.desk: tools "a" and "b" both offer "weather"'):
        async with opened(store, {"a": [Weather()], "b": [Weather()]}, Scripted()):
            pass


@pytest.mark.parametrize(
    "wrong", [{"max_steps": 0}, {"timeout_s": -1}, {"answer": "both"}, {"modle": "x"}]
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ToolLoop(model="small", **wrong)
