"""`kind: graph`: work in steps that depend on each other, drawn as nodes and edges.

    nodes:                                        edges:
      flight: {agent: flights}                      - {to: [flight, hotel]}
      hotel:  {agent: hotels}                       - {from: [flight, hotel], to: offer}
      offer:  {model: general, task: "…{flight}"}   - {from: offer, to: check}
      check:  {agent: checker}                      - {from: check, to: offer, when: {equals: no}}

A node runs once all edges that may still lead to it are decided, if one of them was taken: so
fan-out and join need no words of their own, and what is independent runs at once. An edge whose
condition does not hold is not taken; a node that no edge leads to any more is left out, and so are
those behind it. An edge back to an earlier node runs everything from there again.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any

from msgspec import UNSET
from pydantic import Field, field_validator, model_validator

from kickwheel.agents.edges import START, Line, Section, State, When, behind, leading_back
from kickwheel.agents.events import Agent, Finished
from kickwheel.agents.run import AgentPart, Run, answered
from kickwheel.agents.tools import Pictured, Tool, Toolbox
from kickwheel.agents.tools.flow import marked
from kickwheel.agents.work import Worker
from kickwheel.core.errors import ModelError, ToolError, UsageError
from kickwheel.core.plugins import Context, Name, nearest
from kickwheel.models.chat import Model
from kickwheel.models.pictures import LAST
from kickwheel.records import Image, Images, Message, ToolCall

_NAME = re.compile(r"\{(\w+)\}")


class Node(Section):
    """One step: an agent, a model, or a call of a tool."""

    agent: Annotated[str | None, Name("agents")] = None
    """Who does it."""
    model: Annotated[str | None, Name("models")] = None
    """Who answers, without tools."""
    tool: Annotated[str | None, Name("tools")] = None
    """The entry of `tools` that holds the tool to call; with several tools in it, `call` says
    which."""
    call: str | None = None
    """Name of the one tool to call."""
    arguments: Mapping[str, Any] = {}
    """Of the call; texts may hold `{question}` and `{node}`."""
    task: str | None = None
    """What is asked; `{question}` is the user's last message, `{node}` what that node said. By
    default the whole conversation as it came."""

    @model_validator(mode="after")
    def _one(self) -> "Node":
        if sum(who is not None for who in (self.agent, self.model, self.tool)) != 1:
            raise ValueError("name one of agent, model and tool")
        if self.tool is None and (self.arguments or self.call):
            raise ValueError("arguments and call belong to a tool")
        if self.tool is not None and self.task is not None:
            raise ValueError("a tool has arguments instead of a task")
        return self

    def names(self) -> set[str]:
        """The nodes whose words it needs, and `question`."""
        return set(_NAME.findall(f"{self.task or ''} {json.dumps(dict(self.arguments))}"))


class Edge(Section):
    """What comes after what."""

    origin: tuple[str, ...] = Field(default=(START,), alias="from")
    """Nodes that it starts from, each an edge of its own; by default the start."""
    to: tuple[str, ...]
    """Nodes that it leads to, each an edge of its own."""
    when: When | None = None
    """When it is taken; always without."""

    @field_validator("origin", "to", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class Graph(AgentPart):
    """Nodes and edges; what is independent runs at once."""

    nodes: Annotated[Mapping[str, Node], Field(min_length=1)]
    """The steps, by name."""
    edges: Annotated[tuple[Edge, ...], Field(min_length=1)]
    """What comes after what, and when."""
    answer: str | None = None
    """The node that has the last word; by default the last ones that ran, in the file's order."""
    max_rounds: Annotated[int, Field(gt=0)] = 5
    """How often one node may run, where edges lead back."""
    max_steps: Annotated[int, Field(gt=0)] = 64
    """Calls of models in one run at most, those of all nodes together."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for a whole run; waiting for a person does not count."""

    @model_validator(mode="after")
    def _drawn(self) -> "Graph":
        for name in self.nodes:
            if not name.isidentifier() or name in (START, "question"):
                raise ValueError(f'"{name}" cannot be the name of a node: take letters and digits')
        known = set(self.nodes)
        for edge in self.edges:
            for name in (*edge.origin, *edge.to):
                if name not in known and not (name == START and name in edge.origin):
                    raise ValueError(f'edges: no node "{name}". {nearest(name, known)}')
        for name, node in self.nodes.items():
            for needed in node.names() - known - {"question"}:
                raise ValueError(f'nodes.{name}: no node "{needed}". {nearest(needed, known)}')
        if self.answer is not None and self.answer not in known:
            raise ValueError(f'answer: no node "{self.answer}". {nearest(self.answer, known)}')
        for line in leading_back(_plain(self.edges)):
            if line.when is None:
                raise ValueError(
                    f"the edge from {line.origin} back to {line.to} is always taken, so it never "
                    "ends: give it a condition with when"
                )
        left = known - behind(START, _plain(self.edges))
        if left:
            raise ValueError(f"no edge leads from the start to {', '.join(sorted(left))}")
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Drawn"]:
        """The agent at work."""
        live: dict[str, Agent | Model | Tool] = {}
        for name, node in self.nodes.items():
            if node.tool is not None:
                live[name] = _one_tool(context, name, node)
            elif node.agent is not None:
                live[name] = context.part("agents", node.agent)
            else:
                live[name] = context.part("models", node.model or "")
        yield Drawn(context.name, live, self)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a tool said and showed, as a step's result."""

    text: str
    images: tuple[Image, ...]


_SAID: Any = str | _Seen


