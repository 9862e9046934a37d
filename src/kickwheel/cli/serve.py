"""`kickwheel serve`"""

import asyncio
import gc
import sys
from functools import partial
from pathlib import Path

import click

from kickwheel.cli.show import app_argument

NEW_OBJECTS = 10_000
"""After how many the collector looks for cycles. A request holds some hundreds while it runs, so at
Python's 700 it would look at every second request, and find nothing."""


@click.command()
@app_argument
@click.option("--host", help="Address to listen on; other than loopback only with a key.")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that answer; each has engines of its own.",
)
@click.option("--shared", is_flag=True, hidden=True)
def command(app: Path, host: str | None, port: int | None, workers: int, shared: bool) -> None:
    """Answer over the OpenAI protocol with the agents and models of APP, or of a snapshot.

    With KICKWHEEL_API_KEY set (or serve.auth.key in the file) every route but health wants that
    key; without one only this machine is answered.
    """
    from kickwheel.app import check_app, open_app, resumed
    from kickwheel.serve.auth import Keys, check_host
    from kickwheel.serve.doors import doors
    from kickwheel.serve.opened import opened
    from kickwheel.serve.server import Front, loop_factory, serve
    from kickwheel.serve.worker import Runner
    from kickwheel.serve.workers import serve_in_processes

    plan = check_app(app)
    key, loop = plan.config.serve.key(), plan.config.flywheel
    said = "every route but health wants the API key" if key else "no key: this machine only"

    def tell(url: str) -> None:
        # What the start has made stays until the end: never looked at again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS, 20, 20)
        click.echo(f"{url}/v1 answers ({said}). Ctrl-C ends it.")

    where = host or plan.config.serve.host
    at = plan.config.serve.port if port is None else port
    if workers > 1:
        again = [sys.executable, "-m", "kickwheel", "serve", str(app), "--host", where, "--shared"]
        check_host(where, Keys([key] if key else []))
        serve_in_processes(again, workers, where, at, click.echo)
        return

    async def run() -> None:
        async with open_app(plan) as live, opened(live) as house, doors(live, house) as routes:
            options = loop.tune.model_dump(exclude_none=True) if loop else {}
            given = {"store": str(plan.store), "options": options, "database": plan.database}
            runner = Runner("kickwheel.serve.tuning:run", given)
            front = Front(
                house,
                live.store,
                live.traces,
                live.recorder,
                keys=[key] if key else [],
                runner=runner,
                keeper=live.keeper,
                doors=routes,
            )
            await live.keeper.resume(
                partial(resumed, live), lambda agent: ("agents", agent) in live.live
            )
            await serve(
                front,
                where,
                at,
                on_ready=tell,
                shared=shared,
            )

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
