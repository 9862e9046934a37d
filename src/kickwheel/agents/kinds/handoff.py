"""`kind: handoff`: agents pass the conversation on to each other.

Each agent is offered a tool for every other one, `hand_to_<agent>`, with what that one is good at.
Whoever has the conversation sees all of it; an answer without such a call ends the run.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated

from msgspec import structs
from pydantic import Field, model_validator

from kickwheel.agents.events import Agent, Chosen, Finished
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.work import Worker
from kickwheel.core.plugins import Context, Name
from kickwheel.records import Message, ToolCall, ToolSpec

PREFIX = "hand_to_"


class Handoff(AgentPart):
    """Agents that pass the conversation on to each other."""

    agents: Annotated[tuple[str, ...], Name("agents"), Field(min_length=2)]
    """Who takes part; each may hand to each other one."""
    start: Annotated[str | None, Name("agents")] = None
    """Who begins; by default the first."""
    max_handoffs: Annotated[int, Field(gt=0)] = 6
    """How often the conversation may change hands; the last one must answer."""
    max_steps: Annotated[int, Field(gt=0)] = 64
    """Calls of models in one run at most, those of all agents together."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for a whole run; waiting for a person does not count."""

    @model_validator(mode="after")
    def _begins(self) -> "Handoff":
        if self.start is not None and self.start not in self.agents:
            raise ValueError(f'"{self.start}" is not among its agents: {", ".join(self.agents)}')
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Relay"]:
        """The agent at work."""
        agents = {name: context.part("agents", name) for name in self.agents}
        yield Relay(context.name, agents, self)


class Relay(Worker):
    """An agent made of several that pass the conversation on."""

    def __init__(self, name: str, agents: Mapping[str, Agent], options: Handoff) -> None:
        super().__init__(name, options)
        self._agents = agents
        self._handoff = options

    async def work(self, run: Run) -> Finished:
        """Lets whoever has the conversation go on with it."""
        holder = self._handoff.start or next(iter(self._agents))
        conversation = run.asked.messages
        for changes in range(self._handoff.max_handoffs + 1):
            agent = self._agents[holder]
            tools: tuple[ToolSpec, ...] = ()
            if not getattr(agent, "words_only", False):
                may = changes < self._handoff.max_handoffs
                tools = (*run.asked.tools, *(self._others(holder) if may else ()))
            request = structs.replace(run.asked, tools=tools)
            finished = await run.hand(agent, conversation, request, aloud=True)
            handed = [call for call in finished.answer.tool_calls if self._next(call)]
            if finished.why != "calls" or not handed:
                break
            # One conversation has one holder: the first call counts, others are answered by it.
            call = handed[0]
            said = replace(finished.answer, tool_calls=(call,))
            holder = self._next(call)
            note = f"The conversation is now with {holder}."
            conversation = (
                *conversation,
                *finished.work,
                said,
                Message(role="tool", content=note, tool_call_id=call.id),
            )
            run.tell(Chosen(holder, self.name))
        work = (*conversation[len(run.asked.messages) :], *finished.work)
        return run.ended(finished.why, finished.answer, finished.note, work)

    def _others(self, holder: str) -> tuple[ToolSpec, ...]:
        return tuple(
            ToolSpec(
                name=PREFIX + name,
                description=f"Passes the conversation on to {name}. "
                f"{getattr(agent, 'description', '')}".strip(),
                parameters={
                    "type": "object",
                    "properties": {
                        "reason": {"type": "string", "description": "Why, in one sentence."}
                    },
                },
            )
            for name, agent in self._agents.items()
            if name != holder
        )

    def _next(self, call: ToolCall) -> str:
        """Whom the call hands to; empty where it is a call of the caller's own tools."""
        name = call.name.removeprefix(PREFIX)
        return name if call.name.startswith(PREFIX) and name in self._agents else ""
