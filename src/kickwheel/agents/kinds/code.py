"""`kind: code`: the model writes one small program over the tools, which is run.

    ask the model ─▶ no program: that is the answer
         ▲         ─▶ a program: run it, its calls are calls of the tools
         │              ├─▶ it fails: told with the line, and with what was done so far
         └──────────────┘   it ends: what it says is the answer (or goes to the model)

One program does what a loop would ask a model five times for: loops, conditions, several calls at
once. It runs in Monty, which knows a part of Python and reaches nothing but the tools; or, with
`runs: python`, in CPython in a sandbox. Each call of a tool is a step of the run like any other,
with all its limits.
"""

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
from msgspec import structs
from pydantic import BaseModel, ConfigDict, Field

from kickwheel.agents.delegate import tools_of
from kickwheel.agents.events import Finished
from kickwheel.agents.output import INVALID_IN_A_ROW
from kickwheel.agents.run import AgentPart, Run
from kickwheel.agents.stubs import Stub, stubs
from kickwheel.agents.tools import Tool, linked
from kickwheel.agents.tools.calling import Result, shown
from kickwheel.agents.tools.flow import marked
from kickwheel.agents.tools.monty import Outcome, ProgramLimits, run_program
from kickwheel.agents.transcript import Prompt
from kickwheel.agents.work import Worker
from kickwheel.core.errors import ModelError, ToolError
from kickwheel.core.plugins import Context, Name
from kickwheel.models.chat import Completion, Model
from kickwheel.records import Images, Message, ToolCall, ToolSpec, wire

PROMPT = """\
Answer by writing one short Python program, in a block that begins with ```python. It may await \
these functions, with keyword arguments only; several at once with asyncio.gather:

{tools}

They return what their text holds: JSON as Python values, anything else as str. The last line is \
an expression, and its value is the answer. Where no function is needed, answer in plain words \
without a program."""
"""What stands in front of the conversation; the functions take the place of `{tools}`."""

IMPORTS = {
    "monty": "Import nothing but json, re, math, datetime and asyncio.",
    "python": "The standard library can be imported; there are no files and no network.",
}
"""What stands behind it, by what runs the program."""

