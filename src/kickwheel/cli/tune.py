"""`kickwheel tune`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.option("--dataset", help="Its id, or how it begins; by default the newest.")
@json_option
def command(app: Path, dataset: str | None, as_json: bool) -> None:
    """Make an adapter from a dataset of APP; killed and started again, it goes on."""
    from kickwheel.cli.steps import Steps
    from kickwheel.flywheel.wheel import wheel

    with Steps() as watch, wheel(app, watch=watch) as steps:
        identity = steps.tune(steps.made.whole("dataset", dataset))
        folder = steps.made.folder("adapter", identity)
    if as_json:
        show_json({"adapter": identity, "folder": str(folder)})
        return
    click.echo(f"adapter  {folder}")
