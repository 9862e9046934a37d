"""`kickwheel chat`"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kickwheel.cli.show import app_argument

if TYPE_CHECKING:
    from kickwheel.app import App


@click.command()
@app_argument
@click.option("--as", "name", help="Agent or model to talk with; by default the app's own.")
def command(app: Path, name: str | None) -> None:
    """Talk with an agent or model of APP; an empty line or Ctrl-D ends it. What a run asks a person
    can be answered at once."""
    from kickwheel.agents.ask import ask
    from kickwheel.agents.events import Event, Finished
    from kickwheel.app import check_app, default, open_app
    from kickwheel.cli.talk import show
    from kickwheel.core.errors import ModelError, ToolError
    from kickwheel.records import Message

    async def talk() -> None:
        plan = check_app(app)
        wanted = name or default(plan)
        waiting = ""

        def heard(event: Event) -> None:
            nonlocal waiting
            show(event)
            if isinstance(event, Finished) and event.why == "waiting":
                waiting = event.run

        async with open_app(plan, only=[wanted]) as opened:
            click.echo(f"You talk with {wanted}. An empty line ends it.")
            said: list[Message] = []
            while question := await asyncio.to_thread(_ask, "you"):
                said.append(Message(role="user", content=question))
                waiting = ""
                try:
                    answered = await ask(
                        opened.model(wanted), said, opened.recorder, on_event=heard
                    )
                    answer = await _gone_on(opened, waiting) if waiting else answered.answer
                except (ModelError, ToolError) as error:
                    click.echo(click.style(str(error), fg="red"), err=True)
                    answer = None
                if answer is None:
                    said.pop()
                else:
                    said.append(Message(role="assistant", content=answer))

    asyncio.run(talk())


async def _gone_on(opened: "App", run: str) -> str | None:
    """The answer of a run that waits, once all that it asks is answered; `None` where an empty line
    leaves it waiting."""
    from kickwheel.agents.events import Asked
    from kickwheel.app import resumed
    from kickwheel.cli.talk import show
    from kickwheel.core.errors import UsageError

    runs = opened.store.runs
    while questions := runs.questions(run):
        for question in questions:
            text = await asyncio.to_thread(_ask, "answer")
            if not text:
                return None
            try:
                runs.answer(run, text, question.path)
            except UsageError as error:
                click.echo(click.style(str(error), fg="red"), err=True)
                break
        else:
            ended = await resumed(opened, runs.named(run))
            if ended.why != "waiting":
                click.echo(ended.answer.content or ended.note)
                return ended.answer.content or ""
            for question in runs.questions(run):
                show(Asked(question.text, question.choices))
    return None


def _ask(who: str) -> str:
    try:
        return str(click.prompt(click.style(who, bold=True), default="", show_default=False))
    except click.Abort:
        return ""
