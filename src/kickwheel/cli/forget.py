"""`kickwheel forget`"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kickwheel.cli.show import app_argument, json_option, show_json

if TYPE_CHECKING:
    from kickwheel.flywheel.forget import Gone


@click.command()
@app_argument
@click.option(
    "--days",
    type=click.FloatRange(min=0, min_open=True),
    help="Traces that are older go, and nothing else.",
)
@click.option("--user", help="Only what this user made; without --days all of it.")
@click.option("--tenant", help="Only what is this tenant's; with --user, of which tenant they are.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@json_option
def command(
    app: Path, days: float | None, user: str | None, tenant: str | None, yes: bool, as_json: bool
) -> None:
    """Delete old traces of APP with what was said of them, or all that is kept of --user.

    Of a user go traces, runs, responses, A2A tasks, uploaded files, and what agents remember of
    them. A user of that name in another tenant is somebody else. Pictures that nothing names any
    more go, too. Datasets, adapters, reports and jobs that were made of all this stay.
    """
    from kickwheel.flywheel.forget import forget

    if days is None and not user:
        raise click.UsageError("say --days, or --user")
    if not yes:
        named = f' of user "{user}"' if user else ""
        named += f' of tenant "{tenant}"' if tenant else " of no tenant" if user else ""
        what = f"all that is kept{named}"
        if days is not None:
            what = f"all traces{named} that are older than {days:g} days"
        click.confirm(f"Delete {what}? It cannot be taken back.", abort=True, err=True)
    gone = forget(app, days=days, tenant=tenant, user=user)
    if as_json:
        show_json(gone)
        return
    if days is None:
        click.echo(_of_person(gone))
    click.echo(f"{gone.traces} traces deleted, and {gone.pictures} pictures ({gone.bytes:,} bytes)")


def _of_person(gone: "Gone") -> str:
    return (
        f"{gone.runs} runs, {gone.responses} responses, {gone.tasks} tasks, {gone.files} files, "
        f"{gone.facts} facts and {gone.turns} kept turns deleted"
    )
