"""`kickwheel curate`"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kickwheel.cli.show import app_argument, json_option, show_json, table

if TYPE_CHECKING:
    from kickwheel.records import Cleanliness


@click.command()
@app_argument
@json_option
def command(app: Path, as_json: bool) -> None:
    """Make a dataset from APP's traces: train, validation and test, sharing no question."""
    from kickwheel.cli.steps import Steps
    from kickwheel.flywheel.wheel import wheel

    with Steps() as watch, wheel(app, watch=watch) as steps:
        steps.take_in()
        identity = steps.curate()
        dataset = steps.made.dataset(identity)
        folder = steps.made.folder("dataset", identity)
    if as_json:
        show_json({"dataset": identity, "folder": str(folder), "steps": dataset.steps})
        return
    rows = [
        (
            step.name,
            step.kept,
            step.changed or "",
            ", ".join(f"{count} {reason}" for reason, count in step.dropped.items()),
        )
        for step in dataset.steps
    ]
    click.echo(table(rows, ("step", "kept", "changed", "dropped")))
    click.echo(f"\n{_seen(dataset.cleanliness)}\ndataset  {folder}")


def _seen(proof: "Cleanliness") -> str:
    if not proof.tested:
        return (
            "no test questions, so nothing can be compared on it: bring more traffic, or ask for "
            "more (flywheel.curate.test)"
        )
    return (
        f"unseen: {'yes' if proof.clean else 'NO'}; of {proof.tested} test questions "
        f"{proof.exact} stand elsewhere word for word, {proof.near} nearly"
    )
