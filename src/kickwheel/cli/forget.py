"""`kickwheel forget`"""

import time
from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    required=True,
    help="Traces that are older go.",
)
@click.option("--yes", is_flag=True, help="Delete without asking.")
@json_option
def command(app: Path, days: float, yes: bool, as_json: bool) -> None:
    """Delete old traces of APP, and what was said of them.

    Pictures that no trace and no run names any more go too. Datasets, adapters and reports that
    were made of the traces stay.
    """
    from kickwheel.app import check_app
    from kickwheel.core.store import open_store
    from kickwheel.trace.forget import forget

    plan = check_app(app)
    if not yes:
        what = f"Delete all traces that are older than {days:g} days? It cannot be taken back."
        click.confirm(what, abort=True, err=True)
    with open_store(plan.store, plan.database) as store:
        gone = forget(store, time.time_ns() - int(days * 86_400e9))
    if as_json:
        show_json(gone)
        return
    click.echo(f"{gone.traces} traces deleted, and {gone.pictures} pictures ({gone.bytes:,} bytes)")
