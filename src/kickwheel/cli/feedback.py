"""`kickwheel feedback`"""

from pathlib import Path
from typing import Literal

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.argument("trace")
@click.argument("verdict", type=click.Choice(["good", "bad"]))
@click.option("--answer", help="The answer that would have been right, as text.")
@click.option(
    "--call", help='The call that would have been right: {"name": …, "arguments": {…}} as JSON.'
)
@click.option("--note", default="", help="Why.")
@json_option
def command(
    trace: str,
    verdict: Literal["good", "bad"],
    answer: str | None,
    call: str | None,
    note: str,
    app: Path,
    as_json: bool,
) -> None:
    """Say of TRACE (its id, or how it begins) whether the answer was good or bad."""
    from kickwheel.flywheel.traffic import feedback

    identity = feedback(trace, verdict, app=app, answer=answer, call=call, note=note)
    if as_json:
        show_json({"trace": identity, "verdict": verdict})
        return
    click.echo(f"trace {identity[:12]}: {verdict}, noted")
