"""What is heard of another framework's agent while it works: for the run, its trace, its answer."""

import time
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from pydantic_core import to_json

from kickwheel.agents.events import Called, Finished, Returned, Text
from kickwheel.agents.run import Run
from kickwheel.models.chat import Done, Usage
from kickwheel.records import Message, ToolCall, genai
from kickwheel.trace.record import span

Told = Text | Called | Returned | Done | Message
"""What is told of their work while it goes on.

Text       a piece of what they say
Called     a tool is about to be called
Returned   its result is here; of the call only the id is looked at
Done       a model call has ended, with its usage and the model's name, as far as they tell it
Message    the answer, where they tell it whole: else it is the text since the last call
"""


def called(identity: str, name: str, arguments: Any) -> Called:
    """Their call of a tool; `arguments` are JSON as the model wrote it, or what it stands for."""
    return Called(ToolCall(id=identity, name=name, arguments=text(arguments)))


def returned(identity: str, result: Any, *, failed: bool = False) -> Returned:
    """The result of the call with that id: text, or what its JSON stands for."""
    call = ToolCall(id=identity, name="", arguments="")
    return Returned(call, text(result), "failed" if failed else "done")


def used(
    prompt_tokens: int | None, output_tokens: int | None, cached_tokens: int | None, model: str
) -> Done:
    """The end of a model call that used so many tokens; `None` where they do not tell."""
    usage = Usage(
        prompt_tokens=prompt_tokens or 0,
        output_tokens=output_tokens or 0,
        cached_tokens=cached_tokens or 0,
    )
    return Done("stop", usage, model)


def answered(output: Any) -> Message:
    """Their whole answer: text, or what its JSON stands for."""
    return Message(role="assistant", content=text(output))


def text(value: Any) -> str:
    """The value as a model reads it: text as it is, anything else as JSON."""
    return str(value) if isinstance(value, str) else to_json(value, fallback=str).decode()


class Heard:
    """Hears the events of one run of theirs; a context manager around all of them.

    Each call becomes a `tool` span and each end of a model call a `model` span, with the times at
    which they were told; of what a model was asked nothing is known here.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._usage = Usage()
        self._models = 0
        self._words: list[str] = []
        self._answer: Message | None = None
        self._open: dict[str, tuple[ToolCall, int]] = {}
        self._since = time.perf_counter_ns()
        """When the model began that is at work now, as far as it can be seen from here."""

    def __enter__(self) -> Self:
        self._run.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for call, began in self._open.values():
            self._note(call, began, None, error)

    def take(self, event: Told) -> None:
        """Takes the next event.

        Raises:
            Spent: the agent's budget was used up before the model call that this is the end of.
        """
        match event:
            case Text(words):
                self._words.append(words)
                self._run.say(words)
            case Called(call):
                self._words.clear()
                self._open[call.id] = call, time.perf_counter_ns()
                self._run.tell(event)
            case Returned():
                now = time.perf_counter_ns()
                call, began = self._open.pop(event.call.id, (event.call, now))
                event = replace(event, call=call)
                self._note(call, began, event)
                self._since = time.perf_counter_ns()
                self._run.tell(event)
            case Done():
                self._ended(event)
            case Message():
                self._answer = event

    def finished(self) -> Finished:
        """The end of their run; an answer that was not said yet is said now."""
        words = "".join(self._words)
        answer = self._answer or Message(role="assistant", content=words)
        if answer.content and not words.rstrip().endswith(answer.content.strip()):
            # What was said may be an agent's inside theirs: the answer is a paragraph of its own.
            self._run.say(f"\n\n{answer.content}" if words else answer.content)
        return Finished(
            why="answered", answer=answer, usage=self._usage, steps=max(1, self._models)
        )

    def _ended(self, done: Done) -> None:
        self._models += 1
        self._usage = self._usage + done.usage
        try:
            if self._models > 1:
                self._run.begin()
        finally:
            self._run.charge(done.usage)  # Paid for it is in any case.
        with span("model", done.model or self._run.name) as noted:
            noted.start_ns -= time.perf_counter_ns() - self._since
            noted.attributes[genai.OPERATION] = "chat"
            if done.model:
                noted.attributes[genai.RESPONSE_MODEL] = done.model
            noted.attributes[genai.INPUT_TOKENS] = done.usage.prompt_tokens
            noted.attributes[genai.OUTPUT_TOKENS] = done.usage.output_tokens
            noted.attributes[genai.CACHED_TOKENS] = done.usage.cached_tokens
        self._since = time.perf_counter_ns()

    def _note(
        self,
        call: ToolCall,
        began: int,
        result: Returned | None,
        error: BaseException | None = None,
    ) -> None:
        with span("tool", call.name) as noted:
            noted.start_ns -= time.perf_counter_ns() - began
            noted.attributes[genai.OPERATION] = "execute_tool"
            noted.attributes[genai.TOOL_NAME] = call.name
            noted.attributes[genai.TOOL_CALL_ID] = call.id
            noted.input = (Message(role="assistant", tool_calls=(call,)),)
            if result is not None:
                noted.output = (Message(role="tool", content=result.text, tool_call_id=call.id),)
                if result.state != "done":
                    noted.error = result.text
            elif error is not None:
                noted.fail(error)
            else:
                noted.error = "it never came back"
