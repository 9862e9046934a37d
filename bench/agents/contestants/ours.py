"""kickwheel: the app file beside, with trace and journal, as `kickwheel run` does it."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from kickwheel.agents.ask import ask
from kickwheel.agents.events import Text
from kickwheel.app import open_app
from kickwheel.records import Message

APP = """
models:
  stub: {kind: openai, model: stub, base_url: URL, api_key: k}
tools:
  city: {kind: python, functions: ["city:weather"], effects: none}
agents:
  desk: {kind: tool_loop, model: stub, tools: [city]}
serve: {port: 0}
"""
CITY = '''
async def weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."
'''


def written(folder: Path, url: str) -> Path:
    """The app in that folder."""
    (folder / "city.py").write_text(CITY)
    (folder / "app.yml").write_text(APP.replace("URL", url))
    return folder


@asynccontextmanager
async def opened(url: str, stream: bool) -> AsyncIterator[Callable[[str], Awaitable[str]]]:
    with tempfile.TemporaryDirectory() as folder:
        async with open_app(written(Path(folder), url)) as app:
            agent = app.model("desk")

            async def answer(question: str) -> str:
                said: list[str] = []
                messages = [Message(role="user", content=question)]
                heard = (
                    (lambda e: said.append(e.text) if isinstance(e, Text) else None)
                    if stream
                    else None
                )
                asked = await ask(
                    agent, messages, app.recorder, **({"on_event": heard} if heard else {})
                )
                return "".join(said) if stream else asked.answer

            yield answer