_BLOCK = re.compile(r"```(?:python3?|py)?[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_SHOWN = 2000
"""Characters of a result, or of what was printed, that a model is told at most when it failed."""


class Bounds(BaseModel):
    """What one program may use."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    run_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds of computing; waiting for tools does not count."""
    memory_mb: Annotated[int, Field(gt=0)] = 100
    """Megabytes of memory."""
    calls: Annotated[int, Field(gt=0)] = 200
    """Calls of tools."""


class Code(AgentPart):
    """Writes a program over its tools and runs it."""

    model: Annotated[str, Name("models")]
    """Who writes the program."""
    tools: Annotated[tuple[str, ...], Name("tools")] = ()
    """What a program can call; all tools of each entry are functions."""
    agents: Annotated[tuple[str, ...], Name("agents")] = ()
    """Other agents, each a function that takes a task and gives an answer."""
    instructions: str | None = None
    """Said first, before how to write programs."""
    prompt: Prompt = PROMPT
    """How to write programs, in your own words: `{tools}` is where the functions are listed, and
    `{{` a brace."""
    answer: Literal["result", "model"] = "result"
    """Who has the last word. `result`: what the program says is the answer. `model`: the model
    reads it, and answers or writes another program."""
    runs: Literal["monty", "python"] = "monty"
    """What runs programs. `monty`: an interpreter of a part of Python that starts in milliseconds.
    `python`: all of Python, in a sandbox (Debian: bubblewrap), a tenth of a second each."""
    limits: Bounds = Bounds()
    """What one program may use."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens that the model may write in one step; by default what the model allows."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["Coding"]:
        """The agent at work."""
        model = context.part("models", self.model)
        if self.runs == "python":
            await linked.ready()
        yield Coding(context.name, model, tools_of(context, self.tools, self.agents), self)


@dataclass(slots=True)
class _Program:
    """A program while it runs: what it called, and what it said."""

    run: Run
    tools: Mapping[str, Tool]
    known: Mapping[str, Stub]
    number: int
    """Of the program in the run."""
    made: list[str] = field(default_factory=list)
    """Each call with its result, in short."""
    said: list[Any] = field(default_factory=list)
    results: dict[int, Result] = field(default_factory=dict)
    """By the place of the call in `made`."""
    untrusted: bool = False
    """Whether nobody vouches for some of what it was given, so for nothing that it says."""

    def functions(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        """What the program can call."""
        return {
            "answer": self._answer,
            **{name: self._function(s) for name, s in self.known.items()},
        }

    def shown(self, text: str) -> str:
        """What came of the program, as a model may read it."""
        return marked(text) if self.untrusted else text

    def images(self) -> Images:
        """The pictures that came with results."""
        return shown(result for _, result in sorted(self.results.items()))

    async def _answer(self, value: Any = None) -> Any:
        self.said.append(value)
        return value

    def _function(self, stub: Stub) -> Callable[..., Awaitable[Any]]:
        async def call(*positional: Any, **given: Any) -> Any:
            if positional:
                raise TypeError(f"{stub.name}() takes keyword arguments only")
            written = _json(stub.read(given))
            # Which of two calls begins first may hang on which tool was faster: the place of each
            # is what it calls.
            at = f"program {self.number} {stub.tool} {wire.digest(written)[:16]}"
            identity = f"call_{self.number}_{len(self.made)}"
            self.made.append("")
            place = len(self.made) - 1
            asked = ToolCall(id=identity, name=stub.tool, arguments=written)
            (result,) = await self.run.call(self.tools, [asked], at=at)
            self.results[place] = result
            self.untrusted = self.untrusted or result.untrusted
            self.made[place] = f"{stub.name}({_arguments(given)}) gave {result.text[:200]}"
            if result.state != "done":
                raise ToolError(result.text.removeprefix("error: "))
            return _value(result.text)

        return call


class Coding(Worker):
    """An agent that writes programs."""

    def __init__(self, name: str, model: Model, tools: Mapping[str, Tool], options: Code) -> None:
        super().__init__(name, options)
        self._model = model
        self._tools = tools
        self._code = options
        self._specs = self.tools
        self._stubs = stubs(self._specs)

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What its programs can call."""
        return tuple(tool.spec for tool in self._tools.values())

    def _known(self) -> Mapping[str, Stub]:
        """Its tools as programs see them; an MCP server's come and go."""
        if self._specs != self.tools:
            self._specs = self.tools
            self._stubs = stubs(self._specs)
        return self._stubs

    async def work(self, run: Run) -> Finished:
        """Asks for a program and runs it, until one ends."""
        # A program takes a result as it is: there is nobody to page through the rest.
        run.calls.paging = False
        conversation = list(run.asked.messages)
        failed = number = 0
        while True:
            answer = await self._ask(run, conversation)
            text = answer.message.content or ""
            if answer.finish_reason == "content_filter":
                return run.ended("filtered", Message(role="assistant", content=text))
            source = program(text)
            if answer.finish_reason == "length":
                # A program that was cut is none, and no answer.
                said = text if source is None else None
                run.say(said or "")
                return run.ended("length", Message(role="assistant", content=said))
            if source is None:
                run.say(text)
                return run.ended("answered", Message(role="assistant", content=text))
            running = _Program(run, self._tools, self._known(), number)
            number += 1
            execute = linked.run_linked if self._code.runs == "python" else run_program
            outcome = await execute(source, running.functions(), self._limits())
            result, wrong = _result(running, outcome)
            if not wrong and self._code.answer == "result":
                run.say(result)
                return run.ended("answered", Message(role="assistant", content=result))
            failed = failed + 1 if wrong else 0
            if failed > INVALID_IN_A_ROW:
                raise ModelError(
                    f"{self._model.name} wrote no program that runs, {failed} times in a row; "
                    f"the last time {wrong}"
                )
            told = _told(running, outcome, wrong) if wrong else running.shown(result)
            conversation += [
                Message(role="assistant", content=text),
                Message(role="user", content=told, images=running.images()),
            ]

    def _limits(self) -> ProgramLimits:
        bounds = self._code.limits
        return ProgramLimits(
            run_s=bounds.run_s, memory_bytes=bounds.memory_mb * 1_000_000, calls=bounds.calls
        )

    async def _ask(self, run: Run, conversation: Sequence[Message]) -> Completion:
        listed = "\n\n".join(stub.text for stub in self._known().values()) or "(there are none)"
        prompt = self._code.prompt.format(tools=listed)
        prompt = f"{prompt} {IMPORTS[self._code.runs]}"
        if self._code.instructions:
            prompt = f"{self._code.instructions}\n\n{prompt}"
        request = structs.replace(
            run.asked,
            messages=(Message(role="system", content=prompt), *conversation),
            tools=(),
            tool_choice="auto",
            json_schema=None,
            max_tokens=run.most_tokens(self._code.max_tokens),
        )
        return await run.ask(self._model, request, aloud=False)


def program(text: str) -> str | None:
    """The program in the model's text; `None` where there is none. Of several blocks the last."""
    blocks = [block for block in _BLOCK.findall(text) if block.strip()]
    return str(blocks[-1]) if blocks else None


def _result(running: _Program, outcome: Outcome) -> tuple[str, str]:
    """What the program says, and what is wrong with it; one of them is empty."""
    # `answer(…)` without await as the last line leaves no value, but has said all.
    if running.said and (not outcome.error or outcome.line is None):
        return _text(running.said[-1]), ""
    if outcome.error:
        return "", outcome.error
    if outcome.value is not None:
        return _text(outcome.value), ""
    if outcome.printed.strip():
        return outcome.printed.strip(), ""
    return "", "it says nothing: its last line must be an expression, or answer(…) be called"


def _told(running: _Program, outcome: Outcome, wrong: str) -> str:
    """What the model must know to write the program again."""
    parts = [f"Your program failed: {running.shown(wrong)}"]
    if outcome.printed.strip():
        parts.append(f"It printed:\n{running.shown(outcome.printed.strip()[:_SHOWN])}")
    done = [made for made in running.made if made]
    if done:
        listed = "\n".join(done)[:_SHOWN]
        parts.append(f"It has made these calls, whose effects stay:\n{running.shown(listed)}")
    parts.append("Write the whole program again, without that mistake.")
    return "\n\n".join(parts)


def _value(text: str) -> Any:
    """What a result's text holds, as a program takes it."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError, RecursionError):
        return json.dumps(value, default=str)


def _arguments(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}"[:200] for name, value in given.items())
