"""`kickwheel login`"""

import asyncio
import threading
import webbrowser
from pathlib import Path

import click

from kickwheel.cli.show import app_argument, json_option, show_json


@click.command()
@app_argument
@click.argument("server")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port of this machine that the browser comes back to; by default a free one.",
)
@json_option
def command(server: str, app: Path, port: int, as_json: bool) -> None:
    """Log in at SERVER, an MCP server among APP's tools, by your browser.

    What comes of it is kept in a file that only you can read, and renewed while agents work.
    """
    from kickwheel.agents.tools.mcp import Mcp
    from kickwheel.app import check_app
    from kickwheel.core.errors import UsageError
    from kickwheel.core.plugins import nearest

    plan = check_app(app)
    known = {name: part for (_, name), part in plan.parts.items() if isinstance(part, Mcp)}
    if server not in known:
        raise UsageError(f'{plan.file}: no MCP server "{server}". {nearest(server, known)}')

    def show(url: str) -> None:
        click.echo(f"Open this in a browser, if it does not open by itself:\n{url}", err=True)
        # Some browsers are waited for until they are closed.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    asyncio.run(known[server].log_in(server, plan.folder, plan.store, show, port))
    if as_json:
        show_json({"server": server, "url": known[server].url})
    else:
        click.echo(f"You are logged in at {known[server].url}.")
