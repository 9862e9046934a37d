"""`kind: crewai`: agents and crews of CrewAI."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any

from kickwheel.agents.bridges.crewai import INSTALL
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.threads import across
from kickwheel.agents.bridges.worker import TheirAgent, spoken
from kickwheel.agents.events import Text, as_it_happens
from kickwheel.records import Message
from kickwheel.records.openai import message_to_openai


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
