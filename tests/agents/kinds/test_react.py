from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from tests.agents.desk import answer, desk, events, last, reply
from tests.models import tiny
from tests.models.loopback import loopback

from kickwheel.agents import Called, Finished, Returned, Text, transcript
from kickwheel.agents.kinds.react import React
from kickwheel.agents.transcript import Act, Say, Unread
from kickwheel.app import open_app
from kickwheel.core.errors import ModelError
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.records import Message, ToolCall, ToolSpec

APP = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
tools:
  t:
    kind: python
    trusted: true
    functions: ['tests.agents.kinds.doing:weather', 'tests.agents.kinds.doing:fare']
agents:
  desk: {kind: react, model: m, tools: [t], instructions: You help travellers.}
  boss: {kind: tool_loop, model: m, agents: [desk], instructions: boss}
"""
TOOLS = (
    ToolSpec(
        name="weather",
        parameters={"type": "object", "properties": {"city": {"type": "string"}}},
    ),
    ToolSpec(
        name="fare",
        parameters={
            "type": "object",
            "properties": {"start": {"type": "string"}, "seats": {"type": "integer"}},
        },
    ),
)
ASKS = 'Thought: I must look.\nAction: weather\nInput: {"city": "Oslo"}'


def in_turn(*steps: str) -> Any:
    left = list(steps)
    return lambda body: left.pop(0) if len(left) > 1 else left[0]


async def test_a_model_that_takes_no_stop_observes_what_is_and_not_what_it_makes_up(
    tmp_path: Path,
) -> None:
    """OpenAI's reasoning models refuse `stop`, and then write the observation themselves."""
    says = in_turn(f"{ASKS}\nObservation: rain\nAnswer: It rains.", "Answer: It is sunny.")
    told = "Unsupported parameter: 'stop' is not supported with this model."

    async def refusing(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "stop" in body:
            error = {"message": told, "param": "stop", "code": "unsupported_parameter"}
            return web.json_response({"error": error}, status=400)
        return await reply(request, body, says(body))

    async with loopback(refusing) as server:
        (tmp_path / "app.yml").write_text(APP.replace("URL", f"{server.url}/v1"))
        async with open_app(tmp_path / "app.yml") as app:
            found = await events(app, "desk", "Weather in Oslo?")
    assert found[-1].answer.content == "It is sunny."  # type: ignore[union-attr]
    shown = [message["content"] for message in server.asked[-1][1]["messages"][-2:]]
    assert shown == [ASKS, "Observation: sunny"]
    assert len(server.asked) == 3, "refused once"


async def test_the_model_acts_observes_and_answers(tmp_path: Path) -> None:
    says = in_turn(ASKS, "Thought: I know.\nAnswer: It is sunny\nin Oslo.")
    async with desk(tmp_path, says, APP) as (app, server):
        found = await events(app, "desk", "Weather in Oslo?")
    assert [type(event) for event in found] == [Called, Returned, Text, Finished]
    assert found[-1].answer.content == "It is sunny\nin Oslo."  # type: ignore[union-attr]
    first, second = (asked["messages"] for _, asked, _ in server.asked)
    assert first[0]["content"].startswith("You help travellers.\n\n")
    assert "weather(city): Tells the weather." in first[0]["content"]
    assert second[-2] == {"role": "assistant", "content": ASKS}
    assert second[-1] == {"role": "user", "content": "Observation: sunny"}
    assert server.asked[0][1]["stop"] == ["\nObservation:"]
    assert "tools" not in server.asked[0][1]


async def test_thoughts_are_not_part_of_what_it_says(tmp_path: Path) -> None:
    async with desk(tmp_path, in_turn("Thought: easy.\nAnswer: Yes."), APP) as (app, _):
        told = await complete(app.model("desk"), ChatRequest(messages=(_user("?"),)))
    assert told.message.content == "Yes."


async def test_it_is_a_tool_of_another_agent(tmp_path: Path) -> None:
    def says(body: dict[str, Any]) -> Any:
        if body["messages"][0]["content"] != "boss":
            return "Answer: sunny"
        return ("desk", {"task": "weather?"}) if len(body["messages"]) == 2 else last(body)

    async with desk(tmp_path, says, APP) as (app, _):
        assert await answer(app, "boss", "?") == "sunny"


async def test_what_is_no_step_is_told_and_the_third_time_is_an_error(tmp_path: Path) -> None:
    async with desk(tmp_path, in_turn("I think it rains."), APP) as (app, server):
        with pytest.raises(ModelError, match="no step that can be taken, 3 times"):
            await events(app, "desk", "?")
    assert len(server.asked) == 3
    assert "This is no step" in last(server.asked[1][1])


async def test_a_call_that_cannot_be_made_is_told_and_may_be_written_again(tmp_path: Path) -> None:
    says = in_turn('Action: wether\nInput: {"city": "Oslo"}', ASKS, "Answer: sunny")
    async with desk(tmp_path, says, APP) as (app, server):
        assert await answer(app, "desk", "?") == "sunny"
    assert 'no tool "wether". Did you mean "weather"?' in last(server.asked[1][1])


async def test_one_that_only_acts_ends_with_its_steps(tmp_path: Path) -> None:
    text = APP.replace("instructions: You", "max_steps: 2, instructions: You")
    async with desk(tmp_path, in_turn(ASKS), text) as (app, _):
        (*_, end) = await events(app, "desk", "?")
        with pytest.raises(ModelError) as raised:
            await complete(app.model("desk"), ChatRequest(messages=(_user("?"),)))
    assert isinstance(end, Finished)
    assert (end.why, end.steps) == ("steps", 2)
    assert raised.value.status == 504


async def test_a_model_without_tool_calls_calls_the_tools_of_the_client(tmp_path: Path) -> None:
    asked = (
        _user("Lamp on"),
        Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="lamp", arguments="{}"),)),
        Message(role="tool", content="on", tool_call_id="call_0"),
    )
    lamp = ToolSpec(name="lamp", parameters={"type": "object", "properties": {}})
    says = in_turn("Action: lamp\nInput: {}", "Answer: It is on.")
    async with desk(tmp_path, says, APP) as (app, server):
        request = ChatRequest(messages=asked[:1], tools=(lamp,))
        calls = await complete(app.model("desk"), request)
        ended = await complete(app.model("desk"), ChatRequest(messages=asked, tools=(lamp,)))
    assert calls.finish_reason == "tool_calls"
    assert calls.message.tool_calls[0].name == "lamp"
    assert ended.message.content == "It is on."
    assert [m["content"] for m in server.asked[1][1]["messages"][1:]] == [
        *("Lamp on", "Action: lamp\nInput: {}", "Observation: on")
    ]


