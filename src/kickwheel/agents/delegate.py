"""An agent as a tool of another one: a task in, its answer out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kickwheel.agents.events import Agent
from kickwheel.agents.run import answered, running
from kickwheel.agents.tools import Limits, Tool, Toolbox
from kickwheel.agents.work import Worker
from kickwheel.core.errors import ToolError, UsageError
from kickwheel.core.plugins import Context
from kickwheel.records import Message, ToolSpec

_TASK = {
    "type": "object",
    "properties": {
        "task": {
            "type": "string",
            "description": "What is to be done, with all that is needed to know for it.",
        }
    },
    "required": ["task"],
}


def tools_of(context: Context, tools: Sequence[str], agents: Sequence[str]) -> dict[str, Tool]:
    """What an agent offers to its model, by name: its tools, and other agents as tools.

    Args:
        tools, agents: names in the file; what they name is open.
    Raises:
        UsageError: two of them offer the same name.
    """
    boxes: dict[str, Toolbox] = {name: context.part("tools", name) for name in tools}
    boxes |= {name: [as_tool(context.part("agents", name))] for name in agents}
    return _unpacked(context.name, boxes)


def as_tool(agent: Agent) -> Tool:
    """The agent as a tool; it sees the task, and nothing else of the conversation."""
    return _Delegate(agent)


class _Delegate:
    # Its own steps are in the journal one by one, so that the call itself may be made again; and
    # it has a deadline of its own.
    limits = Limits(timeout_s=86_400.0, result_chars=100_000, effects="none", tries=1, trusted=True)

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        if isinstance(agent, Worker) and agent.trusted is not True:
            self.limits = replace(self.limits, trusted=agent.trusted)
        description = agent.description if isinstance(agent, Worker) else ""
        self.spec = ToolSpec(name=agent.name, description=description, parameters=_TASK)

    async def call(self, arguments: Mapping[str, Any]) -> str:
        run = running()
        if run is None:
            raise ToolError(f"{self._agent.name} works for agents only")
        task = Message(role="user", content=arguments["task"])
        finished = await run.hand(self._agent, [task])
        return answered(self._agent.name, finished).content or ""


def _unpacked(agent: str, boxes: Mapping[str, Toolbox]) -> dict[str, Tool]:
    """All tools of the boxes by name.

    Raises:
        UsageError: two boxes offer the same name.
    """
    tools: dict[str, Tool] = {}
    origin: dict[str, str] = {}
    for box, content in boxes.items():
        for tool in content:
            name = tool.spec.name
            if name in tools:
                raise UsageError(
                    f'agents.{agent}: tools "{origin[name]}" and "{box}" both offer "{name}"; '
                    "a model could not tell them apart. Rename one of them."
                )
            tools[name] = tool
            origin[name] = box
    return tools
