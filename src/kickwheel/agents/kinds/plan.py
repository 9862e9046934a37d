"""`kind: plan`: a plan first, then its steps, those at once that need nothing of each other.

    ask for a plan ─▶ check it ─▶ do its steps ─▶ ask for the answer
         ▲    └── mistakes ◀┘         │           (or take the last step's result)
         └────── what failed ◀────────┘

A plan is JSON: steps with an id, what they are for, a tool and its arguments, and the steps that
they need. `${id}` in an argument is the result of a step, `${id.total}` a part of it where it is
JSON. What is wrong with a plan is told to the model, all of it at once.
"""

import json
from asyncio import Event
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import structs
from pydantic import Field

from kickwheel.agents import planned, transcript
from kickwheel.agents.delegate import tools_of
from kickwheel.agents.durable import because
from kickwheel.agents.events import WHY, Finished
from kickwheel.agents.output import INVALID_IN_A_ROW, Output
from kickwheel.agents.planned import Step
from kickwheel.agents.run import AgentPart, Run, together
from kickwheel.agents.tools import Tool
from kickwheel.agents.tools.calling import Result, shown
from kickwheel.agents.transcript import Prompt
from kickwheel.agents.work import Worker
from kickwheel.core.errors import ModelError
from kickwheel.core.plugins import Context, Name
from kickwheel.models.chat import Model
from kickwheel.records import Images, Message, ToolCall, ToolSpec

PROMPT = """\
Plan how to answer the last question with these tools:

{tools}

Write JSON: {{"steps": [{{"id": "a", "what": "why it is done", "call": "the tool's name", \
"arguments": {{"name": "value"}}, "needs": []}}]}}. `needs` names the steps that must be done \
before. In arguments ${{a}} stands for the result of step a, and ${{a.total}} for a part of it \
where it is JSON. Steps that do not need each other are done at once. Where no tool is needed, the \
list is empty."""
"""What stands in front of the conversation; the tools take the place of `{tools}`."""


_FORM = Output(planned.FORM)


