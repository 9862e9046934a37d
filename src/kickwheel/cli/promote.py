"""`kickwheel promote`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument


@click.command()
@app_argument
@click.option("--adapter", help="Its id, or how it begins; by default that of the newest report.")
def command(app: Path, adapter: str | None) -> None:
    """Put an adapter of APP to work, if the gate let its report pass.

    Running servers pick it up within a second.
    """
    from kickwheel.flywheel.promotion import promote

    click.echo(f"promoted {promote(app, adapter)}")
