"""One call at work: a run of an agent, or a tool within its limits.

A run that asks a person is kept: it waits for the answer, and nothing that it did is done again. A
tool that asks is called anew with the answer, as the protocol has it; so it should ask first.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp_types import CallToolRequestParams, InputRequiredResult

from kickwheel.agents.durable import STEPS, Unkept
from kickwheel.agents.events import Called, Chosen, Event, Finished, Returned
from kickwheel.agents.offered import Offered, OfferedAgent
from kickwheel.app import App
from kickwheel.core.errors import ModelError
from kickwheel.core.journal import Question
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import ChatRequest
from kickwheel.records import wire
from kickwheel.serve.mcp.person import Person, Unanswered, answers, asked, read

Context = ServerRequestContext[Any, Any]


class UnknownState(Exception):
    """The state that a client sent back leads to nothing of this caller's."""

    def __init__(self) -> None:
        super().__init__("this requestState is none that was given for this call, or it is too old")


async def agent(
    app: App, one: OfferedAgent, params: CallToolRequestParams, context: Context, who: Caller
) -> str | InputRequiredResult:
    """What the agent answers, or what it asks first.

    Raises:
        UnknownState: no run of this caller goes on.
        Unanswered: the person gave no answer; the run has ended.
        KickwheelError: the agent has no answer.
    """
    person = Person(context)
    messages = one.question(params.arguments or {})
    run = params.request_state or ""
    if run:
        await _answer(app, one, run, params.input_responses, who)
    while True:
        finished = await _run(app, one, messages, context, replace(who, run=run))
        if finished.why != "waiting":
            return _words(one, finished)
        run = finished.run
        questions = await app.keeper.questions(run)
        if not person.there:
            raise Unanswered(
                f"{finished.note}. This client cannot ask anybody: `kickwheel answer {run[:12]}` "
                f"or POST /v1/runs/{run}/answer goes on with it"
            )
        if person.comes_back:
            return asked(questions, run)
        try:
            for question in questions:
                await app.keeper.answer(run, await person.ask(question), question.path)
        except Exception:
            await app.keeper.cancel(run)
            raise


async def tool(
    one: Offered, params: CallToolRequestParams, context: Context
) -> str | InputRequiredResult:
    """What the tool says, or what it asks first.

    Raises:
        UnknownState: the state is none of ours.
        ToolError: it failed, or a person said no.
    """
    person = Person(context)
    known = _known(params.request_state)
    asking = _Asking(person, known, params.input_responses or {})
    outside = STEPS.set(asking)
    try:
        call = asyncio.create_task(one.call(params.arguments or {}))
    finally:
        STEPS.reset(outside)
    waits = asyncio.create_task(asking.wanted.wait())
    try:
        await asyncio.wait({call, waits}, return_when=asyncio.FIRST_COMPLETED)
        if call.done():
            return call.result()
        return asked(asking.questions, json.dumps(asking.known))
    finally:
        for task in (call, waits):
            task.cancel()
        await asyncio.wait({call, waits})


async def _run(
    app: App, one: OfferedAgent, messages: list[Any], context: Context, who: Caller
) -> Finished:
    name = one.agent.name
    watched = context.meta is not None and context.meta.get("progress_token") is not None
    request = ChatRequest(messages=tuple(messages), whole=not watched)
    number = 0
    with acting_for(who), app.recorder.trace(name, name) as root:
        async with aclosing(one.agent.run(messages, request)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Finished):
                    root.input, root.output = tuple(messages), (event.answer,)
                    return event
                if watched and (said := _said(event)):
                    number += 1
                    await context.session.report_progress(number, None, said)
    raise AssertionError("the last event of an agent is Finished")


def _said(event: Event) -> str:
    """The event in a few words; arguments and results are the agent's business."""
    match event:
        case Called(call):
            return f"calls {call.name}"
        case Returned(call, state=state):
            return f"{call.name}: {state}"
        case Chosen(agent=name):
            return f"{name} goes on"
    return ""


def _words(one: OfferedAgent, finished: Finished) -> str:
    text = finished.answer.content or ""
    if not text and finished.why != "answered":
        note = finished.note or f"gave no answer: {finished.why}"
        raise ModelError(f"{one.spec.name} {note}")
    return text


async def _answer(
    app: App, one: OfferedAgent, run: str, given: Mapping[str, Any] | None, who: Caller
) -> None:
    """Gives the run what the client brought."""
    found = await app.keeper.find(run)
    if found is None or (found.agent, found.asker, found.tenant) != (
        one.agent.name,
        who.user,
        who.tenant,
    ):
        raise UnknownState
    questions = await app.keeper.questions(run)
    try:
        said = answers(given, questions)
    except Unanswered:
        await app.keeper.cancel(run)
        raise
    for question in questions:
        if question.path in said:
            await app.keeper.answer(run, said[question.path], question.path)


class _Asking(Unkept):
    """Steps of a call that nobody keeps, whose person sits at the client's end."""

    def __init__(self, person: Person, known: dict[str, str], given: Mapping[str, Any]) -> None:
        self._person = person
        self._given = given
        self.known = known
        """What was answered in earlier rounds and in this one, by question."""
        self.questions: list[Question] = []
        self.wanted = asyncio.Event()

    async def person(self, question: str, choices: tuple[str, ...] = ()) -> str:
        """What the person answers; where that ends the call, it never comes back."""
        key = wire.digest((question, choices))[:16]
        if key in self.known:
            return self.known[key]
        one = Question(run="", path=key, text=question, choices=choices, asked=time.time())
        if not self._person.there:
            raise Unanswered(f"a person must be asked «{question}», and this client cannot ask")
        if not self._person.comes_back:
            return await self._person.ask(one)
        if key in self._given:
            self.known[key] = read(one, self._given[key])
            return self.known[key]
        self.questions.append(one)
        self.wanted.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("the call has ended")


def _known(state: str | None) -> dict[str, str]:
    try:
        known = json.loads(state or "{}")
    except (ValueError, RecursionError):
        raise UnknownState from None
    if not isinstance(known, dict) or not all(isinstance(said, str) for said in known.values()):
        raise UnknownState
    return known