class Plan(AgentPart):
    """Makes a plan, does its steps, and plans again where one fails."""

    model: Annotated[str, Name("models")]
    """Who plans, and answers."""
    tools: Annotated[tuple[str, ...], Name("tools")] = ()
    """What steps can do; all tools of each entry are offered."""
    agents: Annotated[tuple[str, ...], Name("agents")] = ()
    """Other agents, each a tool that takes a task and gives an answer."""
    instructions: str | None = None
    """Said first, before how to write plans, and before the answer."""
    prompt: Prompt = PROMPT
    """How to write plans, in your own words: `{tools}` is where the tools are listed, and `{{` a
    brace. The form itself is fixed."""
    answer: Literal["model", "step"] = "model"
    """Who has the last word. `model`: the model reads all results and answers. `step`: the result
    of the plan's last step is the answer as it is."""
    replans: Annotated[int, Field(ge=0)] = 2
    """How often it plans again after a step has failed."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens that the model may write in a plan or answer; by default what the model allows."""
    max_steps: Annotated[int, Field(gt=0)] = 32
    """Calls of models in one run at most, those of the agents that it hands work to included."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Seconds for a whole run; waiting for a person does not count."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Planning"]:
        """The agent at work."""
        model = context.part("models", self.model)
        yield Planning(context.name, model, tools_of(context, self.tools, self.agents), self)


class Planning(Worker):
    """An agent that plans before it acts."""

    def __init__(self, name: str, model: Model, tools: Mapping[str, Tool], options: Plan) -> None:
        super().__init__(name, options)
        self._model = model
        self._tools = tools
        self._plan = options
        self._held: tuple[tuple[ToolSpec, ...], Mapping[str, Any]] = (), {}

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What the steps of its plans can call."""
        return tuple(tool.spec for tool in self._tools.values())

    def _schema(self) -> Mapping[str, Any]:
        """What a grammar holds a plan to; the tools of an MCP server come and go."""
        tools = self.tools
        if self._held[0] != tools or not tools:
            self._held = tools, planned.schema(tools)
        return self._held[1]

    async def work(self, run: Run) -> Finished:
        """Plans, acts, plans again where a step failed, and answers."""
        # Results go from step to step whole, or as the model's last reading.
        run.calls.paging = False
        conversation = list(run.asked.messages)
        done: dict[str, tuple[Step, Result]] = {}
        for again in range(self._plan.replans + 1):
            written, steps = await self._planned(run, conversation, done)
            results = await self._carried_out(run, steps, done, again)
            done |= {id: made for id, made in results.items() if made[1].state == "done"}
            failed = [made for made in results.values() if made[1].state != "done"]
            if not failed:
                return await self._answered(run, steps, done)
            conversation += [
                Message(role="assistant", content=written),
                Message(
                    role="user", content=_failures(failed, done), images=_shown(results.values())
                ),
            ]
        step, result = failed[-1]
        raise ModelError(
            f"{self.name}: its plan failed {self._plan.replans + 1} times, the last time in step "
            f"{step.id} ({step.call}): {result.text[:500]}"
        ) from because(result.failure for _, result in failed)

    async def _planned(
        self, run: Run, conversation: Sequence[Message], done: Collection[str]
    ) -> tuple[str, list[Step]]:
        """A plan that can be carried out, as it was written and as its steps."""
        prompt = self._plan.prompt.format(tools=transcript.described(self.tools) or "(none)")
        request = structs.replace(
            run.asked,
            messages=(*self._system(prompt), *conversation),
            tools=(),
            tool_choice="auto",
            json_schema=self._schema(),
            stop=(),
            max_tokens=self._plan.max_tokens,
        )
        for _ in range(INVALID_IN_A_ROW + 1):
            completion = await run.ask(self._model, request, aloud=False)
            said = completion.message.content or ""
            text, wrong = _FORM.read(said)
            steps = [] if wrong else [planned.step(entry) for entry in json.loads(text)["steps"]]
            wrong = wrong or self._wrong(steps, done)
            if wrong and completion.finish_reason == "length":
                wrong = ["it broke off, since it was too long: plan fewer steps, in fewer words"]
            if not wrong:
                return text, steps
            told = (
                f"This plan cannot be carried out: {'; '.join(wrong)}. Write the whole plan again."
            )
            request = structs.replace(
                request,
                messages=(
                    *request.messages,
                    Message(role="assistant", content=said),
                    Message(role="user", content=told),
                ),
            )
        raise ModelError(
            f"{self._model.name} wrote no plan that can be carried out, {INVALID_IN_A_ROW + 1} "
            f"times in a row; the last time: {'; '.join(wrong)}"
        )

    def _wrong(self, steps: Sequence[Step], done: Collection[str]) -> list[str]:
        if not steps and self._plan.answer == "step":
            return ["it has no step, but the last step's result is to be the answer"]
        return list(planned.wrong(steps, {tool.name: tool for tool in self.tools}, done))

    async def _carried_out(
        self,
        run: Run,
        steps: Sequence[Step],
        done: Mapping[str, tuple[Step, Result]],
        again: int,
    ) -> dict[str, tuple[Step, Result]]:
        """The results of the steps; those that need one that failed are left out."""
        results: dict[str, tuple[Step, Result]] = {}
        over = {step.id: Event() for step in steps}

        async def one(step: Step) -> None:
            try:
                for need in sorted(step.needs & over.keys()):
                    await over[need].wait()
                known = {**done, **results}
                if not all(need in known and known[need][1].state == "done" for need in step.needs):
                    return
                results[step.id] = step, await self._done(run, step, known, again)
            finally:
                # Whatever becomes of it, whoever needs it does not wait for ever.
                over[step.id].set()

        await together([partial(one, step) for step in steps])
        return {step.id: results[step.id] for step in steps if step.id in results}

    async def _done(
        self, run: Run, step: Step, known: Mapping[str, tuple[Step, Result]], again: int
    ) -> Result:
        try:
            results = {id: made[1].text for id, made in known.items()}
            arguments = planned.filled(step.arguments, results, self._tools[step.call].spec)
        except LookupError as error:
            return Result(f"error: {error.args[0]}", "failed")
        call = ToolCall(
            id=f"call_{again}_{step.id}",
            name=step.call,
            arguments=msgspec.json.encode(arguments).decode(),
        )
        # When a step begins hangs on how long others take: its place has its name.
        (result,) = await run.call(self._tools, [call], at=f"plan {again} {step.id}")
        return result

    async def _answered(
        self, run: Run, steps: Sequence[Step], done: Mapping[str, tuple[Step, Result]]
    ) -> Finished:
        if self._plan.answer == "step":
            text = done[steps[-1].id][1].text
            run.say(text)
            return run.ended("answered", Message(role="assistant", content=text))
        messages = [*self._system(), *run.asked.messages]
        if done:
            found = f"{_results(done)}\n\nAnswer the question with what was found out."
            messages.append(Message(role="user", content=found, images=_shown(done.values())))
        request = structs.replace(
            run.asked, messages=tuple(messages), max_tokens=run.most_tokens(self._plan.max_tokens)
        )
        completion = await run.ask(self._model, request)
        work = messages[-1:] if done else ()
        return run.ended(WHY[completion.finish_reason], completion.message, work=work)

    def _system(self, prompt: str = "") -> tuple[Message, ...]:
        text = "\n\n".join(part for part in (self._plan.instructions or "", prompt) if part)
        return (Message(role="system", content=text),) if text else ()


def _shown(made: Iterable[tuple[Step, Result]]) -> Images:
    return shown(result for _, result in made)


def _results(done: Mapping[str, tuple[Step, Result]]) -> str:
    return "\n".join(f"{step.id} ({step.what}): {result.shown}" for step, result in done.values())


def _failures(
    failed: Sequence[tuple[Step, Result]], done: Mapping[str, tuple[Step, Result]]
) -> str:
    parts = [f"Step {step.id} ({step.call}) failed: {result.shown}" for step, result in failed]
    if done:
        parts.append(f"Done, and to be used as ${{id}} without doing it again:\n{_results(done)}")
    parts.append("Plan what is still to be done, with new ids.")
    return "\n\n".join(parts)
