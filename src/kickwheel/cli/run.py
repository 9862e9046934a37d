"""`kickwheel run`"""

import asyncio
from pathlib import Path

import click

from kickwheel.cli.show import json_option, show_json


@click.command()
@click.argument("app", type=click.Path(exists=True, path_type=Path))
@click.argument("question")
@click.option("--as", "name", help="Agent or model to ask; by default the app's own.")
@json_option
def command(app: Path, question: str, name: str | None, as_json: bool) -> None:
    """Ask an agent or model of APP one QUESTION; shows each call, its result, and the answer."""
    from kickwheel.app import check_app, default, open_app
    from kickwheel.cli.talk import answer
    from kickwheel.records import Message

    async def ask() -> None:
        plan = check_app(app)
        wanted = name or default(plan)
        async with open_app(plan, only=[wanted]) as opened:
            said = await answer(
                opened, wanted, [Message(role="user", content=question)], quiet=as_json
            )
        if as_json:
            show_json(said)
        else:
            click.echo(click.style(said.line(), dim=True))

    asyncio.run(ask())
