"""`kind: smolagents`: agents of smolagents.

They do not await: a run goes on in a thread, and ends there at its next step where nobody reads on.
What the system said reaches them as the user's.
"""

import copy
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.smolagents import INSTALL
from kickwheel.agents.bridges.threads import iterated
from kickwheel.agents.bridges.worker import TheirAgent
from kickwheel.agents.events import Text
from kickwheel.records import Message


class SmolagentsAgent(TheirAgent):
    """An agent of smolagents; each run has a memory of its own."""

    install = INSTALL
    remembers = True  # An agent that writes code keeps its variables.

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        import smolagents as its
        from rich.console import Console

        *earlier, asked = messages
        agent = copy.copy(theirs)
        agent.logger = its.AgentLogger(its.LogLevel.OFF, Console(quiet=True))
        agent.memory, agent.state = its.AgentMemory(theirs.system_prompt), dict(theirs.state)
        agent.memory.steps = [_step(place, message) for place, message in enumerate(earlier)]
        name = str(agent.model.model_id)
        run = iterated(lambda: agent.run(asked.content, stream=True, reset=False))
        async with aclosing(run) as steps:
            async for step in steps:
                match step:
                    case its.ChatMessageStreamDelta(content=str(text)) if text:
                        yield Text(text)
                    case its.ChatMessageStreamDelta(token_usage=count) if count:
                        yield used(count.input_tokens, count.output_tokens, None, name)
                    case its.ActionStep(token_usage=count) if count and not agent.stream_outputs:
                        yield used(count.input_tokens, count.output_tokens, None, name)
                    case its.ToolCall(name=tool) if tool != "final_answer":
                        yield called(step.id, tool, step.arguments)
                    case its.ToolOutput(is_final_answer=False):
                        yield returned(step.id, step.observation)
                    case its.FinalAnswerStep():
                        yield answered(step.output)


def _step(place: int, message: Message) -> Any:
    """A message of the conversation as smolagents remembers it."""
    from smolagents.memory import ActionStep, TaskStep, ToolCall
    from smolagents.monitoring import Timing

    if message.role not in ("assistant", "tool"):
        return TaskStep(message.content or "")
    step = ActionStep(place, Timing(0.0, 0.0))
    if message.role == "tool":
        step.observations = message.content
    else:
        step.model_output = message.content
        calls = [ToolCall(c.name, json.loads(c.arguments), c.id) for c in message.tool_calls]
        step.tool_calls = calls or None
    return step
