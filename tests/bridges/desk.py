"""The desk of these tests: what our app and the frameworks' agents work with."""

import os
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from kickwheel.records import Message, ToolCall

CALLS: list[str] = []
"""Cities that `weather` was asked about, by whomever."""

QUESTION = "How is the weather in Oslo today?"

EARLIER = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="And in Rome?"),
    Message(
        role="assistant",
        tool_calls=(ToolCall(id="call_r", name="weather", arguments='{"city": "Rome"}'),),
    ),
    Message(role="tool", content="rain in Rome", tool_call_id="call_r"),
    Message(role="assistant", content="It rains."),
)
"""What was said before the question."""


class When(BaseModel):
    """A time."""

    day: Literal["today", "tomorrow"]
    hour: int | None = None


def weather(city: str, when: When | None = None, unit: Literal["C", "F"] = "C") -> str:
    """Weather of a city.

    Args:
        city: Name of the city.
        when: Time of interest.
        unit: Of the temperature.
    """
    CALLS.append(city)
    return f"sunny in {city}"


def odd(config: str, run_manager: str, context: str, name: str, args: str, arguments: str) -> str:
    """Its arguments have the names of things inside frameworks."""
    return " ".join([config, run_manager, context, name, args, arguments])


def stub_url() -> str:
    """Where the stub of the running test answers, for agents that an app file names."""
    return os.environ["STUB_URL"]


class Framework(Protocol):
    """What the tests have a framework do, written as its users write it."""

    name: str
    """As the table on the page has it."""
    packages: tuple[str, ...]
    """Whose versions the table lists."""
    kind: str
    """In an app file."""
    bridge: Any
    """The module of ours."""
    telemetry: Any
    """What its own spans tell (`tests.bridges.telemetry`)."""

    def model(self, url: str) -> Any:
        """A model that answers at the URL, made without us."""

    def tool(self) -> Any:
        """`weather` as a tool of theirs, made without us."""

    def agent(self, model: Any, tools: list[Any]) -> Any:
        """An agent of theirs."""

    async def ask(self, agent: Any, question: str, *, streamed: bool) -> str:
        """What the agent answers; `streamed`: read as it comes."""
