"""`kickwheel evaluate`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.option("--adapter", help="Its id, or how it begins; by default the newest.")
@click.option("--full", is_flag=True, help="Also the slow contestant answers every test question.")
@json_option
def command(app: Path, adapter: str | None, full: bool, as_json: bool) -> None:
    """Compare an adapter of APP with what it would replace, on the unseen test questions.

    Ends with the gate's verdict and a report; nothing is promoted.
    """
    from kickwheel.cli.steps import Steps, ended
    from kickwheel.flywheel.wheel import wheel

    with Steps() as watch, wheel(app, full=full, watch=watch) as steps:
        identity = steps.compared(steps.made.whole("adapter", adapter))
        report = steps.made.report(identity)
        folder = steps.made.folder("report", identity)
    if as_json:
        show_json(report)
        return
    click.echo(ended(report))
    click.echo(f"\nreport  {folder / 'report.html'}")
