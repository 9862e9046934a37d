"""`kickwheel runs`"""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kickwheel.cli.show import app_argument, json_option, show_json, table

if TYPE_CHECKING:
    from kickwheel.app import Standing

QUIET_S = 60.0
"""After so long without a step, a run that goes on may have been left."""


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
    if not found:
        click.echo("no runs yet: an agent's run is kept from its first step on")
        return
    rows = [
        (
            run.id[:12],
            run.agent,
            run.state,
            f"{time.time() - run.updated:.0f} s ago",
            "; ".join(q.text for q in run.questions) or run.error or run.answer or _quiet(run),
        )
        for run in found
    ]
    click.echo(table([(*r[:4], " ".join(r[4].split())[:60]) for r in rows], _HEADER))


def _quiet(run: "Standing") -> str:
    """What to do about a run in which nothing happens, should its program be gone."""
    if run.state != "running" or time.time() - run.updated < QUIET_S:
        return ""
    return "no step for a while. Is its program gone? kickwheel resume"


_HEADER = ("run", "agent", "state", "last step", "")