class Drawn(Worker):
    """An agent that works through a graph."""

    def __init__(self, name: str, live: Mapping[str, Agent | Model | Tool], options: Graph) -> None:
        super().__init__(name, options)
        self._live = live
        self._graph = options
        self._lines = _plain(options.edges)
        self._back = leading_back(self._lines)
        self._loud = self._only_end()
        # A tool says so in its limits, an agent elsewhere itself.
        self._untrusted = frozenset(
            name
            for name, one in live.items()
            if getattr(getattr(one, "limits", one), "trusted", None) is False
        )

    async def work(self, run: Run) -> Finished:
        """Runs each node as soon as it may, until nothing is left."""
        state = State(self._lines, self._back, _question(run), self._untrusted)
        tasks: dict[asyncio.Task[str], str] = {}
        try:
            while True:
                for name in state.ready(busy=set(tasks.values())):
                    if state.runs.get(name, 0) >= self._graph.max_rounds:
                        return run.ended("steps", note=self._rounds(name))
                    state.start(name)
                    tasks[asyncio.create_task(self._node(run, name, state))] = name
                if not tasks:
                    break
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    state.said_by(tasks.pop(task), task.result())
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        return self._answer(run, state)

    async def _node(self, run: Run, name: str, state: State) -> str:
        """What the node says, as a step whose place is its name."""
        node = self._graph.nodes[name]
        words = {needed: str(state.said.get(needed, "")) for needed in sorted(node.names())}
        words["question"] = state.question
        # What nobody vouches for is marked where a model reads it; tools get it as it is.
        read = {n: marked(text) if n in state.untrusted else text for n, text in words.items()}

        async def do() -> str | _Seen:
            live = self._live[name]
            if node.tool is not None:
                return await self._called(run, live, name, _filled(node.arguments, words))  # type: ignore[arg-type]
            messages = run.asked.messages
            if node.task is not None:
                task = _filled(node.task, read)
                messages = (Message(role="user", content=task, images=_shown(node, run, state)),)
            finished = await run.hand(live, messages, aloud=name == self._loud)  # type: ignore[arg-type]
            return answered(name, finished).content or ""

        place = f"{name}.{state.runs[name]}"
        said = await run.step(f"node {name}", words, do, _SAID, at=place)
        return Pictured(said.text, said.images) if isinstance(said, _Seen) else said

    async def _called(self, run: Run, tool: Tool, name: str, arguments: Any) -> str | _Seen:
        call = ToolCall(id=f"call_{name}", name=tool.spec.name, arguments=json.dumps(arguments))
        (result,) = await run.call({tool.spec.name: tool}, [call])
        if result.state != "done":
            told = result.text.removeprefix("error: ")
            raise ToolError(f"{self.name}.{name}: {told}") from result.failure
        return _Seen(result.text, result.images) if result.images else result.text

    def _answer(self, run: Run, state: State) -> Finished:
        ends = [n for n in self._graph.nodes if n in state.said and state.ended(n)]
        if self._graph.answer is not None:
            ends = [self._graph.answer] if self._graph.answer in state.said else []
        if not ends:
            raise ModelError(
                f"{self.name} ended without an answer: no condition led to "
                f"{self._graph.answer or 'any node'}"
            )
        text = "\n\n".join(state.said[name] for name in ends)
        if ends != [self._loud]:
            run.say(text)
        return run.ended("answered", Message(role="assistant", content=text))

    def _only_end(self) -> str | None:
        """The node whose words are the answer as they come: the only end, if it runs only once."""
        ends = [n for n in self._graph.nodes if all(line.origin != n for line in self._lines)]
        if len(ends) != 1 or self._graph.answer not in (None, ends[0]):
            return None
        again = any(ends[0] in behind(line.to, self._lines) for line in self._back)
        return None if again or self._graph.nodes[ends[0]].tool else ends[0]

    def _rounds(self, name: str) -> str:
        most = self._graph.max_rounds
        return f"ran {name} {most} times without an end; allow it more with max_rounds"


def _question(run: Run) -> str:
    said = (m.content or "" for m in reversed(run.asked.messages) if m.role == "user")
    return next(said, "")


def _shown(node: Node, run: Run, state: State) -> Images:
    """The pictures of what a task names: those of the user's question, and of tools before it."""
    names = node.names()
    asked = next((m for m in reversed(run.asked.messages) if m.role == "user"), None)
    own = asked.images or () if asked is not None and "question" in names else ()
    # By name: which of them ended first is not the same when the run goes on after a kill.
    said = [state.said.get(name) for name in sorted(names)]
    brought = [text.images for text in said if isinstance(text, Pictured)][-LAST:]
    # Where in the task they were is not known any more.
    images = [replace(image, at=None) for image in own]
    return (*images, *(image for one in brought for image in one)) or UNSET


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """The value with each `{name}` in its texts replaced."""
    if isinstance(value, str):
        return _NAME.sub(lambda m: words.get(m[1], m[0]), value)
    if isinstance(value, Mapping):
        return {key: _filled(inner, words) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(inner, words) for inner in value]
    return value


def _plain(edges: Sequence[Edge]) -> list[Line]:
    return [
        Line(origin, to, edge.when) for edge in edges for origin in edge.origin for to in edge.to
    ]


def _one_tool(context: Context, name: str, node: Node) -> Tool:
    box: Toolbox = context.part("tools", node.tool or "")
    known = {tool.spec.name: tool for tool in box}
    if node.call is not None and node.call not in known:
        raise UsageError(
            f'agents.{context.name}.nodes.{name}: no tool "{node.call}" in {node.tool}. '
            f"{nearest(node.call, known)}"
        )
    if node.call is None and len(known) != 1:
        raise UsageError(
            f"agents.{context.name}.nodes.{name}: {node.tool} has {len(known)} tools; name one "
            f"with call: {', '.join(known)}"
        )
    return known[node.call or next(iter(known))]
