"""One run of an agent: what its kind works with.

A model that is asked, a call of a tool, work that is handed over: each is a step of the kept run,
an entry in the trace, a charge on the budgets of this agent and of all that it works for, and
events for whoever reads along.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, TypeVar

from msgspec import structs
from pydantic import BaseModel, ConfigDict, Field

from kickwheel.agents.durable import steps
from kickwheel.agents.events import (
    SPENT,
    WHY,
    Agent,
    Called,
    Finished,
    Returned,
    Tell,
    Text,
    Why,
)
from kickwheel.agents.memory import Memory, leaves_out
from kickwheel.agents.output import Wanted
from kickwheel.agents.preview import Reached, harmless, looking
from kickwheel.agents.tools import Tool, calling
from kickwheel.agents.tools.flow import Untrusted
from kickwheel.core.errors import ModelError
from kickwheel.core.plugins import Name, Part
from kickwheel.models import observed, pictures
from kickwheel.models.chat import ChatRequest, Collected, Completion, Model, TextDelta, Usage
from kickwheel.records import Message, ToolCall

T = TypeVar("T")


class Budget(BaseModel):
    """What one run may use up, its own agents' share included."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens read and written in all model calls together."""
    cost_usd: Annotated[float, Field(gt=0)] | None = None
    """US dollars, where the models' prices are known."""


class AgentPart(Part):
    """The options that all kinds of agents share."""

    description: str = ""
    """What it is good at: told to whoever may choose it."""
    max_steps: Annotated[int, Field(gt=0)] = 8
    """Calls of models in one run at most, those of the agents that it hands work to included."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds for a whole run; waiting for a person does not count."""
    budget: Budget = Budget()
    """What else a run may use up."""
    untrusted: Untrusted = "allow"
    """What it may do once results that nobody vouches for have entered its conversation (tools that
    are not `trusted`). `allow`: everything. `confirm`: a person must say yes to each call with
    effects. `forbid`: no calls with effects."""
    memory: Annotated[tuple[str, ...], Name("memory")] = ()
    """What it remembers of conversations; several together, those that add before one that cuts."""
    output: Wanted = None
    """What the answer must be: JSON of a schema. The JSON Schema itself, a file of one beside the
    app, or a Pydantic model, `package.module:Model`. By default whatever the agent says."""


class Spent(Exception):
    """A budget is used up; ends the run that it belongs to."""

    def __init__(self, run: "Run", why: Why, note: str) -> None:
        super().__init__(note)
        self.run, self.why, self.note = run, why, note


