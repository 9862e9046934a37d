"""`kickwheel schema`"""

import click


@click.command()
def command() -> None:
    """Print the JSON Schema of the app file, with every kind that is installed.

    Editors complete and check with it: put `# yaml-language-server: $schema=FILE` on the first
    line of app.yml.
    """
    import json

    from kickwheel.app import schema

    click.echo(json.dumps(schema(), indent=1, sort_keys=True, ensure_ascii=False))