async def test_a_real_engine_is_held_to_steps_whatever_its_model_would_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))
    tiny.write_base(tmp_path / "tiny.gguf")
    (tmp_path / "app.yml").write_text("models: {m: {kind: local, base: tiny.gguf}}\n")
    question = (Message(role="user", content="?"),)
    async with open_app(tmp_path) as app:
        for seed in range(2):
            request = ChatRequest(
                messages=question,
                grammar=transcript.grammar(TOOLS),
                stop=(transcript.STOP,),
                temperature=1.5,
                seed=seed,
                max_tokens=200,
            )
            told = await complete(app.model("m"), request)
            text = told.message.content or ""
            assert text.startswith("Thought: ")
            if told.finish_reason == "stop":
                assert not isinstance(transcript.read(text, TOOLS), Unread)


def test_the_prompt_must_list_the_tools() -> None:
    for prompt in ("no list", "{toools}", "a { brace"):
        with pytest.raises(ValueError, match="tools"):
            React(model="m", prompt=prompt)


@pytest.mark.parametrize(
    "written",
    [
        'Thought: so.\nAction: weather\nInput: {"city": "Oslo"}',
        'Thought: so.\n\n**Action:** weather\n**Input:** {"city": "Oslo"}',
        'thought: so.\naction: `Weather`\naction input: {"city": "Oslo"}\n',
        'Thought: so.\nAction: weather({"city": "Oslo"})',
        "Thought: so.\nAction: weather(city='Oslo')",
        "Thought: so.\nAction: weather\nInput: Oslo",
        'Thought: so.\nAction: weather\nInput: "Oslo"',
        'Thought: so.\nAction: weather\n{"city": "Oslo"}',
        'Thought: so.\nAction: {"name": "weather", "arguments": {"city": "Oslo"}}',
        'Thought: so.\nAction: weather\nInput: {"city": "Oslo"}\nI wait for the result.',
        'so.\nAction: weather\nInput: {"city": "Oslo"}\nObservation: rain\nAnswer: rain',
        'Thought: so.\nAction: weather\nInput: {"city": "Oslo"}\nAnswer: rain',
    ],
)
def test_what_small_models_write_is_read_where_it_has_one_meaning(written: str) -> None:
    assert transcript.read(written, TOOLS) == Act("so.", "weather", '{"city": "Oslo"}')


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Final Answer: yes", Say("yes")),
        ("**Answer:** yes", Say("yes")),
        ("Thought: so.\nAnswer: a\nInput: b", Say("a\nInput: b")),
        ("Answer:", Unread("the answer is empty")),
        ("Action:\nInput: {}", Unread("there is no tool's name behind Action:")),
        ("Action: fare\nInput: Oslo", Act("", "fare", "Oslo")),
        ("Action: fare\nInput: {'start': ", Act("", "fare", "{'start':")),
    ],
)
def test_answers_and_what_stays_as_it_was_written(written: str, meant: object) -> None:
    assert transcript.read(written, TOOLS) == meant


@given(
    text=st.text()
    | st.lists(st.sampled_from([*"\n:{}()'\"", "Action", "Input", "Answer", "f"])).map("".join)
)
def test_nothing_that_a_model_writes_breaks_the_reading(text: str) -> None:
    assert isinstance(transcript.read(text, TOOLS), Act | Say | Unread)


@given(
    thought=st.text("abc .", max_size=20),
    said=st.text(min_size=1).filter(lambda text: text.strip() and "\n" not in text),
    cuts=st.lists(st.integers(0, 60)),
)
def test_an_answer_in_pieces_is_the_answer_whole(thought: str, said: str, cuts: list[int]) -> None:
    text = f"Thought: {thought}\nAnswer: {said}"
    whole = transcript.read(text, ())
    answering, told, at = transcript.Answering(), "", 0
    for cut in [*sorted(cuts), len(text)]:
        told += answering(text[at : max(at, cut)])
        at = max(at, cut)
    assert isinstance(whole, Say)
    assert told.strip() == whole.text


def _user(text: str) -> Message:
    return Message(role="user", content=text)
