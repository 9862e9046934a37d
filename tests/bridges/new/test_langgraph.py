"""LangChain's agents and LangGraph's graphs."""

import asyncio
import operator
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from tests.bridges import checks, desk, telemetry
from tests.bridges.conftest import Recording
from tests.bridges.provider import PAGE
from tests.bridges.stub import ANSWER, OUTPUT, PROMPT, Stub
from tests.bridges.telemetry import Telemetry
from tests.bridges.truths import Truths

from kickwheel.agents import Called, Finished, Returned, Text
from kickwheel.agents.bridges import langchain
from kickwheel.core.errors import ModelError
from kickwheel.records import genai


class LangGraph:
    name = "LangChain, LangGraph"
    packages = ("langchain", "langgraph", "langchain-openai")
    kind = "langgraph"
    bridge = langchain
    telemetry = Telemetry(
        dialect="OpenInference",
        package="openinference-instrumentation-langchain",
        counts_streams=False,
    )

    def model(self, url: str) -> Any:
        return ChatOpenAI(model="stub", base_url=url, api_key="sk-stub")

    def tool(self) -> Any:
        return tool(desk.weather)

    def agent(self, model: Any, tools: list[Any]) -> Any:
        return create_agent(model, tools)

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        asked = {"messages": [{"role": "user", "content": question}]}
        if not streamed:
            return str((await agent.ainvoke(asked))["messages"][-1].text)
        said = ""
        async for message, _ in agent.astream(asked, stream_mode="messages"):
            said += message.text if message.type == "AIMessageChunk" else ""
        return said


FRAMEWORK = LangGraph()


PROGRAM = """
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI


def weather(city: str) -> str:
    \"""Weather of a city.\"""
    return f"sunny in {city}"


agent = create_agent(ChatOpenAI(model="stub"), [weather])
agent.invoke({"messages": "How is the weather in Oslo today?"})
"""


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


def nested() -> Any:
    """A graph in which an agent works, and a node without a model has the last word."""

    def sign(state: State) -> Any:
        return {"messages": [AIMessage(f"{state['messages'][-1].text} Yours, desk.")]}

    graph = StateGraph(State)
    graph.add_node("agent", made())
    graph.add_node("sign", sign)
    graph.add_edge(START, "agent")
    graph.add_edge("agent", "sign")
    return graph.compile(checkpointer=InMemorySaver())


class Plain(TypedDict):
    messages: Annotated[list[Any], operator.add]


def plain() -> Any:
    """A graph whose messages have no ids, since it adds them up by itself."""

    async def ask(state: Plain) -> Any:
        return {"messages": [await made_model().ainvoke(state["messages"])]}

    graph = StateGraph(Plain)
    graph.add_node("ask", ask)
    graph.add_node("again", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "again")
    return graph.compile()


def asking() -> Any:
    """A graph that waits for a person."""

    def ask(state: State) -> Any:
        return {"messages": [AIMessage(interrupt("May I?"))]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    return graph.compile(checkpointer=InMemorySaver())


def made_model() -> Any:
    return FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")


def made() -> Any:
    return FRAMEWORK.agent(made_model(), [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestLangGraph(Truths):
    """All of them."""


async def test_langsmiths_client_tells_it_without_a_line_of_code(
    stub: Stub, recording: Recording
) -> None:
    stub.arguments["weather"] = {"city": "Oslo"}
    shown = re.findall(r"(LANGSMITH_\w+)=(\w+)", PAGE.read_text("utf-8"))
    told = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": recording.project("langsmith").removesuffix("/v1"),
        "OPENAI_BASE_URL": stub.url,
        "OPENAI_API_KEY": "sk-stub",
    }
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, env={**os.environ, **dict(shown), **told}
    )
    assert await ran.wait() == 0
    (found,) = await checks.kept(recording.store, "langsmith", 1)
    asked, answered = telemetry.of_kind(found, "model")
    assert asked.output[0].tool_calls[0].name == "weather"
    assert answered.input[-1].content == "sunny in Oslo"
    assert answered.output[0].content == ANSWER
    for span in (asked, answered):
        assert span.attributes[genai.INPUT_TOKENS] == PROMPT
    (tool_span,) = telemetry.of_kind(found, "tool")
    assert tool_span.output[0].content == "sunny in Oslo"
    first, _ = telemetry.learned(found)
    assert [offered.name for offered in first.tools] == ["weather"]


async def test_graphs_in_a_graph_are_told_and_its_last_message_is_the_answer(
    stub: Stub, app_file: Path
) -> None:
    events = await checks.ran("langgraph", f"{__name__}:nested", app_file, *desk.EARLIER)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.answer.content == f"{ANSWER} Yours, desk."
    assert (finished.steps, finished.usage.prompt_tokens) == (2, 2 * PROMPT)
    told = [type(event) for event in events if isinstance(event, Called | Returned)]
    assert told == [Called, Returned]
    said = "".join(event.text for event in events if isinstance(event, Text))
    assert said.endswith(f"{ANSWER} Yours, desk.")


async def test_each_model_call_of_a_plain_graph_is_counted(stub: Stub, app_file: Path) -> None:
    finished = (await checks.ran("langgraph", f"{__name__}:plain", app_file, *desk.EARLIER))[-1]
    assert isinstance(finished, Finished)
    assert (finished.answer.content, finished.steps) == (ANSWER, 2)
    assert finished.usage.output_tokens == 2 * OUTPUT


async def test_a_graph_that_waits_for_a_person_says_so(stub: Stub, app_file: Path) -> None:
    with pytest.raises(ModelError, match="waits for a person"):
        await checks.ran("langgraph", f"{__name__}:asking", app_file)
