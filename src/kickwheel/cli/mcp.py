"""`kickwheel mcp`"""

import asyncio
from pathlib import Path

import click

from kickwheel.cli.show import an_app


@click.command()
@click.argument("app", type=click.Path(exists=True, path_type=Path), required=False)
@click.pass_context
def command(context: click.Context, app: Path | None) -> None:
    """Answer over MCP on standard input and output with what APP offers.

    For programs that start their servers themselves; all else that is said goes to standard error.
    Over HTTP, `kickwheel serve` answers at /mcp.
    """
    from kickwheel.serve.mcp.stdio import serve

    asyncio.run(serve(an_app(context, app)))
