"""PydanticAI on OpenAI's chat protocol."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."


@asynccontextmanager
async def opened(url: str, stream: bool) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    provider = OpenAIProvider(base_url=url, api_key="k")
    agent = Agent(OpenAIChatModel("stub", provider=provider), tools=[weather])

    async def answer(question: str) -> str:
        if not stream:
            return str((await agent.run(question)).output)
        last = ""
        async with agent.run_stream_events(question) as events:
            async for event in events:
                if (result := getattr(event, "result", None)) is not None:
                    last = str(getattr(result, "output", last))
        return last

    yield answer
