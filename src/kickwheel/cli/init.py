"""`kickwheel init`"""

from pathlib import Path

import click

from kickwheel.cli.show import json_option, quoted, show_json


@click.command()
@click.argument("blueprint", required=False)
@click.option(
    "--traffic",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Chat JSONL of your own to make the project around.",
)
@click.option(
    "--into", type=click.Path(path_type=Path), help="Folder to make; by default named for it."
)
@json_option
def command(blueprint: str | None, traffic: Path | None, into: Path | None, as_json: bool) -> None:
    """Make a project around BLUEPRINT, or around --traffic of your own.

    Without either it lists the blueprints.
    """
    from kickwheel.flywheel.start import blueprints, init

    if blueprint is None and traffic is None:
        if as_json:
            show_json(blueprints())
            return
        for name, about in blueprints().items():
            click.echo(f"{name:12} {about}")
        click.echo("\nkickwheel init NAME, or kickwheel init --traffic chats.jsonl")
        return
    folder = init(
        blueprint=blueprint,
        traffic=traffic,
        into=into,
        tell=lambda line: click.echo(line, err=True),
    )
    if as_json:
        show_json({"app": str(folder / "app.yml")})
        return
    click.echo(f"{folder / 'app.yml'} is ready. Next:\n  kickwheel turn {quoted(folder)}")