@dataclass(slots=True)
class Run:
    """One conversation on its way to an answer."""

    name: str
    """The agent's."""
    asked: ChatRequest
    """What the caller asked for."""
    tell: Tell
    options: AgentPart
    outer: "Run | None" = None
    """The run that handed this work over."""
    usage: Usage = field(default_factory=Usage)
    made: int = 0
    """Model calls so far."""
    cost_usd: float = 0.0
    calls: calling.Calls = field(default_factory=calling.Calls)
    """What its tool calls have in common: what they brought in, and what is kept of it."""
    memory: Memory | None = None
    """What the agent remembers."""
    conversation: tuple[Message, ...] = ()
    """As it was when a model was asked last, without what the memory made of it."""
    again: "Again | None" = None
    """Asks whoever said something last to say it in another form."""
    formed: bool = False
    """Whether they were told of the form that is wanted."""

    async def ask(
        self,
        model: Model,
        request: ChatRequest,
        *,
        aloud: bool | Callable[[str], str] = True,
    ) -> Completion:
        """What the model answers; a step of the run.

        Args:
            aloud: whether its text is part of what the agent says, told piece by piece; or what
                of a piece is.
        Raises:
            ModelError: the model did not answer.
            Spent: a budget was used up before.
        """
        if request.tools and request.tool_choice != "none" and request.json_schema is not None:
            # A grammar of the answer would let no call pass; the last answer is read when it is
            # there.
            request = structs.replace(request, json_schema=None)
        self.begin()
        self.again = partial(self._ask_again, model, request)
        self.formed = request.json_schema is not None
        request = structs.replace(
            request,
            messages=pictures.few(request.messages),
            timeout_s=min(request.timeout_s, self.options.timeout_s),
            whole=request.whole or not aloud,
        )
        request = await self._remembered(model, request)
        if looking():
            raise Reached(model, request)
        told = False

        async def do() -> Completion:
            nonlocal told
            if request.whole:
                return await observed.complete(model, request)
            told = True
            started = time.perf_counter()
            collected = Collected()
            async with aclosing(observed.stream(model, request)) as pieces:
                async for piece in pieces:
                    collected.add(piece)
                    if aloud and isinstance(piece, TextDelta):
                        self.say(aloud(piece.text) if callable(aloud) else piece.text)
            return collected.completion(started)

        # How it comes changes nothing in the answer.
        same = structs.replace(request, whole=False) if request.whole else request
        completion = await steps().step(f"model {model.name}", same, do, Completion)
        if aloud and not told:
            text = completion.message.content or ""
            self.say(aloud(text) if callable(aloud) else text)
        self.charge(completion.usage, observed.cost_usd(model, completion.usage) or 0.0)
        return completion

    async def call(
        self, tools: Mapping[str, Tool], calls: Sequence[ToolCall], *, at: str = ""
    ) -> list[calling.Result]:
        """The results of all calls, made at once, in the order of the calls; each is a step.

        Args:
            at: name of the place of one call, where the order in which calls begin hangs on time.
        """
        prepared = [calling.prepare(tools, call, self.calls) for call in calls]
        if looking():
            harmless(tools, calls)
        for call in calls:
            self.tell(Called(call))

        async def one(ready: calling.Prepared) -> calling.Result:
            result = await ready.make(at=at)
            self.tell(Returned(ready.asked, result.text, result.state))
            return result

        if len(prepared) == 1:
            return [await one(prepared[0])]
        return await together([partial(one, ready) for ready in prepared])

    async def hand(
        self,
        agent: Agent,
        messages: Sequence[Message],
        request: ChatRequest | None = None,
        *,
        aloud: bool = False,
    ) -> Finished:
        """What another agent, or a model, makes of the conversation; a step of the run.

        Its tool calls are told as they happen, its words only `aloud`.

        Args:
            request: what else it is asked for: tools of the caller, limits.
        """
        told = False
        self.again = partial(self._hand_again, agent, messages, request)
        self.formed = request is not None and request.json_schema is not None

        async def do() -> Finished:
            nonlocal told
            told = True
            run = getattr(agent, "run", None)
            if run is None:
                asked = structs.replace(
                    request or ChatRequest(messages=()), messages=tuple(messages)
                )
                return await self._as_agent(agent, asked, aloud)
            async with aclosing(run(messages, request)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        return event
                    if aloud or not isinstance(event, Text):
                        self.tell(event)
            raise AssertionError("the last event of an agent is Finished")

        finished = await steps().step(f"agent {agent.name}", tuple(messages), do, Finished)
        if aloud and not told and finished.answer.content:
            self.tell(Text(finished.answer.content))
        return finished

    async def step(
        self,
        name: str,
        arguments: Any,
        do: Callable[[], Awaitable[T]],
        kind: type[T],
        *,
        at: str = "",
    ) -> T:
        """The result of `do`, whose own steps lie below this one: for branches that run at once.

        Args:
            arguments: all that the result depends on, as records or plain values.
            kind: type of the result, a record or plain value.
            at: name of its place, where the order in which steps begin hangs on time.
        """
        return await steps().step(name, arguments, do, kind, at=at)

    def most_tokens(self, own: int | None) -> int | None:
        """Tokens of one answer at most, of what the caller allows and the agent's `own`."""
        return min((n for n in (self.asked.max_tokens, own) if n is not None), default=None)

    def say(self, text: str) -> None:
        """Tells the text as part of the answer."""
        if text:
            self.tell(Text(text))

    def ended(
        self,
        why: Why,
        answer: Message | None = None,
        note: str = "",
        work: Sequence[Message] = (),
    ) -> Finished:
        """The end of the run; see `Finished`."""
        return Finished(
            why=why,
            answer=answer or Message(role="assistant"),
            usage=self.usage,
            steps=self.made,
            note=note,
            work=tuple(work),
        )

    def begin(self) -> None:
        """Counts a model call, where all whom it is made for can afford it.

        Raises:
            Spent: one of them cannot.
        """
        for run in self._all():
            why = run._spent()
            if why is not None:
                raise why
        for run in self._all():
            run.made += 1
        self.calls.repeats.turn += 1

    def charge(self, usage: Usage, cost_usd: float = 0.0) -> None:
        """Charges what a model call used on all whom it was made for."""
        for run in self._all():
            run.usage = run.usage + usage
            run.cost_usd += cost_usd

    async def _as_agent(self, model: Model, asked: ChatRequest, aloud: bool) -> Finished:
        answer = await self.ask(model, asked, aloud=aloud)
        return Finished(
            why=WHY[answer.finish_reason], answer=answer.message, usage=answer.usage, steps=1
        )

    async def _ask_again(
        self,
        model: Model,
        request: ChatRequest,
        more: Sequence[Message],
        schema: Mapping[str, Any],
    ) -> tuple[str, Message]:
        request = structs.replace(
            request,
            messages=(*request.messages, *more),
            tool_choice="none" if request.tools else request.tool_choice,
            json_schema=schema,
            labels=(),
            grammar=None,
            stop=(),
        )
        completion = await self.ask(model, request, aloud=False)
        return completion.finish_reason, completion.message

    async def _hand_again(
        self,
        agent: Agent,
        messages: Sequence[Message],
        request: ChatRequest | None,
        more: Sequence[Message],
        schema: Mapping[str, Any],
    ) -> tuple[str, Message]:
        request = structs.replace(request or ChatRequest(messages=()), json_schema=schema)
        finished = await self.hand(agent, (*messages, *more), request)
        return finished.why, answered(agent.name, finished)

    async def _remembered(self, model: Model, request: ChatRequest) -> ChatRequest:
        """The request with what the memory makes of its conversation; a step of the run."""
        memory = self.memory
        if memory is None:
            return request
        self.conversation = request.messages

        async def do() -> tuple[Message, ...]:
            return await memory.before(
                request.messages, agent=self.name, model=model, tools=request.tools
            )

        name = f"memory {memory.name}"
        messages = await steps().step(name, request.messages, do, tuple[Message, ...])
        tools = request.tools
        if self.calls.paging and leaves_out(messages):
            self.calls.beside = {tool.spec.name: tool for tool in memory.tools}
            if tools:
                offered = {tool.name for tool in tools}
                more = (tool.spec for tool in memory.tools)
                tools = (*tools, *(spec for spec in more if spec.name not in offered))
        return structs.replace(request, messages=messages, tools=tools)

    async def remember(self, answer: Message) -> None:
        """Lets the memory keep what is worth it of the finished run; a step of the run."""
        memory, conversation = self.memory, self.conversation
        if memory is None or not conversation:
            return

        async def do() -> bool:
            await memory.after(conversation, answer, agent=self.name)
            return True

        name = f"memory {memory.name}"
        await steps().step(name, (conversation, answer), do, bool, effects="repeatable")

    def _spent(self) -> Spent | None:
        options, budget = self.options, self.options.budget
        if self.made >= options.max_steps:
            note = f"found no answer in {self.made} steps; allow it more with max_steps"
            return Spent(self, "steps", note)
        tokens = self.usage.prompt_tokens + self.usage.output_tokens
        if budget.tokens is not None and tokens >= budget.tokens:
            note = f"used up its {budget.tokens:,} tokens; allow it more with budget.tokens"
            return Spent(self, "tokens", note)
        if budget.cost_usd is not None and self.cost_usd >= budget.cost_usd:
            note = f"used up its {budget.cost_usd:g} dollars; allow it more with budget.cost_usd"
            return Spent(self, "cost", note)
        return None

    def _all(self) -> Iterator["Run"]:
        """This run and all that it works for."""
        run: Run | None = self
        while run is not None:
            yield run
            run = run.outer


Again = Callable[[Sequence[Message], Mapping[str, Any]], Awaitable[tuple[str, Message]]]
"""Asks with further messages for JSON of a schema: why the answer ended, and the answer."""

RUNNING: ContextVar[Run | None] = ContextVar("kickwheel_run", default=None)
"""Set by whoever begins a run (`work.py`)."""


def running() -> Run | None:
    """The innermost run that goes on here."""
    return RUNNING.get()


async def together(works: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """The results of all works, done at once, in their order; each should be one step of the run.

    One that fails ends the others.
    """

    async def one(work: Callable[[], Awaitable[T]]) -> T:
        return await work()

    tasks = [asyncio.create_task(one(work)) for work in works]
    try:
        pending = set(tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            failed = [error for task in done if (error := task.exception())]
            if failed:
                raise failed[0]
        return [task.result() for task in tasks]
    finally:
        left = {task for task in tasks if not task.done()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


def answered(agent: str, finished: Finished) -> Message:
    """The answer of an agent that another one works with.

    Raises:
        ModelError: there is none; the text says why.
    """
    if finished.answer.content or finished.answer.tool_calls or finished.why == "answered":
        return finished.answer
    if finished.why in SPENT:
        raise ModelError(f"{agent} {finished.note}", status=504)
    reasons = {"length": "its tokens ran out", "filtered": "its answer was withheld"}
    raise ModelError(f"{agent} gave no answer: {reasons.get(finished.why, finished.why)}")
