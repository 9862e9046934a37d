"""`kickwheel import`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, progress, show_json


@click.command()
@app_argument
@click.argument("traffic", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--workload", help="Whose traffic it is, where the file does not say.")
@click.option(
    "--form",
    metavar="FORM",
    help="Of what form it is, where the file does not tell: chat, tensorzero, langfuse, phoenix, "
    "opentelemetry or atif.",
)
@json_option
def command(
    traffic: Path, app: Path, workload: str | None, form: str | None, as_json: bool
) -> None:
    """Land TRAFFIC as traces: OpenAI chats, the fine-tuning form, Data Flywheel records, exports
    of TensorZero, Langfuse and Phoenix, OpenTelemetry spans, ATIF trajectories.

    JSON Lines, JSON or CSV; the form is told from the first entries. Broken entries are named and
    kept aside; above 10 % of them nothing lands. The same file again adds nothing.
    """
    from kickwheel.flywheel.traffic import import_

    with progress(f"import {traffic.name}") as bar:
        landed = import_(traffic, app, workload=workload, form=form, on_progress=bar.update)
    if as_json:
        show_json(landed)
        return
    for line in landed.told():
        click.echo(line)
