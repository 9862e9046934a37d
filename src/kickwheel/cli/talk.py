"""What a terminal shows while an agent or model answers."""

import click

from kickwheel.agents.ask import Answered
from kickwheel.agents.events import Called, Event, Finished, Returned, Text


def show(event: Event) -> None:
    """The event as it happens: calls, failed results, and the answer's text."""
    match event:
        case Text(text):
            click.echo(text, nl=False)
        case Called(call):
            click.echo(click.style(f"→ {call.name} {call.arguments}", fg="cyan"))
        case Returned(text=text, state=state) if state != "done":
            click.echo(click.style(f"← {text}", fg="red"))
        case Finished(answer=answer, note=note):
            for call in answer.tool_calls:
                click.echo(click.style(f"→ {call.name} {call.arguments}", fg="cyan"))
            click.echo(f"\n{note}" if note else "")


def figures(answered: Answered) -> str:
    """What the answer took, in one line."""
    return click.style(
        f"{answered.seconds:.2f} s · {answered.prompt_tokens} + {answered.output_tokens} tokens · "
        f"trace {answered.trace[:12]}",
        dim=True,
    )
