"""LangChain's agents and LangGraph's graphs."""

from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from tests.bridges import desk
from tests.bridges.truths import Truths

from kickwheel.agents.bridges import langchain


class LangGraph:
    name = "LangChain, LangGraph"
    packages = ("langchain", "langgraph", "langchain-openai")
    kind = "langgraph"
    bridge = langchain

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


def made() -> Any:
    model = FRAMEWORK.bridge.model("stub", desk.stub_url(), api_key="sk-stub")
    return FRAMEWORK.agent(model, [FRAMEWORK.tool()])


def offered() -> Any:
    return FRAMEWORK.tool()


class TestLangGraph(Truths):
    """All of them."""
