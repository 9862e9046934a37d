"""`kickwheel traces`"""

import time
from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json, table


@click.command()
@app_argument
@click.option("--workload", help="Only the traces of this agent, model or project.")
@click.option("--tenant", help="Only the traces of this tenant.")
@click.option("--limit", default=20, show_default=True, help="How many to show.")
@json_option
def command(app: Path, workload: str | None, tenant: str | None, limit: int, as_json: bool) -> None:
    """List the traces of APP, newest first: whose each is, and what was asked."""
    from kickwheel.flywheel.traffic import listed

    found = listed(app, workload=workload, tenant=tenant, limit=limit)
    if as_json:
        show_json(found)
        return
    if not found and (workload or tenant):
        click.echo("no such traces: without --workload and --tenant it lists all")
        return
    if not found:
        click.echo("no traces here: an answer leaves one, and kickwheel import brings others")
        return
    rows = [
        (
            trace.id[:12],
            time.strftime("%Y-%m-%d %H:%M", time.localtime(trace.start_ns / 1e9)),
            trace.workload,
            trace.tenant,
            trace.user,
            trace.verdict or "",
            " ✗ ".join(told[:50] for told in (trace.question, trace.error) if told),
        )
        for trace in found
    ]
    click.echo(table(rows, _HEADER))


_HEADER = ("trace", "begun", "workload", "tenant", "user", "verdict", "")
