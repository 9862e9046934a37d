"""`kickwheel rollback`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument


@click.command()
@app_argument
@click.option("--why", default="by hand", show_default=True, help="Kept with the move.")
def command(app: Path, why: str) -> None:
    """Take APP's last promotion back; running servers follow within a second."""
    from kickwheel.flywheel.promotion import rollback

    ref, target = rollback(app, why=why)
    click.echo(f"{ref} → {target or 'nothing: its base answers'}")
