"""`kickwheel run`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.argument("question")
@click.option("--as", "name", help="Agent or model to ask; by default the app's own.")
@click.option("--key", default="", help="Asked again under the same key, it goes on where it was.")
@json_option
def command(app: Path, question: str, name: str | None, key: str, as_json: bool) -> None:
    """Ask an agent or model of APP one QUESTION; shows each call and the answer."""
    from kickwheel.app import run
    from kickwheel.cli.talk import figures, show

    if as_json:
        answered = run(app, question, name=name, key=key)
        show_json(answered)
    else:
        answered = run(app, question, name=name, key=key, on_event=show)
        click.echo(figures(answered))
    if answered.note and not answered.answer:
        raise click.exceptions.Exit(1)
