"""`kind: tool_loop`: the model calls tools until it can answer.

    ask the model ─▶ text alone: the answer
         ▲         ─▶ calls: run them at once ─▶ their results go back to the model
         └──────────────────────────────────────┘   (or are the answer, with `answer: result`)

A call that cannot be made (broken JSON, no such tool, arguments against the schema) is told to the
model like a result, so that it can write it again; twice in a row, then the run ends with an error:
a model that fails three times will not learn it the fourth, and an answer made up in spite of it
would look like a true one.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from pydantic import Field

from kickwheel.agents.events import (
    Called,
    Event,
    Finished,
    Returned,
    Tell,
    Text,
    as_it_happens,
    deltas,
)
from kickwheel.agents.tools import Tool, Toolbox, calling
from kickwheel.core.errors import ModelError, ToolError, UsageError
from kickwheel.core.plugins import Context, Name, Part
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, Collected, Completion, Delta, Model, TextDelta, Usage
from kickwheel.records import Message, ToolCall, ToolSpec, genai
from kickwheel.trace.record import OpenSpan, current, span

INVALID_IN_A_ROW = 2
"""How often in a row a model is told that its calls cannot be made."""


class ToolLoop(Part):
    """Calls tools, as the model asks for them, until the model answers."""

    model: Annotated[str, Name("models")]
    """Who decides what to call, and answers."""
    tools: Annotated[tuple[str, ...], Name("tools")] = ()
    """What it can do; all tools of each entry are offered."""
    instructions: str | None = None
    """System message before each conversation."""
    answer: Literal["model", "result"] = "model"
    """Who has the last word. `model`: the model reads the tools' results and answers. `result`: the
    model must call, and the results are the answer as they are; for models that were tuned to
    write a call and nothing else."""
    max_steps: Annotated[int, Field(gt=0)] = 8
    """Calls of the model in one run at most."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens that the model may write in one step; by default what the model allows."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for a whole run."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Loop"]:
        """The agent at work."""
        boxes = {name: context.part("tools", name) for name in self.tools}
        yield Loop(
            context.name, context.part("models", self.model), _unpacked(context.name, boxes), self
        )


class Loop:
    """An agent that calls tools in a loop; see `agents.Agent`."""

    def __init__(
        self, name: str, model: Model, tools: Mapping[str, Tool], options: ToolLoop
    ) -> None:
        self.name = name
        self._model = model
        self._tools = tools
        self._options = options

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What it offers to its model."""
        return tuple(tool.spec for tool in self._tools.values())

    def run(
        self, messages: Sequence[Message], request: ChatRequest | None = None
    ) -> AsyncGenerator[Event]:
        """What the agent does about the conversation, as it happens; see `Agent.run`."""
        asked = replace(request or ChatRequest(messages=()), messages=tuple(messages))
        return as_it_happens(lambda tell: self._work(asked, tell))

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The same as a model's answer; see `Agent.stream`."""
        return deltas(self.run(request.messages, request), self.name)

    async def _work(self, asked: ChatRequest, tell: Tell) -> None:
        options = self._options
        with _own_span(self.name) as noted:
            noted.attributes[genai.OPERATION] = "invoke_agent"
            noted.attributes[genai.AGENT_NAME] = self.name
            noted.input = asked.messages
            run = _Run(self._model, self._tools, options, asked, tell)
            try:
                async with asyncio.timeout(options.timeout_s) as clock:
                    finished = await run.steps()
            except TimeoutError:
                if not clock.expired():
                    raise
                finished = run.ended(
                    "time",
                    note=f"found no answer within {options.timeout_s:g} s; "
                    "give it more time with timeout_s",
                )
            noted.output = (finished.answer,)
            noted.attributes[genai.INPUT_TOKENS] = finished.usage.prompt_tokens
            noted.attributes[genai.OUTPUT_TOKENS] = finished.usage.output_tokens
            noted.attributes[genai.FINISH_REASONS] = [finished.why]
            tell(finished)


