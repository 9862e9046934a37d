"""`kickwheel check`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json, table


@click.command()
@app_argument
@json_option
def command(app: Path, as_json: bool) -> None:
    """Tell all mistakes of APP at once, each with line, column and the nearest right name; also
    files, folders and functions that it names and that are not there."""
    from kickwheel.app import check_app

    plan = check_app(app, complete=True)
    rows = [(shelf, name, part.kind) for (shelf, name), part in plan.parts.items()]
    if as_json:
        show_json([{"shelf": shelf, "name": name, "kind": kind} for shelf, name, kind in rows])
        return
    click.echo(table(rows, ("shelf", "name", "kind")))
    click.echo(f"\n{plan.file}: no mistakes")
