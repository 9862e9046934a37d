"""`kind: vote`: several answers to one question, and the one that most of them give.

    the same question ─▶ sample 1 ─┐
                      ─▶ sample 2 ─┼▶ counted, or judged ─▶ the answer
                      ─▶ agent b  ─┘

Answers count as the same where only letters, spaces or the order of keys differ; calls where name
and arguments are the same. With `agree` no more is asked than can still decide, always in the same
order, so that a run that resumes counts as it did.

Source: Wang et al. (2022), Self-consistency improves chain of thought reasoning in language models.
"""

import json
import math
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from msgspec import structs
from pydantic import Field, field_validator, model_validator

from kickwheel.agents.durable import because
from kickwheel.agents.events import SPENT, Agent, Finished, Why
from kickwheel.agents.run import AgentPart, Run, together
from kickwheel.agents.work import Worker
from kickwheel.core.errors import ModelError, ToolError
from kickwheel.core.plugins import Context, Name
from kickwheel.models.chat import ChatRequest, Model
from kickwheel.records import Message, genai
from kickwheel.trace.record import current

SAMPLES = 5
"""Answers of one voter, where nobody says."""

JUDGE = "Which of these answers to the last question is best? Write its number and nothing else."


class Vote(AgentPart):
    """Asks several times, or several agents, and gives the answer that most give."""

    model: Annotated[str | None, Name("models")] = None
    """Who is asked, several times."""
    agents: Annotated[tuple[str, ...], Name("agents")] = ()
    """Who is asked instead: one agent several times, or several."""
    samples: Annotated[int, Field(ge=1, le=64)] | None = None
    """How often each is asked; by default 5 times where it is one, once where they are several."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Of whoever is asked more than once: at 0 they would say the same again and again."""
    seed: int = 0
    """Of the first sample; each further one has the next number."""
    agree: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of all votes, from 0 to 1, that decides. Only as many are asked as are needed for it;
    where it cannot be reached the judge decides, or the run ends with an error. By default all are
    asked at once, and the most frequent answer wins, of several the one that came first."""
    judge: Annotated[str | None, Name("models")] = None
    """Reads different answers and chooses one, instead of a count."""
    pattern: str | None = None
    """Regular expression for the part of a text that counts: its first group, or all it matches.
    An answer without it is no vote. By default the whole text counts."""
    instructions: str | None = None
    """System message for the model."""
    max_steps: Annotated[int, Field(gt=0)] = 64
    """Calls of models in one run at most, those of the agents included."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for a whole run; waiting for a person does not count."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _votes(self) -> "Vote":
        if (self.model is None) == (not self.agents):
            raise ValueError("who votes? Name either a model or agents")
        if self.agents and self.instructions is not None:
            raise ValueError("agents have instructions of their own")
        if self.votes < 2:
            raise ValueError("one vote decides nothing: name more samples or more agents")
        return self

    @property
    def each(self) -> int:
        """How often each voter is asked."""
        return self.samples or (1 if len(self.agents) > 1 else SAMPLES)

    @property
    def votes(self) -> int:
        """How many votes there are in all."""
        return self.each * (len(self.agents) or 1)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Voting"]:
        """The agent at work."""
        voters = [context.part("agents", name) for name in self.agents]
        if self.model is not None:
            voters = [context.part("models", self.model)]
        judge = context.part("models", self.judge) if self.judge else None
        yield Voting(context.name, voters, judge, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """What came of asking one voter once."""

    by: str
    answer: Message | None = None
    """`None` where there is none that counts."""
    calls: bool = False
    """Whether it is a call of the caller's tools."""
    work: tuple[Message, ...] = ()
    """What the voter called itself before."""
    error: ModelError | ToolError | None = None
    """Why there is no answer."""


class Voting(Worker):
    """An agent that counts what others answer."""

    def __init__(
        self, name: str, voters: Sequence[Agent], judge: Model | None, options: Vote
    ) -> None:
        super().__init__(name, options)
        self._voters = voters
        self._judge = judge
        self._vote = options

    async def work(self, run: Run) -> Finished:
        """Asks until it is decided."""
        total = self._vote.votes
        ballots: list[Ballot] = []
        last: list[Ballot] = []
        while count := self._needed(ballots):
            asked = range(len(ballots), len(ballots) + count)
            last = await together([partial(self._ask, run, number) for number in asked])
            ballots += last
        # How many were asked later hung on how the earlier ones ended.
        failed = because(ballot.error for ballot in last)
        counted = self._counted(ballots)
        self._note(counted)
        if not counted:
            raise self._nothing(ballots) from failed
        best = max(counted, key=len)
        share = self._vote.agree
        if share is not None and len(best) < _enough(share, total) and self._judge is None:
            raise ModelError(
                f"the voters do not agree: {len(best)} of {total} say the same, "
                f"{share:g} of them should. Name a judge, or ask for less with agree"
            ) from failed
        judged = self._judge is not None and len(counted) > 1
        if judged and (share is None or len(best) < _enough(share, total)):
            best = counted[await self._judged(run, counted)]
        chosen = best[0]
        assert chosen.answer is not None
        run.say(chosen.answer.content or "")
        why: Why = "calls" if chosen.calls else "answered"
        return run.ended(why, chosen.answer, work=chosen.work)

    def _needed(self, ballots: Sequence[Ballot]) -> int:
        """How many must be asked next; 0 where it is decided, or cannot be any more."""
        left = self._vote.votes - len(ballots)
        if self._vote.agree is None:
            return left
        wanted = _enough(self._vote.agree, self._vote.votes)
        best = max((len(same) for same in self._counted(ballots)), default=0)
        missing = wanted - best
        return missing if 0 < missing <= left else 0

    async def _ask(self, run: Run, number: int) -> Ballot:
        voter = self._voters[number % len(self._voters)]
        messages = run.asked.messages
        if self._vote.instructions:
            messages = (Message(role="system", content=self._vote.instructions), *messages)
        request = run.asked
        if self._vote.each > 1:
            seed = (self._vote.seed if request.seed is None else request.seed) + number
            request = structs.replace(request, temperature=self._vote.temperature, seed=seed)

        async def do() -> Finished:
            finished = await run.hand(voter, messages, request)
            if finished.why not in ("answered", "calls"):
                why = finished.note or f"{voter.name} ended with {finished.why}"
                raise ModelError(why, status=504 if finished.why in SPENT else 502)
            return finished

        # How it comes changes nothing in the answer. A vote that failed is kept as it came out
        # unless the whole vote fails: asked again, it might decide otherwise.
        same = structs.replace(request, whole=False)
        try:
            finished = await run.step(f"vote {number}", (voter.name, messages, same), do, Finished)
        except (ModelError, ToolError) as error:
            return Ballot(by=voter.name, error=error)
        calls = finished.why == "calls"
        return Ballot(by=voter.name, answer=finished.answer, calls=calls, work=finished.work)

    def _nothing(self, ballots: Sequence[Ballot]) -> ModelError:
        """That no vote counts, and why."""
        last, pattern = ballots[-1].error, self._vote.pattern
        why = "it is empty" if pattern is None else f'nothing in it matches "{pattern}"'
        return ModelError(
            f"none of {len(ballots)} votes has an answer that counts; the last: {last or why}",
            status=getattr(last, "status", 502),
            retry_after_s=getattr(last, "retry_after_s", None),
        )

    def _counted(self, ballots: Sequence[Ballot]) -> list[list[Ballot]]:
        """The ballots with an answer, those that say the same together; in the order they came."""
        same: dict[str, list[Ballot]] = {}
        for ballot in ballots:
            key = None if ballot.answer is None else self._key(ballot.answer)
            if key is not None:
                same.setdefault(key, []).append(ballot)
        return list(same.values())

    def _key(self, answer: Message) -> str | None:
        if answer.tool_calls:
            made = [f"{call.name} {plain(call.arguments)}" for call in answer.tool_calls]
            return "\n".join(sorted(made))
        text = answer.content or ""
        if self._vote.pattern is not None:
            matches = list(re.finditer(self._vote.pattern, text))
            if not matches:
                return None
            # Reasons come before what they lead to.
            found = matches[-1]
            text = found[1] if found.re.groups and found[1] is not None else found[0]
        return plain(text) or None

    async def _judged(self, run: Run, counted: Sequence[Sequence[Ballot]]) -> int:
        assert self._judge is not None
        answers = [
            f"Answer {number}, given {_times(len(same))}:\n{_shown(same[0].answer)}"
            for number, same in enumerate(counted, 1)
        ]
        conversation = [m for m in run.asked.messages if m.role in ("user", "assistant")]
        request = ChatRequest(
            messages=(
                *conversation,
                Message(role="user", content="\n\n".join([JUDGE, *answers])),
            ),
            labels=tuple(str(number) for number in range(1, len(counted) + 1)),
            temperature=0.0,
            max_tokens=16,
        )
        completion = await run.ask(self._judge, request, aloud=False)
        said = completion.message.content or ""
        found = re.search(r"\d+", said)
        if found is None or not 1 <= int(found[0]) <= len(counted):
            raise ModelError(
                f"{self._judge.name} should have named one of {len(counted)} answers, "
                f"and said {said[:60]!r}"
            )
        return int(found[0]) - 1

    def _note(self, counted: Sequence[Sequence[Ballot]]) -> None:
        noted = current()
        if noted is not None:
            noted.attributes[genai.VOTES] = [
                f"{len(same)} × {_shown(same[0].answer)}"
                for same in sorted(counted, key=len, reverse=True)
            ]


def plain(text: str) -> str:
    """The text as it is compared: «Oslo. » and «oslo» are the same, 4 and 4.0, and JSON whose keys
    stand in another order."""
    try:
        value = json.loads(text)
        if not isinstance(value, str):
            return json.dumps(_number(value), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        pass
    return " ".join(text.casefold().split()).strip(" .,;:!?\"'`*«»“”")


def _number(value: Any) -> Any:
    match value:
        case dict():
            return {key: _number(entry) for key, entry in value.items()}
        case list():
            return [_number(entry) for entry in value]
        case float() if value.is_integer():
            return int(value)
        case str():
            return " ".join(value.casefold().split())
    return value


def _shown(answer: Message | None, most: int = 4000) -> str:
    if answer is None:
        return ""
    if answer.tool_calls:
        return "\n".join(f"{call.name}({call.arguments})" for call in answer.tool_calls)
    return (answer.content or "")[:most]


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _enough(share: float, total: int) -> int:
    """The votes that make up the share: 7 of 25 for 0.28, whatever a float makes of it."""
    return math.ceil(round(share * total, 9))
