"""`kickwheel turn`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, quoted, show_json


@click.command()
@app_argument
@click.option("--full", is_flag=True, help="Also the slow contestant answers every test question.")
@json_option
def command(app: Path, full: bool, as_json: bool) -> None:
    """Turn the whole flywheel of APP once: traffic, dataset, adapter, report, gate, snapshot.

    Killed anywhere and started again it goes on where it was, and ends with the same result.
    """
    from kickwheel.cli.steps import Steps, ended
    from kickwheel.flywheel.turn import turn_of
    from kickwheel.flywheel.wheel import wheel

    with Steps() as watch, wheel(app, full=full, watch=watch) as steps:
        turned = turn_of(steps)
        report = steps.made.report(turned.report)
        folders = {
            kind: steps.made.folder(kind, identity)
            for kind, identity in (("report", turned.report), ("snapshot", turned.snapshot))
        }
    if as_json:
        show_json(turned)
        return
    click.echo(ended(report))
    click.echo(f"\n{turned.why}\n")
    click.echo(f"report    {folders['report'] / 'report.html'}")
    click.echo(f"snapshot  {folders['snapshot']}")
    click.echo(f"serve it  kickwheel serve {quoted(app)}")
