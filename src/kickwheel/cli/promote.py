"""`kickwheel promote`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.option("--adapter", help="Its id, or how it begins; by default that of the newest report.")
@json_option
def command(app: Path, adapter: str | None, as_json: bool) -> None:
    """Put an adapter of APP to work, if the gate let its report pass.

    Running servers pick it up within a second.
    """
    from kickwheel.flywheel.promotion import promote

    target = promote(app, adapter)
    if as_json:
        show_json({"promoted": target})
        return
    click.echo(f"promoted {target}")
