"""Runs of agents that outlive the program that began them."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.events import Finished
from kickwheel.agents.work import Worker
from kickwheel.app.check import check_app
from kickwheel.app.opening import App, open_app
from kickwheel.core.errors import UsageError
from kickwheel.core.journal import KeptRun, Question, RunState
from kickwheel.core.store import Store, open_store
from kickwheel.models.chat import ChatRequest
from kickwheel.records import wire


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a run of an agent stands."""

    id: str
    agent: str
    state: RunState
    questions: tuple[Question, ...] = ()
    """What persons are asked before it goes on."""
    answer: str = ""
    """Of a run that is done."""
    error: str | None = None
    """Why it failed."""
    created: float = 0.0
    """Unix time, seconds, here and below."""
    updated: float = 0.0


def runs(app: Path, *, limit: int = 50) -> list[Standing]:
    """The runs of an app's agents in which something happened last, newest first."""
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        return [standing(store, run) for run in store.runs.recent(limit)]


def answer(app: Path, run: str, text: str, *, question: str = "") -> Standing:
    """Gives a person's answer to a run that waits for it, and goes on with the run.

    Args:
        run: its id, or how the only one begins.
        question: the path of what is answered, where the run asks several things.
    Raises:
        UsageError: there is no such run, it asks nothing, or this is none of the choices.
    """
    if not text.strip():
        raise UsageError("the answer is empty. Give it in words, or as one of the choices")
    return asyncio.run(_gone_on(app, run, text, question))


def resume(app: Path, run: str) -> Standing:
    """Goes on with a run that its program left, that failed, or that was cancelled.

    Raises:
        UsageError: there is no such run.
    """
    return asyncio.run(_gone_on(app, run))


def cancel(app: Path, run: str) -> Standing:
    """Ends a run, wherever it goes on.

    Raises:
        UsageError: there is no such run, or it has ended.
    """
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        found = store.runs.named(run)
        if not store.runs.cancel(found.id):
            raise UsageError(f"run {found.id} has ended already: {found.state}")
        return standing(store, store.runs.named(found.id))


async def _gone_on(app: Path, run: str, text: str = "", question: str = "") -> Standing:
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        found = store.runs.named(run)
        if text:
            store.runs.answer(found.id, text, question)
    async with open_app(plan, only=[found.agent]) as opened:
        await resumed(opened, found)
        return standing(opened.store, opened.store.runs.named(found.id))


async def resumed(app: App, run: KeptRun) -> Finished:
    """Goes on with an agent's run that another program left, or that waited for a person.

    Raises:
        UsageError: the app has no such agent any more.
    """
    agent = app.live.get(("agents", run.agent))
    if not isinstance(agent, Worker):
        raise UsageError(
            f'run {run.id} belongs to an agent "{run.agent}" that is not in this app any more: '
            f"`kickwheel cancel {run.id}` ends it"
        )
    asked = wire.from_bytes(run.asked, ChatRequest)
    who = Caller(user=run.asker, tenant=run.tenant, run=run.id)
    with acting_for(who), app.recorder.trace(agent.name, agent.name):
        async for event in agent.run(asked.messages, asked):
            if isinstance(event, Finished):
                return event
    raise AssertionError("the last event of an agent is Finished")


def standing(store: Store, run: KeptRun) -> Standing:
    """How the run stands."""
    done = wire.from_bytes(run.result, Finished) if run.result else None
    questions = tuple(store.runs.questions(run.id)) if run.state == "waiting" else ()
    # Once all is answered, whoever works here next goes on with it.
    answered = run.state == "waiting" and not questions
    return Standing(
        id=run.id,
        agent=run.agent,
        state="running" if answered else run.state,
        questions=questions,
        answer=(done.answer.content or "") if done else "",
        error=run.error,
        created=run.created,
        updated=run.updated,
    )
