"""`kickwheel why`"""

from pathlib import Path

import click

from kickwheel.cli.show import json_option, show_json


@click.command()
@click.argument("example")
@click.option(
    "--app", type=click.Path(exists=True, path_type=Path), default=Path(), help="App to look in."
)
@json_option
def command(example: str, app: Path, as_json: bool) -> None:
    """Show the way of EXAMPLE (id of an example or trace, or how it begins).

    Its trace and feedback, what each curation did with it, the datasets it is in, what contestants
    answered, the adapters made from it, and what the gate said.
    """
    from kickwheel.flywheel.why import why

    way = why(example, app)
    if as_json:
        show_json(way)
        return
    trace = way.trace
    click.echo(f"trace    {trace.id}  {trace.workload}  from {trace.source}")
    for span in trace.spans:
        for message in span.input:
            click.echo(f"  {message.role:9} {message.content or ''}")
        for message in span.output:
            calls = " ".join(f"{c.name}{c.arguments}" for c in message.tool_calls)
            click.echo(f"  {'answer':9} {message.content or calls}")
    for said in trace.feedback:
        note = f": {said.note}" if said.note else ""
        click.echo(f"feedback {said.verdict}{note}")
    for dataset, drop in way.dropped:
        click.echo(f"dataset  {dataset}: dropped in {drop.step}: {drop.reason}")
    for stay in way.stays:
        click.echo(f"dataset  {stay.dataset}: {stay.example.split}, example {stay.example.id}")
        learned = "tuned on it" if stay.example.split == "train" else "did not learn from it"
        for adapter in stay.adapters:
            click.echo(f"adapter  {adapter}: {learned}")
        for report, outcome in stay.outcomes:
            mark = "right" if outcome.right else "wrong"
            click.echo(f"report   {report}: {outcome.contestant:14} {mark}  {outcome.answer}")
        for report, verdict in stay.verdicts:
            click.echo(f"verdict  {report}: {verdict}")
    for ref, target in way.refs:
        click.echo(f"at work  {ref} → {target}")
