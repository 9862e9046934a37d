"""`kind: crewai`: agents, crews and tools of CrewAI.

CrewAI sends every tool in OpenAI's strict form: all arguments are required, those that may be left
out may be null, and defaults are lost.
"""

import asyncio
import inspect
import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirAgent, TheirTools, needs, spoken, told
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.threads import across, waiting
from kickwheel.agents.events import Text, as_it_happens
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.agents.tools.threads import in_thread
from kickwheel.records import Message
from kickwheel.records.openai import message_to_openai

INSTALL = "crewai"

# What an app does is nobody else's affair: CrewAI tells its makers unless it is told not to.
os.environ.setdefault("CREWAI_DISABLE_TELEMETRY", "true")
os.environ.setdefault("CREWAI_TRACING_ENABLED", "false")


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as CrewAI's."""
    with needs(INSTALL):
        from crewai.tools import BaseTool
        from crewai.utilities.pydantic_schema_utils import create_model_from_schema

    class Ours(BaseTool):
        def __init__(self, ours: Offered) -> None:
            super().__init__(
                name=ours.spec.name,
                description=ours.spec.description,
                args_schema=create_model_from_schema(dict(ours.spec.parameters)),
            )
            self._ours, self._waiting = ours, waiting(ours)

        def _run(self, **arguments: Any) -> str:
            return str(self._waiting(**arguments))

        async def _arun(self, **arguments: Any) -> str:
            return await told(self._ours, arguments)

    return [Ours(ours) for ours in offered]


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as CrewAI's; it streams."""
    with needs(INSTALL):
        from crewai import LLM
    return LLM(model=f"openai/{name}", base_url=base_url, api_key=api_key, stream=True)


class CrewaiAgent(TheirAgent):
    """An agent of CrewAI, or a crew, whose tasks find the question as `{question}`."""

    install = INSTALL

    def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent or crew does."""
        return as_it_happens(partial(_work, theirs, messages))


async def _work(theirs: Any, messages: Sequence[Message], tell: Callable[[Told], None]) -> None:
    from crewai import Crew
    from crewai.events.stream_context import add_stream_sink
    from crewai.events.utils.console_formatter import set_suppress_console_output

    say, left = across(tell), threading.Event()

    def heard(source: Any, event: Any) -> None:
        if left.is_set():  # It works in threads, which cancelling does not reach.
            raise asyncio.CancelledError
        match event.type:
            case "llm_stream_chunk" if not event.tool_call:
                say(Text(event.chunk))
            case "llm_call_completed":
                count = event.usage or {}
                tokens = count.get("prompt_tokens"), count.get("completion_tokens")
                say(used(*tokens, count.get("cached_prompt_tokens"), event.model or ""))
            case "tool_usage_started":
                say(called(event.event_id, event.tool_name, event.tool_args))
            case "tool_usage_finished":
                say(returned(event.started_event_id, event.output))
            case "tool_usage_error":
                say(returned(event.started_event_id, str(event.error), failed=True))

    # Both hold in this task and what it starts, and nowhere else.
    add_stream_sink(heard)
    set_suppress_console_output(True)
    try:
        if isinstance(theirs, Crew):
            done = await theirs.copy().akickoff({"question": spoken(messages)})
        else:
            done = await theirs.kickoff_async([message_to_openai(message) for message in messages])
    finally:
        left.set()
    say(answered(done.raw))


class CrewaiTools(TheirTools):
    """Tools of CrewAI; those that do not await are called in a thread."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of CrewAI as ours."""
        from crewai.tools.base_tool import BaseTool, Tool

        # Asked whether it awaits, `arun` of a plain function finds out by calling it.
        own = type(theirs)._arun not in (BaseTool._arun, Tool._arun)
        awaits = own or inspect.iscoroutinefunction(getattr(theirs, "func", None))

        async def call(arguments: dict[str, Any]) -> Any:
            if awaits:
                return await theirs.arun(**arguments)
            return await in_thread(lambda: theirs.run(**arguments))

        schema = theirs.args_schema.model_json_schema()
        return self.tool(theirs.name, theirs.description, schema, call)
