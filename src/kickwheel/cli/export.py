"""`kickwheel export`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, progress, show_json


@click.command()
@app_argument
@click.argument("to", metavar="FILE|URL")
@click.option("--workload", help="Only the traces of this agent, model or project.")
@click.option("--tenant", help="Only the traces of this tenant.")
@json_option
def command(app: Path, to: str, workload: str | None, tenant: str | None, as_json: bool) -> None:
    """Write the traces of APP as OTLP: to a FILE, a line of JSON a trace, or to a collector's URL.

    Headers for the URL are those of `trace: {export: …}` in the app file, where it names the same
    URL.
    """
    from kickwheel.flywheel.export import export

    with progress("export") as bar:
        done = export(app, to, workload=workload, tenant=tenant, on_progress=bar.update)
    if as_json:
        show_json(done)
        return
    click.echo(f"{done.traces} traces ({done.spans} spans) are in {done.to}")
    if done.rejected:
        click.echo(f"{done.rejected} spans were rejected there", err=True)
