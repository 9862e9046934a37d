"""`kind: tool_loop`: the model calls tools until it can answer.

    ask the model ─▶ text alone: the answer
         ▲         ─▶ calls: run them at once ─▶ their results go back to the model
         └──────────────────────────────────────┘   (or are the answer, with `answer: result`)

A call that cannot be made (broken JSON, no such tool, arguments against the schema) is told to the
model like a result, so that it can write it again; twice in a row, then the run ends with an error:
a model that fails three times will not learn it the fourth, and an answer made up in spite of it
would look like a true one.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Literal

from msgspec import structs
from pydantic import Field

from kickwheel.agents.delegate import tools_of
from kickwheel.agents.durable import because
from kickwheel.agents.events import Finished
from kickwheel.agents.output import INVALID_IN_A_ROW
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.tools import Tool, calling
from kickwheel.agents.work import Worker
from kickwheel.core.errors import ModelError, ToolError
from kickwheel.core.plugins import Context, Name
from kickwheel.models.chat import Completion, Model
from kickwheel.records import Message, ToolCall, ToolSpec


class ToolLoop(AgentPart):
    """Calls tools, as the model asks for them, until the model answers."""

    model: Annotated[str, Name("models")]
    """Who decides what to call, and answers."""
    tools: Annotated[tuple[str, ...], Name("tools")] = ()
    """What it can do; all tools of each entry are offered."""
    agents: Annotated[tuple[str, ...], Name("agents")] = ()
    """Other agents, each offered as a tool that takes a task and gives an answer."""
    instructions: str | None = None
    """System message before each conversation."""
    answer: Literal["model", "result"] = "model"
    """Who has the last word. `model`: the model reads the tools' results and answers. `result`: the
    model must call, and the results are the answer as they are; for models that were tuned to
    write a call and nothing else."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens that the model may write in one step; by default what the model allows."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Loop"]:
        """The agent at work."""
        model = context.part("models", self.model)
        yield Loop(context.name, model, tools_of(context, self.tools, self.agents), self)


class Loop(Worker):
    """An agent that calls tools in a loop."""

    def __init__(
        self, name: str, model: Model, tools: Mapping[str, Tool], options: ToolLoop
    ) -> None:
        super().__init__(name, options)
        self._model = model
        self._tools = tools
        self._loop = options

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What it offers to its model."""
        return tuple(tool.spec for tool in self._tools.values())

    async def work(self, run: Run) -> Finished:
        """Asks and calls until there is an answer."""
        theirs = {tool.name for tool in run.asked.tools}
        # Results that are the answer themselves are read by nobody who could page on, or be misled.
        reads = self._loop.answer == "model"
        run.calls.paging = reads
        conversation = [*self._instructions(), *run.asked.messages]
        before = len(conversation)
        invalid = steps = 0
        told: list[calling.Result] = []
        while True:
            # Where the caller brings a tool of the same name, it wants to make those calls itself.
            own = {name: tool for name, tool in self._tools.items() if name not in theirs}
            offered = (
                *run.asked.tools,
                *(tool.spec for tool in run.calls.offered(own).values()),
            )
            answer = await self._ask(run, conversation, offered, first=steps == 0)
            steps += 1
            message = answer.message
            if answer.finish_reason in ("length", "content_filter"):
                why: Literal["length", "filtered"] = (
                    "length" if answer.finish_reason == "length" else "filtered"
                )
                return run.ended(why, replace(message, tool_calls=()))
            if not message.tool_calls:
                return run.ended("answered", message)
            message = _with_unique_ids(message, conversation)
            wanted = tuple(call for call in message.tool_calls if call.name in theirs)
            if wanted:
                # Own calls of the same step wait: the caller sends no results of them along with
                # its own, so the model will ask for them again.
                said = replace(message, tool_calls=wanted)
                return run.ended("calls", said, work=conversation[before:])
            results = await run.call(own, message.tool_calls)
            conversation.append(replace(message, tool_calls=_readable(message, results)))
            conversation += [
                result.message(call.id, result.shown if reads else result.text)
                for call, result in zip(message.tool_calls, results, strict=True)
            ]
            told += [result for result in results if result.state != "invalid"]
            wrong = [result.text for result in results if result.state == "invalid"]
            invalid = invalid + 1 if wrong else 0
            if invalid > INVALID_IN_A_ROW:
                last = wrong[-1].removeprefix("error: ")
                raise ModelError(
                    f"{self._model.name} wrote no call that can be made, {invalid} times in a row; "
                    f"the last time: {last}"
                )
            if self._loop.answer == "result" and not wrong:
                return _result(run, told, results)

    def _instructions(self) -> tuple[Message, ...]:
        text = self._loop.instructions
        return (Message(role="system", content=text),) if text else ()

    async def _ask(
        self,
        run: Run,
        conversation: Sequence[Message],
        offered: tuple[ToolSpec, ...],
        *,
        first: bool,
    ) -> Completion:
        request = structs.replace(
            run.asked,
            messages=tuple(conversation),
            tools=offered,
            tool_choice=self._choice(run.asked.tool_choice, offered, first=first),
            max_tokens=run.most_tokens(self._loop.max_tokens),
        )
        return await run.ask(self._model, request)

    def _choice(self, asked: str, offered: tuple[ToolSpec, ...], *, first: bool) -> str:
        """What the model may do: what the caller said, but a call that it asked for is made once.

        With `answer: result` only a call can lead to an answer, so the model must make one.
        """
        if asked == "none" or not offered:
            return asked
        free = "required" if self._loop.answer == "result" else "auto"
        return free if asked == "auto" or not first else asked


def _result(run: Run, told: Sequence[calling.Result], last: Sequence[calling.Result]) -> Finished:
    """The tools' own words as the answer."""
    if all(result.state == "failed" for result in told):
        words = "\n".join(result.text.removeprefix("error: ") for result in told)
        raise ToolError(words) from because(result.failure for result in last)
    text = "\n".join(result.text for result in told)
    run.say(text)
    return run.ended("answered", Message(role="assistant", content=text))


def _with_unique_ids(message: Message, conversation: Sequence[Message]) -> Message:
    """The message with ids that name no other call: some models count from 0 in each answer."""
    seen = {call.id for earlier in conversation for call in earlier.tool_calls}
    calls: list[ToolCall] = []
    for call in message.tool_calls:
        identity, extra = call.id, len(seen)
        while identity in seen:
            identity, extra = f"call_{extra}", extra + 1
        seen.add(identity)
        calls.append(call if identity == call.id else replace(call, id=identity))
    return replace(message, tool_calls=tuple(calls))


def _readable(message: Message, results: Sequence[calling.Result]) -> tuple[ToolCall, ...]:
    """The calls as a model may see them again: many a server refuses arguments that are no JSON.

    Repaired ones stand as they were understood; the result of one that could not be repaired quotes
    what was written.
    """
    return tuple(
        replace(call, arguments=result.arguments or (call.arguments if result.json else "{}"))
        for call, result in zip(message.tool_calls, results, strict=True)
    )
