"""What an app offers to programs that are no agents of ours: its tools, and its agents as tools.

A call is made within the tool's limits, as an agent's would be, and leaves a trace of its own.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kickwheel.agents.ask import ask
from kickwheel.agents.delegate import as_tool
from kickwheel.agents.events import Agent
from kickwheel.agents.tools import Effects, InvalidArguments, Limits, Tool, calling
from kickwheel.core.errors import ModelError, ToolError
from kickwheel.core.identity import fresh
from kickwheel.records import Message, ToolCall, ToolSpec
from kickwheel.trace.record import Recorder


class Offered:
    """A tool of ours for others to call."""

    def __init__(self, tool: Tool, recorder: Recorder) -> None:
        self._tool = tool
        self._recorder = recorder

    @property
    def spec(self) -> ToolSpec:
        """Its name, what it is good for, and the JSON Schema of its arguments, without `$ref`."""
        return self._tool.spec

    @property
    def effects(self) -> Effects | None:
        """What a call does to the world; `None` where nobody knows, as of an agent."""
        limits: Limits = getattr(self._tool, "limits", Limits())
        return limits.effects

    async def call(self, arguments: Mapping[str, Any] | str) -> str:
        """What the tool says.

        Args:
            arguments: as they are, or as the JSON that a model wrote.
        Raises:
            InvalidArguments: they do not fit its schema; nothing was called.
            ToolError: it failed, took too long, or a person said no.
        """
        written = arguments if isinstance(arguments, str) else json.dumps(dict(arguments))
        name = self.spec.name
        asked = ToolCall(id=f"call_{fresh(8)}", name=name, arguments=written)
        with self._recorder.trace(name, name, "tool"):
            result = await calling.call({name: self._tool}, asked)
        if result.state == "done":
            return result.text
        words = result.text.removeprefix("error: ")
        raise (InvalidArguments if result.state == "invalid" else ToolError)(words)


class OfferedAgent(Offered):
    """An agent of ours for others to call: a task in, its answer out."""

    def __init__(self, agent: Agent, recorder: Recorder) -> None:
        super().__init__(as_tool(agent), recorder)
        self.agent = agent

    @property
    def effects(self) -> Effects | None:
        """Nobody knows what it will do."""
        return None

    def question(self, arguments: Mapping[str, Any] | str) -> list[Message]:
        """The conversation that the task begins.

        Raises:
            InvalidArguments: there is no task.
        """
        given = json.loads(arguments) if isinstance(arguments, str) else arguments
        task = given.get("task") if isinstance(given, Mapping) else None
        if not isinstance(task, str) or not task.strip():
            raise InvalidArguments(f'{self.spec.name} wants a "task": what is to be done')
        return [Message(role="user", content=task)]

    async def call(self, arguments: Mapping[str, Any] | str) -> str:
        """What the agent answers; see `Offered.call`."""
        answered = await ask(self.agent, self.question(arguments), self._recorder)
        if answered.note and not answered.answer:
            raise ModelError(f"{self.spec.name}: {answered.note}")
        return answered.answer


def offered(
    boxes: Iterable[Iterable[Tool]], agents: Iterable[Agent], recorder: Recorder
) -> list[Offered]:
    """All tools of the boxes, and the agents as tools."""
    tools = [Offered(tool, recorder) for box in boxes for tool in box]
    return [*tools, *(OfferedAgent(agent, recorder) for agent in agents)]
