"""`kickwheel serve`"""

import asyncio
import gc
import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kickwheel.cli.show import app_argument, no_app_here

if TYPE_CHECKING:
    from kickwheel.app import Plan
    from kickwheel.serve.recorded import Upstream

NEW_OBJECTS = 10_000
"""After how many the collector looks for cycles. A request holds some hundreds while it runs, so at
Python's 700 it would look at every second request, and find nothing."""


@click.command()
@partial(app_argument, needed=False)
@click.option("--host", help="Address to listen on; other than loopback only with a key.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one. By default that of the file, else 8000.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that answer; each has engines of its own.",
)
@click.option(
    "--record",
    metavar="[URL]",
    is_flag=False,
    flag_value="",
    help="Pass what is asked at /t/PROJECT/v1 on to this server, and keep it as PROJECT's traces; "
    "by default to OPENAI_BASE_URL, else to OpenAI. Needs no APP.",
)
@click.option("--parent", type=int, hidden=True)
@click.pass_context
def command(
    context: click.Context,
    app: Path | None,
    host: str | None,
    port: int | None,
    workers: int,
    record: str | None,
    parent: int | None,
) -> None:
    """Answer over the OpenAI protocol with the agents and models of APP, or of a snapshot.

    Beside /v1: /mcp and /a2a/AGENT for other programs' agents, /v1/traces for OTLP, /v1/metrics.

    With KICKWHEEL_API_KEY set (or serve.auth in the file) every route but health wants a key;
    without one only this machine is answered.
    """
    from kickwheel.serve.workers import end_with, serve_in_processes

    if parent is not None:
        end_with(parent)
    from kickwheel.app import check_app, no_app, open_app, resumed
    from kickwheel.core import redact
    from kickwheel.serve.auth import Keys, check_host
    from kickwheel.serve.doors import doors
    from kickwheel.serve.opened import opened
    from kickwheel.serve.recorded import passing
    from kickwheel.serve.server import Front, loop_factory, serve
    from kickwheel.serve.tokens import tokens
    from kickwheel.serve.worker import Runner

    if app is None and record is None:
        raise no_app_here(context)
    plan = check_app(app) if app is not None else no_app(Path())
    keys, loop = plan.config.serve.keys(), plan.config.flywheel
    oauth = tokens(plan.config.serve)
    keyed = bool(Keys(keys, oauth))
    upstream = _upstream(record, plan, keyed=keyed)
    wanted = "an API key" if oauth is None else "an API key or a token"
    said = f"every route but health wants {wanted}" if keyed else "no key: this machine only"

    def tell(url: str) -> None:
        # What the start has made stays until the end: never looked at again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS, 20, 20)
        does = [f"{url}/v1 answers"] if app is not None else []
        if upstream is not None:
            does.append(f"{url}/t/PROJECT/v1 passes on to {redact.text(upstream.url)}")
        click.echo(f"{'; '.join(does)} ({said}). Ctrl-C ends it.")

    where = host or plan.config.serve.host
    at = plan.config.serve.port if port is None else port
    if workers > 1:
        again = [sys.executable, "-m", "kickwheel", "serve", "--host", where]
        again += [] if app is None else [str(app)]
        again += [] if record is None else [f"--record={record}"]
        check_host(where, Keys(keys, oauth))
        serve_in_processes(again, workers, where, at, click.echo)
        return

    async def run() -> None:
        async with AsyncExitStack() as stack:
            live = await stack.enter_async_context(open_app(plan))
            house = await stack.enter_async_context(opened(live))
            routes = await stack.enter_async_context(doors(live, house, alone=parent is None))
            recorded = None
            if upstream is not None:
                recorded = await stack.enter_async_context(
                    passing(upstream, live.recorder, keyed=keyed)
                )
            options = loop.tune.model_dump(exclude_none=True) if loop else {}
            given = {"store": str(plan.store), "options": options, "database": plan.database}
            runner = Runner("kickwheel.serve.tuning:run", given)
            front = Front(
                house,
                live.store,
                live.traces,
                live.recorder,
                keys=keys,
                tokens=oauth,
                runner=runner,
                keeper=live.keeper,
                doors=routes,
                recorded=recorded,
            )
            await live.keeper.resume(
                partial(resumed, live), lambda agent: ("agents", agent) in live.live
            )
            await serve(
                front,
                where,
                at,
                on_ready=tell,
                shared=parent is not None,
            )
        if upstream is not None or live.recorder.lost:
            click.echo(f"{live.recorder.kept} traces kept, {live.recorder.lost} lost")

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())


def _upstream(record: str | None, plan: "Plan", *, keyed: bool) -> "Upstream | None":
    """Where recorded traffic goes; `None` where none is recorded."""
    from kickwheel.core.config import key_from
    from kickwheel.models.client import OpenAI, default_url
    from kickwheel.serve.recorded import Upstream, check_url

    part = plan.parts.get(("models", plan.config.serve.record or ""))
    if not record and isinstance(part, OpenAI):
        upstream = Upstream(*part.where(), part.prices)
    elif record is None:
        return None
    else:
        # Who shows no key of ours shows the upstream's, and that one passes on. Ours is for the
        # server that it was given for, and for no other.
        own = key_from("${OPENAI_API_KEY}") if keyed and record in ("", default_url()) else None
        upstream = Upstream(record or default_url(), own)
    check_url(upstream.url)
    return upstream
