"""`kickwheel import-nat`"""

from pathlib import Path

import click

from kickwheel.cli.show import json_option, quoted, show_json


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the new app; by default it is named for the file.",
)
@json_option
def command(file: Path, out: Path | None, as_json: bool) -> None:
    """Make an app of FILE, a workflow of NVIDIA's NeMo Agent Toolkit, and tell line by line what
    has no counterpart and what to use instead.

    The folder must be new or empty. Keys that need nothing to be done are told, too.
    """
    from kickwheel.flywheel.start import import_nat

    made = import_nat(file, out)
    if as_json:
        show_json(made)
        return
    for title, lines in (("to do", made.todo), ("nothing to do", made.moot)):
        if lines:
            click.echo(f"{title}:")
            for line in lines:
                click.echo(f"  {line}")
    click.echo(f"{made.app} · {len(made.todo)} keys to do, {len(made.moot)} without need")
    click.echo(f"next: kickwheel check {quoted(made.app.parent)}")
