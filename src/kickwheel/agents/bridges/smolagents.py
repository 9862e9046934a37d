"""`kind: smolagents`: agents and tools of smolagents.

Its agents do not await: a run goes on in a thread, and ends there at its next step where nobody
reads on. They keep the schemas of arguments, but what may be left out becomes `nullable`, and of
`anyOf` only the types stay. What the system said reaches them as the user's.
"""

import copy
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from kickwheel.agents.bridges.bridge import KEY, TheirAgent, TheirTools, needs
from kickwheel.agents.bridges.heard import Told, answered, called, returned, used
from kickwheel.agents.bridges.threads import iterated, waiting
from kickwheel.agents.events import Text
from kickwheel.agents.offered import Offered
from kickwheel.agents.tools import Tool
from kickwheel.agents.tools.threads import in_thread
from kickwheel.records import Message

INSTALL = "'smolagents[openai]'"


def tools(offered: Iterable[Offered]) -> list[Any]:
    """Our tools as those of smolagents; called from its threads, they work where they were made."""
    with needs(INSTALL):
        from smolagents import Tool

    class Ours(Tool):
        output_type = "string"
        skip_forward_signature_validation = True

        def __init__(self, ours: Offered) -> None:
            self.name, self.description = ours.spec.name, ours.spec.description
            required = ours.spec.parameters.get("required", ())
            properties = ours.spec.parameters.get("properties", {})
            self.inputs = {key: _input(it, key in required) for key, it in properties.items()}
            self.forward = waiting(ours)
            super().__init__()

    return [Ours(ours) for ours in offered]


def _input(schema: Any, required: bool) -> dict[str, Any]:
    """The schema of an argument as smolagents wants it; of `anyOf` it keeps no more than types."""
    others = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if len(others) == 1:
        schema = {**others[0], **{key: it for key, it in schema.items() if key != "anyOf"}}
    kind = schema.get("type") or [one.get("type", "any") for one in others] or "any"
    return {"description": "", **schema, "type": kind, **({} if required else {"nullable": True})}


def model(name: str, base_url: str, *, api_key: str = KEY) -> Any:
    """A model or agent that we serve, as that of smolagents."""
    with needs(INSTALL):
        from smolagents import OpenAIModel
    return OpenAIModel(name, api_base=base_url, api_key=api_key)


class SmolagentsAgent(TheirAgent):
    """An agent of smolagents; each run has a memory of its own."""

    install = INSTALL
    remembers = True  # An agent that writes code keeps its variables.

    async def events(self, theirs: Any, messages: Sequence[Message]) -> AsyncGenerator[Told]:
        """What the agent does."""
        from rich.console import Console
        from smolagents import (
            ActionStep,
            AgentLogger,
            ChatMessageStreamDelta,
            FinalAnswerStep,
            LogLevel,
            ToolCall,
            ToolOutput,
        )
        from smolagents.memory import AgentMemory, TaskStep
        from smolagents.monitoring import Timing

        agent = copy.copy(theirs)
        agent.logger = AgentLogger(LogLevel.OFF, Console(quiet=True))
        agent.memory, agent.state = AgentMemory(theirs.system_prompt), dict(theirs.state)
        for place, message in enumerate(messages[:-1]):
            step = ActionStep(place, Timing(0.0, 0.0))
            if message.role == "tool":
                step.observations = message.content
            elif message.role == "assistant":
                step.model_output = message.content
                calls = [
                    ToolCall(c.name, json.loads(c.arguments), c.id) for c in message.tool_calls
                ]
                step.tool_calls = calls or None
            else:
                step = TaskStep(message.content or "")
            agent.memory.steps.append(step)
        name = str(agent.model.model_id)
        run = iterated(lambda: agent.run(messages[-1].content, stream=True, reset=False))
        async with aclosing(run) as steps:
            async for step in steps:
                match step:
                    case ChatMessageStreamDelta(content=str(text)) if text:
                        yield Text(text)
                    case ChatMessageStreamDelta(token_usage=count) if count:
                        yield used(count.input_tokens, count.output_tokens, None, name)
                    case ActionStep(token_usage=count) if count and not agent.stream_outputs:
                        yield used(count.input_tokens, count.output_tokens, None, name)
                    case ToolCall(name=tool) if tool != "final_answer":
                        yield called(step.id, tool, step.arguments)
                    case ToolOutput(is_final_answer=False):
                        yield returned(step.id, step.observation)
                    case FinalAnswerStep():
                        yield answered(step.output)


class SmolagentsTools(TheirTools):
    """Tools of smolagents; they are called in a thread."""

    install = INSTALL

    def called(self, theirs: Any) -> Tool:
        """A tool of smolagents as ours."""
        from smolagents.models import get_tool_json_schema

        told = get_tool_json_schema(theirs)["function"]

        async def call(arguments: dict[str, Any]) -> Any:
            return await in_thread(lambda: theirs(**arguments))

        return self.tool(told["name"], told["description"], told["parameters"], call)
