"""What all kinds of agents share around their work.

Worker.run ─▶ a span, a deadline, a kept run ─▶ work(run) of the kind ─▶ the form ─▶ Finished
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import ClassVar

from msgspec import structs

from kickwheel.agents.caller import caller
from kickwheel.agents.durable import Waiting
from kickwheel.agents.events import (
    Asked,
    Event,
    Finished,
    Tell,
    Text,
    as_it_happens,
    deltas,
    when_all_is_done,
)
from kickwheel.agents.keeper import Keeper
from kickwheel.agents.memory import Memory
from kickwheel.agents.output import Output, formed
from kickwheel.agents.preview import looking
from kickwheel.agents.run import RUNNING, AgentPart, Run, Spent, running
from kickwheel.agents.tools import calling
from kickwheel.core.errors import ModelError
from kickwheel.models import pictures
from kickwheel.models.chat import ChatRequest, Delta
from kickwheel.records import Message, genai
from kickwheel.trace.record import OpenSpan, current, span


class Worker:
    """What all agents share; a kind says what it does in `work`. See `events.Agent`."""

    words_only: ClassVar[bool] = False
    """Whether it takes words alone from its callers, neither tools nor pictures."""

    def __init__(self, name: str, options: AgentPart) -> None:
        self.name = name
        self.description = options.description
        self.keeper: Keeper | None = None
        """What keeps its runs, so that they survive the program."""
        self.memory: Memory | None = None
        """What it remembers."""
        self.trusted: bool | None = True
        """Whether its answers are ours; see `agents.tools.Limits.trusted`."""
        self._options = options

    @property
    def formed(self) -> bool:
        """Whether its answers are JSON of a schema."""
        return self._options.output is not None

    async def work(self, run: Run) -> Finished:
        """What this kind does about `run.asked`.

        Raises:
            ModelError: a model did not answer, or not in a way that can be used.
            ToolError: a tool whose result should have been the answer failed.
        """
        raise NotImplementedError

    def run(
        self, messages: Sequence[Message], request: ChatRequest | None = None
    ) -> AsyncGenerator[Event]:
        """What the agent does about the conversation, as it happens; see `events.Agent.run`."""
        asked = structs.replace(request or ChatRequest(messages=()), messages=tuple(messages))
        told = when_all_is_done if asked.whole else as_it_happens
        return told(lambda tell: self._noted(asked, tell))

    def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The same as a model's answer; see `events.Agent.stream`."""
        return deltas(self.run(request.messages, request), self.name)

    async def _noted(self, asked: ChatRequest, tell: Tell) -> None:
        wanted = self._options.output
        if asked.json_schema is not None and (
            wanted is None or asked.json_schema != wanted.schema  # As a resumed run has it.
        ):
            wanted = Output(asked.json_schema)
        elif wanted is not None:
            asked = structs.replace(asked, json_schema=wanted.schema)
        with _own_span(self.name) as noted:
            noted.attributes[genai.OPERATION] = "invoke_agent"
            noted.attributes[genai.AGENT_NAME] = self.name
            noted.input = asked.messages
            outer = running()
            calls = calling.Calls(self._options.untrusted, None if outer is None else outer.calls)
            if outer is None:  # What an agent of ours brought in, it noted itself.
                calls.flow.started_with(asked.messages)
            # What must have a form is said when it has it.
            told = tell if wanted is None else partial(_wordless, tell)
            run = Run(self.name, asked, told, self._options, outer, calls=calls, memory=self.memory)
            before = RUNNING.set(run)
            try:
                finished = await self._kept(run, wanted)
            finally:
                RUNNING.reset(before)
                # It holds the run, as the run holds it: left to the collector they are costly.
                run.again = None
            if wanted is not None and finished.answer.content:
                tell(Text(finished.answer.content))
            noted.output = (finished.answer,)
            noted.attributes[genai.INPUT_TOKENS] = finished.usage.prompt_tokens
            noted.attributes[genai.OUTPUT_TOKENS] = finished.usage.output_tokens
            noted.attributes[genai.FINISH_REASONS] = [finished.why]
            tell(finished)

    async def _kept(self, run: Run, wanted: Output | None) -> Finished:
        """The end of the work, kept step by step where it is nobody else's."""
        if self.keeper is None or run.outer is not None or looking():
            return await self._within(run, wanted)
        who = caller()
        spoken = _Heard(run.tell)
        if who.key or who.run:
            run.tell = spoken
        try:
            finished = await self.keeper.run(
                lambda: self._within(run, wanted),
                Finished,
                agent=self.name,
                asked=structs.replace(run.asked, whole=False),
                key=who.key,
                identity=who.run,
            )
            if run.tell is spoken and not spoken.words and finished.answer.content:
                # It was said to somebody else: before, or at the same time.
                run.say(finished.answer.content)
            return finished
        except Waiting as waiting:
            for question in waiting.questions:
                run.tell(Asked(question.text, question.choices))
            return replace(run.ended("waiting", note=str(waiting)), run=waiting.run)

    async def _within(self, run: Run, wanted: Output | None) -> Finished:
        """The end of the work, or of its time or budget."""
        try:
            async with asyncio.timeout(self._options.timeout_s) as clock:
                if self.words_only:
                    self._check_words(run.asked)
                finished = await self.work(run)
                if wanted is not None:
                    finished = await formed(run, finished, wanted)
                if finished.why == "answered":
                    await run.remember(finished.answer)
                return finished
        except TimeoutError:
            if not clock.expired():
                raise
            seconds = self._options.timeout_s
            note = f"found no answer within {seconds:g} s; give it more time with timeout_s"
            return run.ended("time", note=note)
        except Spent as spent:
            if spent.run is not run:
                raise
            return run.ended(spent.why, note=spent.note)

    def _check_words(self, asked: ChatRequest) -> None:
        if asked.tools:
            told = f"{self.name} takes no tools from its callers"
            raise ModelError(told, status=400, again=False)
        pictures.check(self, asked.messages)


class _Heard:
    """Tells, and knows whether words were among it."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.words = False

    def __call__(self, event: Event) -> None:
        self.words = self.words or isinstance(event, Text)
        self._tell(event)


def _wordless(tell: Tell, event: Event) -> None:
    if not isinstance(event, Text):
        tell(event)


def _own_span(name: str) -> AbstractContextManager[OpenSpan]:
    """The agent's span: the one that is open for it already, as at the root of a trace, or new."""
    outer = current()
    if outer is not None and outer.kind == "agent" and outer.name == name and not outer.input:
        return nullcontext(outer)
    return span("agent", name)
