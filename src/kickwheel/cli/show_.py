"""`kickwheel show`"""

from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.argument("question")
@click.option("--as", "name", help="Agent or model to ask; by default the app's own.")
@json_option
def command(app: Path, question: str, name: str | None, as_json: bool) -> None:
    """Print the exact request that QUESTION would first send; nothing is asked."""
    from kickwheel.app import show

    sent = show(app, question, name=name)
    if as_json:
        show_json(sent)
        return
    body = dict(sent.body)
    head = f"POST {sent.url}" if sent.url else "to the engine on this machine"
    click.echo(click.style(f"{sent.model}: {head}", dim=True))
    # What a model reads as it is, and a grammar, are read by people as they are, too.
    texts = {name: body.pop(name) for name in ("prompt", "grammar") if name in body}
    show_json(body)
    for name, text in texts.items():
        click.echo(click.style(f"── {name} ──", dim=True))
        click.echo(text)
