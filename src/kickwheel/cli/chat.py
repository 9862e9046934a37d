"""`kickwheel chat`"""

import asyncio
from pathlib import Path

import click

from kickwheel.cli.show import app_argument


@click.command()
@app_argument
@click.option("--as", "name", help="Agent or model to talk with; by default the app's own.")
def command(app: Path, name: str | None) -> None:
    """Talk with an agent or model of APP; an empty line or Ctrl-D ends it."""
    from kickwheel.agents.ask import ask
    from kickwheel.app import check_app, default, open_app
    from kickwheel.cli.talk import show
    from kickwheel.core.errors import ModelError, ToolError
    from kickwheel.records import Message

    async def talk() -> None:
        plan = check_app(app)
        wanted = name or default(plan)
        async with open_app(plan, only=[wanted]) as opened:
            click.echo(f"You talk with {wanted}. An empty line ends it.")
            said: list[Message] = []
            while question := await asyncio.to_thread(_ask):
                said.append(Message(role="user", content=question))
                try:
                    answered = await ask(opened.model(wanted), said, opened.recorder, on_event=show)
                except (ModelError, ToolError) as error:
                    click.echo(click.style(str(error), fg="red"), err=True)
                    said.pop()
                    continue
                said.append(Message(role="assistant", content=answered.answer))

    asyncio.run(talk())


def _ask() -> str:
    try:
        return str(click.prompt(click.style("you", bold=True), default="", show_default=False))
    except click.Abort:
        return ""
