"""What a terminal shows while an agent or model answers."""

from pathlib import Path

import click

from kickwheel.agents.ask import Answered
from kickwheel.agents.events import Asked, Called, Chosen, Event, Finished, Returned, Text
from kickwheel.app import Standing
from kickwheel.cli.show import quoted, show_json


def show(event: Event) -> None:
    """The event as it happens: calls, failed results, and the answer's text."""
    match event:
        case Text(text):
            click.echo(text, nl=False)
        case Called(call):
            click.echo(click.style(f"→ {call.name} {call.arguments}", fg="cyan"))
        case Returned(text=text, state=state) if state != "done":
            click.echo(click.style(f"← {text}", fg="red"))
        case Chosen(agent):
            click.echo(click.style(f"⇒ {agent}", fg="cyan"))
        case Asked(question, choices):
            may = f" ({' / '.join(choices)})" if choices else ""
            click.echo(click.style(f"? {question}{may}", fg="yellow"))
        case Finished(why="waiting", run=run):
            click.echo(_waits(run))
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


def show_standing(run: Standing, as_json: bool) -> None:
    """How a run stands, for people or programs."""
    if as_json:
        show_json(run)
        return
    for question in run.questions:
        may = f" ({' / '.join(question.choices)})" if question.choices else ""
        click.echo(click.style(f"? {question.text}{may}", fg="yellow"))
    if run.questions:
        click.echo(_waits(run.id))
    else:
        click.echo(run.answer or run.error or f"run {run.id[:12]}: {run.state}")


def _waits(run: str) -> str:
    context = click.get_current_context(silent=True)
    app = context.params.get("app", Path()) if context else Path()
    named = "" if app == Path() else f"{quoted(app)} "
    return f'It waits for a person: kickwheel answer {named}{run[:12]} "…"'
