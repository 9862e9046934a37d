"""What would be sent first, against what is sent."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import pytest
from tests.agents.desk import desk, events
from tests.agents.kinds import doing
from tests.cli.test_cli import kickwheel
from tests.models import tiny

from kickwheel import show
from kickwheel.agents.delegate import tools_of
from kickwheel.agents.events import Finished
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.tools import Tool
from kickwheel.agents.work import Worker
from kickwheel.core.errors import ModelError, UsageError
from kickwheel.core.plugins import Context, Name
from kickwheel.core.store import open_store
from kickwheel.records import ToolCall
from kickwheel.trace.store import Traces

AGENTS = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: sk-abcdefghijklmnop1234}}
tools:
  t:
    kind: python
    functions: ['tests.agents.kinds.doing:weather', 'tests.agents.kinds.doing:fare']
agents:
  tool_loop: {kind: tool_loop, model: m, tools: [t], instructions: help}
  react: {kind: react, model: m, tools: [t], instructions: help}
  code: {kind: code, model: m, tools: [t]}
  plan: {kind: plan, model: m, tools: [t], output: {type: object, properties: {a: {}}}}
  vote: {kind: vote, agents: [react], samples: 2}
  boss: {kind: router, agents: [code, plan], rules: [{match: x, agent: code}], otherwise: plan}
"""


class Booking(AgentPart):
    """Books before it asks anybody."""

    tools: Annotated[tuple[str, ...], Name("tools")] = ()

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Booked"]:
        yield Booked(context.name, tools_of(context, self.tools, ()), self)


class Booked(Worker):
    def __init__(self, name: str, tools: Mapping[str, Tool], options: Booking) -> None:
        super().__init__(name, options)
        self._tools = tools

    async def work(self, run: Run) -> Finished:
        await run.call(self._tools, [ToolCall(id="1", name="book", arguments='{"city": "Oslo"}')])
        return run.ended("answered")


@pytest.mark.parametrize("name", ["tool_loop", "react", "code", "plan", "vote", "boss"])
async def test_it_is_the_request_that_is_sent(tmp_path: Path, name: str) -> None:
    async with desk(tmp_path, lambda body: "Answer: {}", AGENTS) as (app, server):
        shown = await asyncio.to_thread(show, tmp_path, "Weather in Oslo?", name=name)
        assert server.asked == []
        with suppress(ModelError):  # What the server says is no plan.
            await events(app, name, "Weather in Oslo?")
        path = server.asked[0][0]
        # Samples are asked for at once: which of them comes first hangs on time.
        begun = [body for _, body, _ in server.asked[: 2 if name == "vote" else 1]]
    assert shown.url == f"{server.url}{path}"
    assert dict(shown.body) in begun
    assert shown.model == "m"
    assert "sk-" not in repr(shown)


async def test_nothing_is_left_behind_and_nothing_with_effects_is_done(tmp_path: Path) -> None:
    text = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
tools: {b: {kind: python, functions: ['tests.agents.kinds.doing:book']}}
agents:
  desk: {kind: 'tests.agents.test_preview:Booking', tools: [b]}
  loop: {kind: tool_loop, model: m}
"""
    doing.booked.clear()
    async with desk(tmp_path, lambda body: "hi", text) as (_, server):
        with pytest.raises(UsageError, match="book would be called before any model is asked"):
            await asyncio.to_thread(show, tmp_path, "?", name="desk")
        await asyncio.to_thread(show, tmp_path, "?", name="loop")
    assert doing.booked == []
    assert server.asked == []
    with open_store(tmp_path / ".kickwheel") as store:
        assert list(Traces(store).all()) == []
        assert list(store.runs.recent(5)) == []


def test_of_our_own_engine_it_is_the_prompt_and_the_grammar_and_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))
    tiny.write_base(tmp_path / "tiny.gguf")
    monkeypatch.setattr(
        "kickwheel.models.engines.engine.start", lambda options: pytest.fail("it was started")
    )
    (tmp_path / "app.yml").write_text(
        "models: {m: {kind: local, base: tiny.gguf}}\n"
        "tools: {t: {kind: python, functions: ['tests.agents.kinds.doing:weather']}}\n"
        "agents: {desk: {kind: tool_loop, model: m, tools: [t], answer: result}}\n"
    )
    shown = show(tmp_path, "Weather in Oslo?")
    assert shown.url == ""
    prompt = shown.body["prompt"]
    assert prompt.endswith("<|im_start|>user\nWeather in Oslo?<|im_end|>\n<|im_start|>assistant\n")
    assert '"name": "weather"' in prompt
    assert shown.body["grammar"].startswith("root ::= ")
    said = kickwheel("show", str(tmp_path), "Weather in Oslo?")
    assert said.returncode == 0, said.stderr
    assert prompt in said.stdout
    assert shown.body["grammar"] in said.stdout


def test_the_program_prints_it_for_people_and_programs(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(
        "models: {m: {kind: openai, model: small, base_url: 'http://ann:hunter22@x.test/v1'}}\n"
        "agents: {desk: {kind: tool_loop, model: m, instructions: help}}\n"
    )
    said = kickwheel("show", str(tmp_path), "Hi, I am ann@example.com", "--json")
    assert said.returncode == 0, said.stderr
    shown: dict[str, Any] = json.loads(said.stdout)
    assert shown["body"]["messages"] == [
        {"role": "system", "content": "help"},
        {"role": "user", "content": "Hi, I am ann@example.com"},
    ]
    assert "hunter22" not in said.stdout
    plain = kickwheel("show", str(tmp_path), "Hi").stdout
    assert plain.startswith("m: POST http://ann:")
    assert json.loads(plain.partition("\n")[2])["model"] == "small"
