"""`kickwheel memory`"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from kickwheel.cli.show import app_argument, json_option, show_json, table

if TYPE_CHECKING:
    from kickwheel.agents.memory import Fact, Ledger


@click.command()
@app_argument
@click.argument("what", type=click.Choice(["list", "why", "forget", "export"]))
@click.option("--user", help="Whose facts.")
@click.option("--fact", help="Its id, as list shows it.")
@click.option("--tenant", default="", help="Of which tenant the user is.")
@click.option("--past", is_flag=True, help="List those that no longer hold, too.")
@click.option("--yes", is_flag=True, help="Forget without asking.")
@json_option
def command(
    what: Literal["list", "why", "forget", "export"],
    user: str | None,
    fact: str | None,
    tenant: str,
    past: bool,
    yes: bool,
    app: Path,
    as_json: bool,
) -> None:
    """See and delete what agents remember of a person.

    \b
    list    what is known of --user
    why     where --fact came from: the message, and its trace
    forget  deletes all of --user, or --fact alone; it cannot be taken back
    export  all that is known of --user, as JSON
    """
    from kickwheel.agents.memory import Ledger
    from kickwheel.app import check_app
    from kickwheel.core.store import open_store

    if what == "why" and fact is None:
        raise click.UsageError("why needs --fact: its id, as `kickwheel memory list` shows it")
    if what != "why" and user is None:
        raise click.UsageError(f"{what} needs --user")
    plan = check_app(app)
    with open_store(plan.store, plan.database) as store:
        ledger = Ledger(store.database)
        if what == "why":
            _why(ledger.why(fact or ""), as_json)
        elif what == "list":
            known = [f for f in ledger.of(tenant, user or "") if past or f.valid_to is None]
            _list(known, user or "", tenant, as_json)
        elif what == "export":
            show_json(ledger.export(user or "", tenant=tenant))
        else:
            _forget(ledger, user or "", tenant, fact, yes, as_json)


def _list(facts: "list[Fact]", user: str, tenant: str, as_json: bool) -> None:
    if as_json:
        show_json(facts)
        return
    if not facts:
        whose = f"in tenant {tenant}" if tenant else "without a tenant: --tenant names theirs"
        click.echo(f'nothing is known of "{user}" {whose}')
        return
    rows = [
        (fact.id, _day(fact.valid_from), _day(fact.valid_to), fact.kind, fact.text)
        for fact in facts
    ]
    click.echo(table(rows, ("fact", "from", "to", "kind", "what was said")))


def _why(fact: "Fact", as_json: bool) -> None:
    if as_json:
        show_json(fact)
        return
    click.echo(f"fact   {fact.id}  {fact.text}")
    click.echo(
        f"since  {_day(fact.valid_from)}" + (f" to {_day(fact.valid_to)}" if fact.valid_to else "")
    )
    click.echo(f"said   by the {fact.origin}: {fact.said}")
    click.echo(f"trace  {fact.trace or 'none: it was added outside a request'}")


def _forget(
    ledger: "Ledger", user: str, tenant: str, fact: str | None, yes: bool, as_json: bool
) -> None:
    about = f'fact {fact} of "{user}"' if fact else f'all that is known of "{user}"'
    if not yes:
        click.confirm(f"Delete {about}? It cannot be taken back.", abort=True, err=True)
    gone = ledger.forget(user, tenant=tenant, fact=fact)
    if as_json:
        show_json(gone)
        return
    whose = "" if fact or tenant else " What they said in a tenant stays: --tenant names it."
    click.echo(f"{gone.facts} facts and {gone.turns} kept turns are deleted.{whose}")
    if gone.traces:
        click.echo("What was said still stands in these traces, and in datasets made of them:")
        for trace in gone.traces:
            click.echo(f"  {trace}")


def _day(time_ns: int | None) -> str:
    return (
        "" if time_ns is None else datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d")
    )
