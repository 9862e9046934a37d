"""`kickwheel runs`"""

import time
from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json, table


@click.command()
@app_argument
@click.option("--limit", default=20, show_default=True, help="How many to show.")
@json_option
def command(app: Path, limit: int, as_json: bool) -> None:
    """List the runs of agents, newest first: how each stands, and what it asks."""
    from kickwheel.app import runs

    found = runs(app, limit=limit)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            run.id[:12],
            run.agent,
            run.state,
            f"{time.time() - run.updated:.0f} s ago",
            "; ".join(q.text for q in run.questions) or run.error or run.answer,
        )
        for run in found
    ]
    click.echo(table([(*r[:4], " ".join(r[4].split())[:60]) for r in rows], _HEADER))


_HEADER = ("run", "agent", "state", "last step", "")
