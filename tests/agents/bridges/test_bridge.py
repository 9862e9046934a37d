"""What all bridges share, by one to a framework that is made up."""

import asyncio
import copy
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from tests.agents.bridges import made_up

import kickwheel
from kickwheel import App, open_app
from kickwheel.agents import Called, Event, Finished, Returned, Text
from kickwheel.agents.bridges import bridge
from kickwheel.agents.events import Agent
from kickwheel.core.errors import ConfigError, MissingPackage, ModelError, UsageError
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.records import Image, Message, ToolSpec, Trace, genai

QUESTION = (Message(role="user", content="Book me a room."),)
HOME = "tests.agents.bridges.made_up"


@pytest.fixture(autouse=True)
def fresh() -> None:
    for bot in (made_up.BOT, made_up.ANSWERS_WHOLE, made_up.FAILS, made_up.SLOW, made_up.MANY):
        bot.asked.clear()
        bot.most = bot.left = 0
    made_up.OPENED.clear()


@asynccontextmanager
async def opened(
    folder: Path, thing: str, options: str = "", kind: str = "BotAgent"
) -> AsyncIterator[tuple[App, Agent]]:
    named = thing if ":" in thing else f"{HOME}:{thing}"
    line = f'{{kind: "{HOME}:{kind}", object: "{named}"{options}}}'
    (folder / "app.yml").write_text(f"agents:\n  desk: {line}\n", encoding="utf-8")
    async with open_app(folder) as app:
        yield app, cast(Agent, app.model("desk"))


async def ran(agent: Agent, messages: Sequence[Message] = QUESTION) -> list[Event]:
    return [event async for event in agent.run(messages)]


async def traced(app: App, agent: Agent) -> tuple[Trace, list[Event]]:
    with app.recorder.trace("desk", "desk") as root:
        events = await ran(agent)
    app.recorder.flush()
    return app.traces.get(root.trace_id or ""), events


async def test_what_they_tell_is_told_as_it_comes_and_counted(tmp_path: Path) -> None:
    async with opened(tmp_path, "BOT") as (_, agent):
        *events, finished = await ran(agent)
    kinds = [type(event) for event in events]
    assert kinds == [Text, Called, Returned, Text, Text]
    called, returned = events[1], events[2]
    assert isinstance(called, Called)
    assert isinstance(returned, Returned)
    assert called.call.arguments == '{"room":12}'
    assert (returned.call, returned.text) == (called.call, '{"ok":true}')
    assert isinstance(finished, Finished)
    assert finished.answer.content == "Room 12 is yours."  # What was said before calls is not it.
    usage = finished.usage
    assert (usage.prompt_tokens, usage.output_tokens, usage.cached_tokens) == (30, 12, 2)
    assert (finished.why, finished.steps) == ("answered", 2)


async def test_calls_and_models_leave_spans_side_by_side_below_the_agents(tmp_path: Path) -> None:
    async with opened(tmp_path, "BOT") as (app, agent):
        trace, _ = await traced(app, agent)
    root, first, tool, second = trace.spans
    assert [span.parent for span in (first, tool, second)] == [root.id] * 3
    assert (root.kind, root.output[0].content) == ("agent", "Room 12 is yours.")
    assert [span.kind for span in (first, tool, second)] == ["model", "tool", "model"]
    assert first.attributes[genai.RESPONSE_MODEL] == "their-model"
    assert first.attributes[genai.INPUT_TOKENS] == 10
    assert tool.input[0].tool_calls[0].name == tool.name == "book"
    assert tool.output[0].content == '{"ok":true}'
    assert first.start_ns <= first.end_ns <= tool.start_ns <= tool.end_ns <= second.end_ns


async def test_an_answer_that_is_told_whole_is_said_after_what_was_said(tmp_path: Path) -> None:
    async with opened(tmp_path, "ANSWERS_WHOLE") as (_, agent):
        *events, finished = await ran(agent)
        whole = await complete(agent, ChatRequest(messages=QUESTION))
    assert [event.text for event in events if isinstance(event, Text)] == [
        "I look. ",
        '\n\n{"room":12}',
    ]
    assert isinstance(finished, Finished)
    assert finished.answer.content == '{"room":12}'
    assert whole.message.content == 'I look. \n\n{"room":12}'


async def test_their_failure_is_an_error_that_names_the_agent_and_no_secret(tmp_path: Path) -> None:
    async with opened(tmp_path, "FAILS") as (app, agent):
        with pytest.raises(ModelError, match=r"desk failed: RuntimeError: no key") as caught:
            await traced(app, agent)
        app.recorder.flush()
        trace = next(iter(app.traces.all()))
    assert "9fQ2xLm4" not in str(caught.value)
    assert [(span.kind, span.error is not None) for span in trace.spans] == [
        ("agent", True),
        ("tool", True),
    ]


