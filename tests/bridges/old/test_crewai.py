"""CrewAI's agents and crews."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crewai import LLM, Agent
from crewai.events import crewai_event_bus
from crewai.tools import tool
from tests.bridges import checks, desk
from tests.bridges.desk import Framework
from tests.bridges.stub import Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel import open_app
from kickwheel.agents.bridges import crewai
from kickwheel.agents.events import Called
from kickwheel.records import Message


def _strict(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """OpenAI's strict form: what may be left out may be null instead, and has no default."""
    function = tools[0]["function"]
    function["strict"] = True
    function["parameters"]["required"] = ["city", "when", "unit"]
    when, unit = (function["parameters"]["properties"][name] for name in ("when", "unit"))
    moment = when["anyOf"][0]
    moment |= {"additionalProperties": False, "required": ["day", "hour"]}
    del moment["description"], moment["properties"]["hour"]["default"], when["default"]
    about = unit.pop("description")
    del unit["default"]
    options = {"anyOf": [dict(unit), {"type": "null"}], "description": about}
    unit.clear()
    unit |= options
    return tools


class CrewAi:
    name = "CrewAI"
    packages = ("crewai",)
    kind = "crewai"
    bridge = crewai
    telemetry = Telemetry(
        dialect="OpenInference", package="openinference-instrumentation-crewai", agent="assistant"
    )
    differs = "strict: all required, no defaults"
    known = staticmethod(_strict)

    def model(self, url: str) -> Any:
        return LLM(model="openai/stub", base_url=url, api_key="sk-stub", stream=True)

    def tool(self) -> Any:
        return tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return Agent(role="assistant", goal="help", backstory="none", llm=model, tools=tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        agent.llm.stream = streamed
        answer = await agent.kickoff_async(question)
        await asyncio.to_thread(crewai_event_bus.flush)  # Its telemetry comes a moment later.
        return str(answer.raw)


FRAMEWORK = CrewAi()
GATE = threading.Event()


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def slow() -> Any:
    """An agent in whose tool a run stands still until `GATE` opens."""

    def weather(city: str, when: Any = None) -> str:
        """Weather of a city."""
        GATE.wait(10)
        return "late"

    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [tool(weather)])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestCrewAi(Truths):
    @pytest.mark.shows("as ours", "streamed")
    async def test_its_agent_is_one_of_ours(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        handed = partial(checks.handed_over, asked=f"\nCurrent Task: {desk.QUESTION}")
        await checks.as_ours(framework, app_file, module, stub, handed=handed)

    @pytest.mark.shows("as ours")
    async def test_who_reads_no_further_ends_its_work(
        self, framework: Framework, module: str, stub: Stub, app_file: Path
    ) -> None:
        with app_file.open("a", encoding="utf-8") as file:
            file.write(f'  slow: {{kind: crewai, object: "{module}:slow"}}\n')
        asked = [Message(role="user", content="?")]
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor() as threads:
            loop.set_default_executor(threads)  # Where it works, so that its end is seen.
            async with open_app(app_file) as app, aclosing(app.model("slow").run(asked)) as events:
                async for event in events:
                    if isinstance(event, Called):
                        break
            GATE.set()
        loop.set_default_executor(ThreadPoolExecutor())
        assert len(stub.asked) == 1
