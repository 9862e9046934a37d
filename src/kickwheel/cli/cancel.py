"""`kickwheel cancel`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option
from kickwheel.cli.talk import show_standing


@click.command()
@app_argument
@click.argument("run")
@json_option
def command(run: str, app: Path, as_json: bool) -> None:
    """End RUN (its id, or how it begins), wherever it goes on."""
    from kickwheel.app import cancel

    show_standing(cancel(app, run), as_json)
