"""LangGraph's prebuilt agent, through LangChain's `create_agent`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI


async def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."


@asynccontextmanager
async def opened(url: str, stream: bool) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    model = ChatOpenAI(model="stub", base_url=url, api_key="k", stream_usage=True)
    agent = create_agent(model, [weather])

    async def answer(question: str) -> str:
        asked = {"messages": [{"role": "user", "content": question}]}
        if not stream:
            return str((await agent.ainvoke(asked))["messages"][-1].content)
        said = ""
        async for piece, _ in agent.astream(asked, stream_mode="messages"):
            if piece.type == "AIMessageChunk":
                said += str(piece.content)
        return said

    yield answer
