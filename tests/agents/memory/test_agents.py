"""Agents with a memory, opened from an app file as anybody writes it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kickwheel.agents.ask import ask
from kickwheel.agents.caller import Caller, acting_for
from kickwheel.app import App, check_app, open_app
from kickwheel.core.errors import ConfigError
from kickwheel.core.plugins import Context, Part
from kickwheel.models.chat import CallDelta, ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.records import Message

APP = """
models: {general: {kind: "tests.agents.memory.test_agents:Scripted"}}
tools: {desk: {kind: python, functions: ["tests.agents.memory.test_agents:rooms"]}}
memory:
  session: {kind: window, budget_tokens: 1400, summariser: general}
  longterm: facts
agents:
  concierge: {kind: tool_loop, model: general, tools: [desk], memory: [session, longterm]}
"""


def rooms() -> str:
    """Lists the rooms."""
    return "\n".join(f"room {n} costs {n * 10}" for n in range(400))


class Answers:
    """A model that looks something up where it can, and remembers what it was asked."""

    name = "general"

    def __init__(self) -> None:
        self.asked: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        self.asked.append(request)
        last = request.messages[-1].content or ""
        offered = [tool.name for tool in request.tools]
        resource = last.partition("kept as resource ")[2].partition(";")[0]
        if "recall" in offered and resource:
            arguments = json.dumps({"resource": resource, "query": "room 321"})
            yield CallDelta(0, arguments, "c2", "recall")
            yield Done("tool_calls", Usage())
        elif "rooms?" in last:
            yield CallDelta(0, "{}", "c1", "rooms")
            yield Done("tool_calls", Usage())
        else:
            yield TextDelta("Here you are.")
            yield Done("stop", Usage())


MODEL = Answers()


class Scripted(Part):
    """The model above."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncIterator[Answers]:  # type: ignore[override]
        MODEL.asked.clear()
        yield MODEL


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    (tmp_path / "app.yml").write_text(APP)
    async with open_app(tmp_path) as opened:
        yield opened


def user(text: str) -> Message:
    return Message(role="user", content=text)


async def asked(app: App, *messages: Message) -> str:
    with acting_for(Caller(user="ann")):
        return (await ask(app.model("concierge"), messages, app.recorder)).answer


async def test_what_was_said_in_one_conversation_is_known_in_the_next(app: App) -> None:
    await asked(app, user("Hello, my name is Ann."))
    await asked(app, user("Do you know my name?"))
    told = MODEL.asked[-1].messages
    assert "My name is Ann" in (told[-2].content or "")
    assert told[-1] == user("Do you know my name?")


async def test_a_long_result_is_trimmed_and_the_agent_reads_on(app: App) -> None:
    assert await asked(app, user("Which rooms?")) == "Here you are."
    first, second, third = MODEL.asked
    assert [tool.name for tool in first.tools] == ["rooms"]
    assert [tool.name for tool in second.tools] == ["rooms", "recall"]
    assert "kept as resource result-" in (second.messages[-1].content or "")
    assert "room 321 costs 3210" not in (second.messages[-1].content or "")
    assert "room 321 costs 3210" in (third.messages[-1].content or "")


async def test_a_conversation_beyond_the_budget_goes_on(app: App) -> None:
    messages = [user("My locker has the number 4417.")]
    for turn in range(80):
        messages.append(Message(role="assistant", content=f"Noted, this was turn {turn}."))
        messages.append(user(f"And what about sight number {turn} of the old town?"))
    messages.append(Message(role="assistant", content="Closed."))
    assert await asked(app, *messages, user("What is the number of my locker?")) == "Here you are."
    sent = "\n".join(message.content or "" for message in MODEL.asked[-1].messages)
    assert "My locker has the number 4417." in sent
    assert "sight number 20 " not in sent


def test_a_memory_that_does_not_exist_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(APP.replace("[session, longterm]", "[sesion]"))
    with pytest.raises(ConfigError, match=r'no memory named "sesion". Did you mean "session"'):
        check_app(tmp_path)


def test_an_option_that_a_memory_does_not_have_is_told(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(APP.replace("budget_tokens: 1400", "budget_tokens: 0"))
    with pytest.raises(ConfigError, match=r"memory\.session\.budget_tokens"):
        check_app(tmp_path)
