"""The OpenAI Agents SDK; its upload of traces is off."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from openai import AsyncOpenAI

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)

set_tracing_disabled(True)


@function_tool
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."


@asynccontextmanager
async def opened(url: str, stream: bool) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    client = AsyncOpenAI(base_url=url, api_key="k")
    agent = Agent(name="desk", model=OpenAIChatCompletionsModel("stub", client), tools=[weather])

    async def answer(question: str) -> str:
        if not stream:
            return str((await Runner.run(agent, question)).final_output)
        result = Runner.run_streamed(agent, question)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    yield answer
