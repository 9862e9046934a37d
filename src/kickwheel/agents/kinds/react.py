"""`kind: react`: for models that know no tool calls: thoughts, actions and observations as text.

    ask the model ─▶ Answer: that is it
         ▲         ─▶ Action and Input: call the tool ─▶ Observation ─┐
         └────────────────────────────────────────────────────────────┘

The tools stand in the prompt, a line each. A stop sequence keeps the model from writing the
observation itself, and engines that take a grammar let nothing but a step pass. What cannot be read
as a step, or not be called, is told to the model; after the second time in a row the run ends with
an error.

Source: Yao et al. (2022), ReAct.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from msgspec import UNSET, structs
from pydantic import Field

from kickwheel.agents import transcript
from kickwheel.agents.delegate import tools_of
from kickwheel.agents.events import Finished
from kickwheel.agents.output import INVALID_IN_A_ROW
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.tools import Tool
from kickwheel.agents.transcript import Prompt
from kickwheel.agents.work import Worker
from kickwheel.core.errors import ModelError
from kickwheel.core.plugins import Context, Name
from kickwheel.models.chat import Completion, Model
from kickwheel.records import Images, Message, ToolCall, ToolSpec

PROMPT = """\
Answer the last question in steps. You can use these tools:

{tools}

To use one, write these three lines and stop:
Thought: what you need to know, in one sentence
Action: the name of the tool
Input: its arguments as JSON, {{"name": value}}

You are told what came of it as an Observation, and write the next step. When you know the answer:
Thought: what you know
Answer: the answer, whole"""
"""What stands in front of the conversation; the tools take the place of `{tools}`."""

_CUT = 2000
"""Characters of a step that could not be read which the model is shown again at most."""


class React(AgentPart):
    """Thinks, acts and observes in plain text, for models that know no tool calls."""

    model: Annotated[str, Name("models")]
    """Who decides what to do, and answers."""
    tools: Annotated[tuple[str, ...], Name("tools")] = ()
    """What it can do; all tools of each entry are offered."""
    agents: Annotated[tuple[str, ...], Name("agents")] = ()
    """Other agents, each offered as a tool that takes a task and gives an answer."""
    instructions: str | None = None
    """Said first, before how to write steps."""
    prompt: Prompt = PROMPT
    """How to write steps, in your own words: `{tools}` is where the tools are listed, and `{{` a
    brace. The labels `Thought:`, `Action:`, `Input:` and `Answer:` are what is read."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens that the model may write in one step; by default what the model allows."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Reacting"]:
        """The agent at work."""
        model = context.part("models", self.model)
        yield Reacting(context.name, model, tools_of(context, self.tools, self.agents), self)


class Reacting(Worker):
    """An agent that writes its calls as text."""

    def __init__(self, name: str, model: Model, tools: Mapping[str, Tool], options: React) -> None:
        super().__init__(name, options)
        self._model = model
        self._tools = tools
        self._react = options

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What it offers to its model."""
        return tuple(tool.spec for tool in self._tools.values())

    async def work(self, run: Run) -> Finished:
        """Steps until there is an answer."""
        theirs = {tool.name for tool in run.asked.tools}
        conversation = transcript.told(run.asked.messages)
        made = sum(len(message.tool_calls) for message in run.asked.messages)
        invalid, wrong = 0, ""
        work: list[Message] = []
        while True:
            own = {name: tool for name, tool in self._tools.items() if name not in theirs}
            offered = (
                *run.asked.tools,
                *(tool.spec for tool in run.calls.offered(own).values()),
            )
            answer = await self._ask(run, conversation, offered)
            text = answer.message.content or ""
            step = transcript.read(text, offered)
            images: Images = UNSET
            said = step.text if isinstance(step, transcript.Say) else None
            if answer.finish_reason == "content_filter":
                return run.ended("filtered", Message(role="assistant", content=said))
            if answer.finish_reason == "length":
                return run.ended("length", Message(role="assistant", content=said))
            match step:
                case transcript.Say(said):
                    return run.ended("answered", Message(role="assistant", content=said))
                case transcript.Act(_, name, arguments):
                    call = ToolCall(id=f"call_{made}", name=name, arguments=arguments or "{}")
                    made += 1
                    if name in theirs:
                        handed = Message(role="assistant", tool_calls=(call,))
                        return run.ended("calls", handed, work=work)
                    (result,) = await run.call(own, [call])
                    work += result.exchange(call)
                    wrong = result.text if result.state == "invalid" else ""
                    seen, shown = step.written, f"Observation: {result.shown}"
                    images = result.images or UNSET
                case transcript.Unread(why):
                    wrong, seen = f"error: {why}", text[:_CUT]
                    shown = (
                        f"This is no step: {why}. Write Thought:, Action: and Input:, or Thought: "
                        "and Answer:, each at the beginning of a line."
                    )
            invalid = invalid + 1 if wrong else 0
            if invalid > INVALID_IN_A_ROW:
                last = wrong.removeprefix("error: ")
                raise ModelError(
                    f"{self._model.name} wrote no step that can be taken, {invalid} times in a "
                    f"row; the last time: {last}"
                )
            conversation += [
                Message(role="assistant", content=seen),
                Message(role="user", content=shown, images=images),
            ]

    async def _ask(
        self, run: Run, conversation: Sequence[Message], offered: Sequence[ToolSpec]
    ) -> Completion:
        prompt = self._react.prompt.format(tools=transcript.described(offered))
        if self._react.instructions:
            prompt = f"{self._react.instructions}\n\n{prompt}"
        request = structs.replace(
            run.asked,
            messages=(Message(role="system", content=prompt), *conversation),
            tools=(),
            tool_choice="auto",
            json_schema=None,
            grammar=transcript.grammar(offered),
            max_tokens=run.most_tokens(self._react.max_tokens),
            stop=(*run.asked.stop, transcript.STOP),
        )
        return await run.ask(self._model, request, aloud=transcript.Answering())
