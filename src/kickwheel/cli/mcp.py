"""`kickwheel mcp`"""

import asyncio
from pathlib import Path

import click

from kickwheel.cli.show import app_argument


@click.command()
@app_argument
def command(app: Path) -> None:
    """Answer over MCP on standard input and output with what APP offers.

    For programs that start their servers themselves; all else that is said goes to standard error.
    Over HTTP, `kickwheel serve` answers at /mcp.
    """
    from kickwheel.serve.mcp.stdio import serve

    asyncio.run(serve(app))
