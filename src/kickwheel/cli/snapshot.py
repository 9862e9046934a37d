"""`kickwheel snapshot`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.option("--report", help="Its id, or how it begins; by default the newest.")
@json_option
def command(app: Path, report: str | None, as_json: bool) -> None:
    """Pack what a report of APP is about: adapter, prompts, configuration, report and SBOM.

    The folder never changes: `kickwheel serve FOLDER` checks every byte of it.
    """
    from kickwheel.cli.steps import Steps
    from kickwheel.flywheel.wheel import wheel

    with Steps() as watch, wheel(app, watch=watch) as steps:
        identity = steps.snapshot(steps.made.whole("report", report))
        folder = steps.made.folder("snapshot", identity)
    if as_json:
        show_json({"snapshot": identity, "folder": str(folder)})
        return
    click.echo(f"snapshot  {folder}")
