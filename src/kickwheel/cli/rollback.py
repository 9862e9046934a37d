"""`kickwheel rollback`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.option("--why", default="by hand", show_default=True, help="Kept with the move.")
@json_option
def command(app: Path, why: str, as_json: bool) -> None:
    """Take APP's last promotion back; running servers follow within a second."""
    from kickwheel.flywheel.promotion import rollback

    ref, target = rollback(app, why=why)
    if as_json:
        show_json({"ref": ref, "target": target})
        return
    click.echo(f"{ref} → {target or 'nothing: its base answers'}")