async def test_who_reads_no_further_ends_their_work(tmp_path: Path) -> None:
    async with opened(tmp_path, "SLOW") as (_, agent):
        async with aclosing(agent.run(QUESTION)) as events:
            async for _event in events:
                break
        assert (made_up.SLOW.left, made_up.SLOW.working) == (1, 0)


async def test_their_work_ends_with_its_time_and_its_budget(tmp_path: Path) -> None:
    async with opened(tmp_path, "SLOW", ", timeout_s: 0.05") as (_, agent):
        finished = (await ran(agent))[-1]
    assert isinstance(finished, Finished)
    assert (finished.why, made_up.SLOW.left) == ("time", 1)
    async with opened(tmp_path, "MANY", ", budget: {tokens: 50}") as (_, agent):
        finished = (await ran(agent))[-1]
    assert isinstance(finished, Finished)
    assert (finished.why, finished.usage.prompt_tokens) == ("tokens", 40)
    async with opened(tmp_path, "MANY", ", max_steps: 5") as (_, agent):
        finished = (await ran(agent))[-1]
    assert isinstance(finished, Finished)
    assert (finished.why, finished.usage.prompt_tokens) == ("steps", 60)


async def test_callers_that_bring_tools_are_told_that_they_are_not_taken(tmp_path: Path) -> None:
    async with opened(tmp_path, "BOT") as (_, agent):
        request = ChatRequest(messages=QUESTION, tools=(ToolSpec(name="mine"),))
        with pytest.raises(ModelError, match="desk takes no tools") as caught:
            await complete(agent, request)
    assert (caught.value.status, caught.value.again) == (400, False)


async def test_a_picture_that_would_be_lost_is_not_taken(tmp_path: Path) -> None:
    picture = Image(url="https://example.com/cat.png", sent=True)
    async with opened(tmp_path, "BOT") as (_, agent):
        with pytest.raises(ModelError, match="desk takes no pictures") as caught:
            await ran(agent, [replace(QUESTION[0], images=(picture,))])
    assert (caught.value.status, caught.value.again) == (400, False)
    assert not made_up.BOT.asked


async def test_an_answer_of_another_form_is_asked_for_again_only_where_that_does_no_harm(
    tmp_path: Path,
) -> None:
    form = ", output: {type: object, required: [room], properties: {room: {type: integer}}}"
    async with opened(tmp_path, "ANSWERS_WHOLE", form) as (_, agent):
        finished = (await ran(agent))[-1]
    assert isinstance(finished, Finished)
    assert finished.answer.content == '{"room":12}'
    async with opened(tmp_path, "BOT", form) as (_, agent):
        with pytest.raises(ModelError, match="not of the form"):
            await ran(agent)
    assert len(made_up.BOT.asked) == 1
    async with opened(tmp_path, "BOT", f"{form}, effects: none") as (_, agent):
        with pytest.raises(ModelError, match="not of the form"):
            await ran(agent)
    assert len(made_up.BOT.asked) > 2
    assert "not of the form" in (made_up.BOT.asked[-1][-1].content or "")


async def test_an_object_is_made_opened_and_closed_with_the_app(tmp_path: Path) -> None:
    async with opened(tmp_path, "slowly") as (_, agent):
        await ran(agent)
        await ran(agent)
    async with opened(tmp_path, "closing") as (_, agent):
        await ran(agent)
        assert made_up.OPENED == ["made", "opened"]
    assert made_up.OPENED == ["made", "opened", "closed"]


async def test_agents_that_remember_do_one_run_each_or_one_after_the_other(tmp_path: Path) -> None:
    async with opened(tmp_path, "fresh", kind="RememberingAgent") as (_, agent):
        await asyncio.gather(ran(agent), ran(agent), ran(agent))
    assert made_up.OPENED.count("fresh") == 4  # One more, to see at the start that it can be made.
    bot = copy.deepcopy(made_up.BOT)
    made_up.BOT.tells.insert(0, 0.01)
    try:
        async with opened(tmp_path, "BOT", kind="RememberingAgent") as (_, agent):
            await asyncio.gather(ran(agent), ran(agent), ran(agent))
        assert made_up.BOT.most == 1
        async with opened(tmp_path, "BOT") as (_, agent):
            await asyncio.gather(ran(agent), ran(agent), ran(agent))
        assert made_up.BOT.most == 3
    finally:
        made_up.BOT.tells[:] = bot.tells


@pytest.mark.parametrize(
    ("thing", "says"),
    [
        ("nowhere", 'has no "nowhere"'),
        ("with_parameters", "is a function with parameters"),
        ("no_such_module:agent", "there is no no_such_module.py in "),
    ],
)
async def test_an_object_that_is_none_is_told_with_the_parts_name(
    tmp_path: Path, thing: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        async with opened(tmp_path, thing):
            pass
    assert caught.value.__notes__ == [f"while opening agents.desk of {tmp_path / 'app.yml'}"]


async def test_a_framework_that_is_not_installed_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "needy_desk.py").write_text("import no_such_framework.agents\n")
    says = r'"needy_desk:agent" needs no_such_framework, .*: pip install made-up'
    with pytest.raises(MissingPackage, match=says):
        async with opened(tmp_path, "needy_desk:agent"):
            pass


