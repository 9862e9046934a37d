"""`kickwheel resume`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option
from kickwheel.cli.talk import show_standing


@click.command()
@app_argument
@click.argument("run")
@json_option
def command(run: str, app: Path, as_json: bool) -> None:
    """Go on with RUN (its id, or how it begins), which its program left, or which failed."""
    from kickwheel.app import resume

    show_standing(resume(app, run), as_json)
