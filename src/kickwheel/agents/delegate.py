"""An agent as a tool of another one: a task in, its answer out."""

from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from dataclasses import replace
from itertools import chain
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


def tools_of(context: Context, tools: Sequence[str], agents: Sequence[str]) -> Mapping[str, Tool]:
    """What an agent offers to its model, by name: its tools, and other agents as tools.

    The mapping follows its boxes: the tools of an MCP server come and go while agents work.

    Args:
        tools, agents: names in the file; what they name is open.
    Raises:
        UsageError: two of them offer the same name.
    """
    boxes: dict[str, Toolbox] = {name: context.part("tools", name) for name in tools}
    boxes |= {name: [as_tool(context.part("agents", name))] for name in agents}
    return _Boxes(context.name, boxes)


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


class _Boxes(Mapping[str, Tool]):
    """All tools of the boxes by name, as they are now.

    Raises:
        UsageError: two boxes offer the same name from the start.
    """

    def __init__(self, agent: str, boxes: Mapping[str, Toolbox]) -> None:
        self._boxes = tuple(boxes.values())
        self._tools = _unpacked(agent, boxes)
        self._seen = list(chain.from_iterable(self._boxes))

    def _now(self) -> dict[str, Tool]:
        there = list(chain.from_iterable(self._boxes))
        if there != self._seen:
            self._seen = there
            # What came later by a name that is taken already is not offered.
            self._tools = {tool.spec.name: tool for tool in reversed(there)}
            self._tools = {tool.spec.name: self._tools[tool.spec.name] for tool in there}
        return self._tools

    def __getitem__(self, name: str) -> Tool:
        return self._now()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def items(self) -> ItemsView[str, Tool]:
        return self._now().items()

    def values(self) -> ValuesView[Tool]:
        return self._now().values()


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