def test_check_tells_objects_that_are_not_there_with_file_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "needy_bots.py").write_text("import no_such_framework.agents\n")
    (tmp_path / "halls").mkdir()
    (tmp_path / "halls" / "__init__.py").touch()
    objects = {
        "right": f"{HOME}:BOT",
        "wrong": f"{HOME}:BOTT",
        "folder": "halls.desks:agent",
        "needs": "needy_bots:agent",
        "asks": f"{HOME}:with_parameters",
    }
    lines = [f'  {name}: {{kind: "{HOME}:BotAgent", object: "{o}"}}' for name, o in objects.items()]
    tool = f'  several: {{kind: "{HOME}:BotTools", object: "{HOME}:severall"}}'
    (tmp_path / "app.yml").write_text("\n".join(["agents:", *lines, "tools:", tool, ""]))

    with pytest.raises(ConfigError) as caught:
        kickwheel.check_app(tmp_path, complete=True)

    told = [(mistake.line, mistake.where, mistake.what) for mistake in caught.value.mistakes]
    assert [(line, where) for line, where, _ in told] == [
        (3, "agents.wrong.object"),
        (4, "agents.folder.object"),
        (5, "agents.needs.object"),
        (6, "agents.asks.object"),
        (8, "tools.several.object"),
    ]
    wrong, folder, needs, asks, several = (what for _, _, what in told)
    assert 'Did you mean "BOT"?' in wrong
    assert f"there is no halls/desks.py in {tmp_path}" in folder
    assert needs.endswith("which is not installed: pip install made-up")
    assert "is a function with parameters" in asks
    assert 'Did you mean "several"?' in several


@pytest.mark.parametrize(
    ("effects", "words", "answer", "booked"),
    [
        ("once", "done: Room 12 was booked.", "Room 12 was booked.", 1),
        ("once", "again", "Room 12 is yours.", 2),
        ("repeatable", "", "Room 12 is yours.", 2),
    ],
)
def test_a_run_that_died_in_their_work_asks_a_person_or_does_it_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    effects: str,
    words: str,
    answer: str,
    booked: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.yml").write_text(
        f'agents: {{desk: {{kind: "{HOME}:BotAgent", object: "{HOME}:deadly", '
        f"effects: {effects}}}}}\n"
    )
    ours = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "kickwheel", "run", str(tmp_path), "Book me a room."]
    died = subprocess.run(command, env=ours, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    (left,) = kickwheel.runs(tmp_path)
    standing = kickwheel.resume(tmp_path, left.id)
    if words:
        assert standing.state == "waiting"
        assert "The program ended in the call" in standing.questions[0].text
        standing = kickwheel.answer(tmp_path, left.id, words)
    assert (standing.state, standing.answer) == ("done", answer)
    assert len((tmp_path / "booked").read_text().splitlines()) == booked


async def test_their_tools_are_called_within_our_limits(tmp_path: Path) -> None:
    tools = f'{{kind: "{HOME}:BotTools", object: "{HOME}:several", timeout_s: 3}}'
    (tmp_path / "app.yml").write_text(f"tools:\n  counts: {tools}\n", encoding="utf-8")
    async with open_app(tmp_path) as app:
        double, say = app.tools("counts")
        assert double.spec.parameters["properties"] == {"n": {"type": "integer"}}
        assert await double.call({"n": 4}) == '{"n":8}'
        assert await bridge.told(say, '{"n": 4}') == "4!"
        assert (
            await bridge.told(say, {"n": "four"})
            == 'error: argument "n" must be integer, not "four"'
        )
        assert app.live["tools", "counts"][0].limits.timeout_s == 3


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("langchain", "langchain"),
        ("pydantic_ai", "pydantic-ai-slim"),
        ("openai_agents", "openai-agents"),
        ("agent_framework", "agent-framework-core"),
        ("autogen", "autogen-agentchat"),
        ("semantic_kernel", "semantic-kernel"),
        ("llamaindex", "llama-index-core"),
        ("crewai", "crewai"),
        ("strands", "strands-agents"),
        ("adk", "google-adk"),
        ("smolagents", "smolagents"),
        ("dspy", "dspy"),
    ],
)
def test_each_bridge_says_how_its_framework_is_installed(name: str, package: str) -> None:
    module = __import__(f"kickwheel.agents.bridges.{name}", fromlist=["tools"])
    for make in (lambda: module.tools([]), lambda: module.model("m", "http://localhost/v1")):
        with pytest.raises(MissingPackage, match=f"not installed: pip install '?{package}"):
            make()


async def test_a_request_without_words_is_handed_over_as_it_is(tmp_path: Path) -> None:
    async with opened(tmp_path, "BOT") as (_, agent):
        await ran(agent, [*QUESTION, replace(QUESTION[0], role="assistant", content=None)])
    assert made_up.BOT.asked[0][-1].content is None
