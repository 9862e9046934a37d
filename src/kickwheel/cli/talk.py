"""One answer on a terminal: what was called, what came back, what was said."""

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import click

from kickwheel.agents.events import Called, Finished, Returned, Text
from kickwheel.app import App
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, Collected, Model, TextDelta, Usage
from kickwheel.records import Message, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer, and the trace that it left."""

    answer: str
    calls: tuple[ToolCall, ...]
    trace: str
    prompt_tokens: int
    output_tokens: int
    seconds: float

    def line(self) -> str:
        """The figures in one line."""
        return (
            f"{self.seconds:.2f} s · {self.prompt_tokens} + {self.output_tokens} tokens · "
            f"trace {self.trace[:12]}"
        )


async def answer(
    app: App, name: str, messages: Sequence[Message], *, quiet: bool = False
) -> Answered:
    """Asks an agent or model of the app, shows what happens as it happens, and notes the trace."""
    model = app.model(name)
    started = time.perf_counter()
    with app.recorder.trace(name, name) as root:
        run = getattr(model, "run", None)
        if run is not None:
            calls, finished = await _agent(run(messages), quiet)
            message, usage = finished.answer, finished.usage
            if finished.note:
                click.echo(f"{name} {finished.note}", err=True)
        else:
            message, usage = await _model(model, messages, quiet)
            calls = message.tool_calls
        root.input, root.output = tuple(messages), (message,)
    return Answered(
        answer=message.content or "",
        calls=calls,
        trace=root.trace_id or "",
        prompt_tokens=usage.prompt_tokens,
        output_tokens=usage.output_tokens,
        seconds=time.perf_counter() - started,
    )


async def _agent(
    events: AsyncIterator[Text | Called | Returned | Finished], quiet: bool
) -> tuple[tuple[ToolCall, ...], Finished]:
    calls: list[ToolCall] = []
    async for event in events:
        match event:
            case Text(text) if not quiet:
                click.echo(text, nl=False)
            case Called(call):
                calls.append(call)
                if not quiet:
                    click.echo(click.style(f"→ {call.name}{call.arguments}", fg="cyan"))
            case Returned(text=text, state=state) if not quiet and state != "done":
                click.echo(click.style(f"← {text}", fg="red"))
            case Finished():
                if not quiet:
                    click.echo()
                return tuple(calls), event
    raise AssertionError("an agent's last event is Finished")


async def _model(model: Model, messages: Sequence[Message], quiet: bool) -> tuple[Message, Usage]:
    collected = Collected()
    async for delta in observed.stream(model, ChatRequest(messages=tuple(messages))):
        collected.add(delta)
        if isinstance(delta, TextDelta) and not quiet:
            click.echo(delta.text, nl=False)
    if not quiet:
        click.echo()
    return collected.message(), collected.done.usage if collected.done else Usage()