@dataclass(slots=True)
class _Run:
    """One conversation on its way to an answer."""

    model: Model
    tools: Mapping[str, Tool]
    options: ToolLoop
    asked: ChatRequest
    tell: Tell
    usage: Usage = field(default_factory=Usage)
    made: int = 0
    """Model calls so far."""

    def ended(
        self,
        why: Literal["answered", "calls", "length", "filtered", "steps", "time"],
        answer: Message | None = None,
        note: str = "",
    ) -> Finished:
        return Finished(
            why=why,
            answer=answer or Message(role="assistant"),
            usage=self.usage,
            steps=self.made,
            note=note,
        )

    async def steps(self) -> Finished:
        theirs = {tool.name for tool in self.asked.tools}
        # Where the caller brings a tool of the same name, it wants to make those calls itself.
        own = {name: tool for name, tool in self.tools.items() if name not in theirs}
        offered = (*self.asked.tools, *(tool.spec for tool in own.values()))
        conversation = [*self._instructions(), *self.asked.messages]
        invalid = 0
        told: list[calling.Result] = []
        while self.made < self.options.max_steps:
            answer = await self._ask(conversation, offered)
            message = answer.message
            if answer.finish_reason in ("length", "content_filter"):
                why: Literal["length", "filtered"] = (
                    "length" if answer.finish_reason == "length" else "filtered"
                )
                return self.ended(why, replace(message, tool_calls=()))
            if not message.tool_calls:
                return self.ended("answered", message)
            message = _with_unique_ids(message, conversation)
            wanted = tuple(call for call in message.tool_calls if call.name in theirs)
            if wanted:
                # Own calls of the same step wait: the caller sends no results of them along with
                # its own, so the model will ask for them again.
                return self.ended("calls", replace(message, tool_calls=wanted))
            results = await self._call(own, message.tool_calls)
            conversation.append(replace(message, tool_calls=_readable(message, results)))
            conversation += [
                Message(role="tool", content=result.text, tool_call_id=call.id)
                for call, result in zip(message.tool_calls, results, strict=True)
            ]
            told += [result for result in results if result.state != "invalid"]
            wrong = [result.text for result in results if result.state == "invalid"]
            invalid = invalid + 1 if wrong else 0
            if invalid > INVALID_IN_A_ROW:
                raise ModelError(
                    f"{self.model.name} wrote no call that can be made, {invalid} times in a row; "
                    f"the last time {wrong[-1]}"
                )
            if self.options.answer == "result" and not wrong:
                return self._result(told)
        return self.ended(
            "steps",
            note=f"found no answer in {self.made} steps; allow it more with max_steps",
        )

    def _instructions(self) -> tuple[Message, ...]:
        text = self.options.instructions
        return (Message(role="system", content=text),) if text else ()

    async def _ask(
        self, conversation: Sequence[Message], offered: tuple[ToolSpec, ...]
    ) -> Completion:
        """The model's next message; its text is told as it comes."""
        limits = [n for n in (self.asked.max_tokens, self.options.max_tokens) if n is not None]
        request = replace(
            self.asked,
            messages=tuple(conversation),
            tools=offered,
            tool_choice=self._choice(offered),
            max_tokens=min(limits, default=None),
            timeout_s=min(self.asked.timeout_s, self.options.timeout_s),
        )
        self.made += 1
        started = time.perf_counter()
        collected = Collected()
        async with aclosing(observed.stream(self.model, request)) as pieces:
            async for piece in pieces:
                collected.add(piece)
                if isinstance(piece, TextDelta) and piece.text:
                    self.tell(Text(piece.text))
        completion = collected.completion(started)
        self.usage = Usage(
            prompt_tokens=self.usage.prompt_tokens + completion.usage.prompt_tokens,
            output_tokens=self.usage.output_tokens + completion.usage.output_tokens,
            cached_tokens=self.usage.cached_tokens + completion.usage.cached_tokens,
            estimated=self.usage.estimated or completion.usage.estimated,
        )
        return completion

    def _choice(self, offered: tuple[ToolSpec, ...]) -> str:
        """What the model may do: what the caller said, but a call that it asked for is made once.

        With `answer: result` only a call can lead to an answer, so the model must make one.
        """
        choice = self.asked.tool_choice
        if choice == "none" or not offered:
            return choice
        free = "required" if self.options.answer == "result" else "auto"
        return free if choice == "auto" or self.made > 0 else choice

    async def _call(
        self, own: Mapping[str, Tool], calls: Sequence[ToolCall]
    ) -> list[calling.Result]:
        """The results of all calls, made at once, in the order of the calls."""
        for call in calls:
            self.tell(Called(call))

        async def one(call: ToolCall) -> calling.Result:
            result = await calling.call(own, call)
            self.tell(Returned(call, result.text, result.state))
            return result

        if len(calls) == 1:
            return [await one(calls[0])]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(call)) for call in calls]
        return [task.result() for task in tasks]

    def _result(self, told: Sequence[calling.Result]) -> Finished:
        """The tools' own words as the answer."""
        if all(result.state == "failed" for result in told):
            raise ToolError("\n".join(result.text.removeprefix("error: ") for result in told))
        text = "\n".join(result.text for result in told)
        self.tell(Text(text))
        return self.ended("answered", Message(role="assistant", content=text))


def _unpacked(agent: str, boxes: Mapping[str, Toolbox]) -> dict[str, Tool]:
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

    The result of such a call quotes what was written.
    """
    return tuple(
        replace(call, arguments="{}") if result.state == "invalid" and not result.json else call
        for call, result in zip(message.tool_calls, results, strict=True)
    )


def _own_span(name: str) -> AbstractContextManager[OpenSpan]:
    """The agent's span: the one that is open for it already, as at the root of a trace, or new."""
    outer = current()
    if outer is not None and outer.kind == "agent" and outer.name == name and not outer.input:
        return nullcontext(outer)
    return span("agent", name)
