"""`kind: human`: a person answers, and the run waits for them, for days if need be.

Alone it is a conversation with somebody; as an agent of another one (`agents: [expert]`) it is a
question that the other one asks when it does not know. A waiting run holds no memory: it is in the
store, and goes on by `kickwheel answer RUN "…"` or `POST /v1/runs/{id}/answer`.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pydantic import Field

from kickwheel.agents.durable import person
from kickwheel.agents.events import Finished
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.work import Worker
from kickwheel.core.plugins import Context
from kickwheel.records import Message


class Human(AgentPart):
    """A person, who is asked and waited for."""

    question: str = "{question}"
    """What the person reads; `{question}` is what was asked last."""
    choices: tuple[str, ...] = Field(default=())
    """What they may answer; anything where there are none."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Person"]:
        """The agent at work."""
        yield Person(context.name, self)


class Person(Worker):
    """An agent whose answers come from a person."""

    words_only = True

    def __init__(self, name: str, options: Human) -> None:
        super().__init__(name, options)
        self._human = options

    async def work(self, run: Run) -> Finished:
        """Asks, and ends for now where nobody has answered."""
        said = (m.content or "" for m in reversed(run.asked.messages) if m.role == "user")
        question = self._human.question.replace("{question}", next(said, ""))
        answer = await person(question, self._human.choices)
        run.say(answer)
        return run.ended("answered", Message(role="assistant", content=answer))
