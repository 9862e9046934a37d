"""`kind: router`: chooses one of several agents, which answers.

    rules ─▶ a pattern fits: that agent
      └────▶ a model, or examples by their likeness ─▶ the nearest agent
                                       └────▶ nothing is near: `otherwise`

Each choice is a span of its own: a question with the chosen name as its answer. So whatever chooses
today leaves the traffic from which `flywheel: {agent: …, model: …}` makes a small model that
chooses tomorrow.
"""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kickwheel.agents.events import Agent, Chosen, Finished
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.work import Worker
from kickwheel.core.errors import MissingExtra, ModelError
from kickwheel.core.plugins import Context, Name
from kickwheel.models import embedding
from kickwheel.models.chat import ChatRequest, Model
from kickwheel.models.pictures import sees, without
from kickwheel.records import Message, genai
from kickwheel.trace.record import span

NEAR = 0.25
"""Cosine to the nearest example below which a question is like none of them."""


class Rule(BaseModel):
    """One pattern and who answers where it fits."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    match: str
    """Regular expression, looked for in the last question without regard to case."""
    agent: Annotated[str, Name("agents")]
    """Who answers then."""

    @field_validator("match")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return pattern


class Router(AgentPart):
    """Chooses one of several agents, which answers."""

    agents: Annotated[tuple[str, ...], Name("agents"), Field(min_length=2)]
    """Who may be chosen; a model is told their descriptions."""
    model: Annotated[str | None, Name("models")] = None
    """Who chooses, by writing the name of an agent and nothing else."""
    rules: tuple[Rule, ...] = ()
    """Looked at first, in this order."""
    examples: Mapping[str, tuple[str, ...]] = {}
    """Questions for each agent: the agent of the most alike one is chosen, by embeddings."""
    otherwise: Annotated[str | None, Name("agents")] = None
    """Who answers where nothing else decides; without, that is an error."""
    max_steps: Annotated[int, Field(gt=0)] = 64
    """Calls of models in one run at most, those of the chosen agent included."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for a whole run; waiting for a person does not count."""

    @model_validator(mode="after")
    def _decides(self) -> "Router":
        if self.model is not None and self.examples:
            raise ValueError("either a model chooses or examples do: name one of them")
        if self.model is None and not self.examples and not (self.rules and self.otherwise):
            raise ValueError(
                "nothing chooses: name a model, give examples, or rules and an otherwise"
            )
        named = [*(rule.agent for rule in self.rules), *self.examples]
        named += [self.otherwise] if self.otherwise else []
        for agent in named:
            if agent not in self.agents:
                raise ValueError(f'"{agent}" is not among its agents: {", ".join(self.agents)}')
        return self

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Routing"]:
        """The agent at work."""
        agents = {name: context.part("agents", name) for name in self.agents}
        model = context.part("models", self.model) if self.model else None
        yield Routing(context.name, agents, model, self)


class Routing(Worker):
    """An agent that lets another one answer."""

    def __init__(
        self, name: str, agents: Mapping[str, Agent], model: Model | None, options: Router
    ) -> None:
        super().__init__(name, options)
        self._agents = agents
        self._model = model
        self._router = options
        self._told = told(
            {agent: getattr(live, "description", "") for agent, live in agents.items()}
        )
        self._rules = [(re.compile(r.match, re.IGNORECASE), r.agent) for r in options.rules]
        self._known = [(text, agent) for agent, own in options.examples.items() for text in own]
        if self._known and embedding.embed([self._known[0][0]]) is None:
            raise MissingExtra("choosing by examples", "curate")

    async def work(self, run: Run) -> Finished:
        """Chooses, and hands over."""
        chosen = await self._choose(run)
        run.tell(Chosen(chosen, self.name))
        finished = await run.hand(self._agents[chosen], run.asked.messages, run.asked, aloud=True)
        return run.ended(finished.why, finished.answer, finished.note, finished.work)

    async def _choose(self, run: Run) -> str:
        conversation = tuple(m for m in run.asked.messages if m.role in ("user", "assistant"))
        question = next((m.content or "" for m in reversed(conversation) if m.role == "user"), "")
        for pattern, agent in self._rules:
            if pattern.search(question):
                return self._note("rules", conversation, agent)
        if self._model is not None:
            return await self._asked(run, self._model, conversation)
        if self._known:
            near = self._nearest(question)
            if near is not None:
                return self._note("examples", conversation, near)
        return self._note("otherwise", conversation, self._without())

    async def _asked(self, run: Run, model: Model, conversation: Sequence[Message]) -> str:
        request = ChatRequest(
            messages=(
                Message(role="system", content=self._told),
                # Who chooses needs no eyes for it: whoever is chosen does.
                *(conversation if sees(model) else without(conversation)),
            ),
            labels=tuple(self._agents),
            temperature=0.0,
            max_tokens=32,
        )
        completion = await run.ask(model, request, aloud=False)
        said = (completion.message.content or "").strip().strip("\"'.` ")
        if said in self._agents:
            return said
        if self._router.otherwise is not None:
            return self._router.otherwise
        raise ModelError(
            f"{model.name} chose {said[:60]!r}, which is none of {', '.join(self._agents)}; "
            f"name an agent in agents.{self.name}.otherwise for such questions"
        )

    def _nearest(self, question: str) -> str | None:
        vectors = embedding.embed([question, *(text for text, _ in self._known)])
        assert vectors is not None
        likeness = vectors[1:] @ vectors[0]
        best = int(likeness.argmax())
        return self._known[best][1] if likeness[best] >= NEAR else None

    def _without(self) -> str:
        if self._router.otherwise is not None:
            return self._router.otherwise
        raise ModelError(
            f"{self.name}: nothing decides who should answer; name an agent in "
            f"agents.{self.name}.otherwise for such questions"
        )

    def _note(self, by: str, conversation: tuple[Message, ...], agent: str) -> str:
        """Leaves the choice in the trace as a model's would be."""
        with span("model", by) as noted:
            noted.input = conversation
            noted.output = (Message(role="assistant", content=agent),)
            noted.attributes[genai.OPERATION] = "chat"
            noted.attributes[genai.REQUEST_MODEL] = by
            noted.attributes[genai.FINISH_REASONS] = ["stop"]
        return agent


def told(agents: Mapping[str, str]) -> str:
    """What a model that chooses is told of the agents, by name and description."""
    lines = [f"- {name}: {description or name}" for name, description in agents.items()]
    return "\n".join(["Who should answer the user? Write one name and nothing else.", *lines])
