"""`kickwheel why`"""

import json
from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json
from kickwheel.records import Message


@click.command()
@app_argument
@click.argument("example")
@json_option
def command(example: str, app: Path, as_json: bool) -> None:
    """Show the way of EXAMPLE (id of an example or trace, or how it begins).

    Its trace and feedback, what each curation did with it, the datasets it is in, what contestants
    answered, the adapters made from it, and what the gate said.
    """
    from kickwheel.flywheel.why import said_in, why

    way = why(example, app)
    if as_json:
        show_json(way)
        return
    trace = way.trace
    click.echo(f"trace    {trace.id}  {trace.workload}  from {trace.source}")
    for message in said_in(trace):
        click.echo(f"  {message.role:9} {_shown(message)}")
    for said in trace.feedback:
        click.echo(f"feedback {said.verdict}{f': {said.note}' if said.note else ''}")
        if said.answer is not None:
            click.echo(f"  {'right':9} {_shown(said.answer)}")
        for call in said.accepted:
            values = ", ".join(
                f"{name}: {' or '.join(json.dumps(v, ensure_ascii=False) for v in accepted)}"
                for name, accepted in call.arguments.items()
            )
            click.echo(f"  {'accepted':9} {call.name}({values})")
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


def _shown(message: Message) -> str:
    calls = " ".join(f"{call.name}{call.arguments}" for call in message.tool_calls)
    return " ".join(part for part in (message.content, calls) if part)
