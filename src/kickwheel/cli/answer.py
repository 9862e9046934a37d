"""`kickwheel answer`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option
from kickwheel.cli.talk import show_standing


@click.command()
@app_argument
@click.argument("run")
@click.argument("text")
@click.option("--question", default="", help="Which question is answered, where it asks several.")
@json_option
def command(run: str, text: str, question: str, app: Path, as_json: bool) -> None:
    """Answer what RUN (its id, or how it begins) asks a person, and go on with it."""
    from kickwheel.app import answer

    show_standing(answer(app, run, text, question=question), as_json)
