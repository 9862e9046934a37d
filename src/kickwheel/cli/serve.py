"""`kickwheel serve`"""

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kickwheel.cli.show import app_argument, no_app_here

if TYPE_CHECKING:
    from kickwheel.app import Plan
    from kickwheel.serve.recorded import Upstream
    from kickwheel.serve.worker import Runner

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
    from kickwheel.app import check_app, no_app
    from kickwheel.serve.auth import Keys, check_host
    from kickwheel.serve.server import loop_factory
    from kickwheel.serve.tokens import tokens

    if app is None and record is None:
        raise no_app_here(context)
    plan = check_app(app) if app is not None else no_app(Path())
    keys = Keys(plan.config.serve.keys(), tokens(plan.config.serve))
    keyed = bool(keys)
    upstream = _upstream(record, plan, keyed=keyed)
    where = host or plan.config.serve.host
    at = plan.config.serve.port if port is None else port
    if workers > 1:
        again = [sys.executable, "-m", "kickwheel", "serve", "--host", where]
        again += [] if app is None else [str(app)]
        again += [] if record is None else [f"--record={record}"]
        check_host(where, keys)
        serve_in_processes(again, workers, where, at, click.echo)
        return

    wanted = "an API key or a token" if plan.config.serve.auth.oauth else "an API key"
    whom = f"every route but health wants {wanted}" if keyed else "no key: this machine only"

    def ready(url: str) -> None:
        # What the start has made stays until the end: never looked at again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS, 20, 20)
        click.echo(_said(url, upstream, whom, answers=app is not None))

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(plan, upstream, where, at, ready, keyed=keyed, alone=parent is None))


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


def _said(url: str, upstream: "Upstream | None", whom: str, *, answers: bool) -> str:
    """The line that tells that the server is up: what answers where, and whom."""
    from kickwheel.core import redact

    does = [f"{url}/v1 answers"] if answers else []
    if upstream is not None:
        does.append(f"{url}/t/PROJECT/v1 passes on to {redact.text(upstream.url)}")
    return f"{'; '.join(does)} ({whom}). Ctrl-C ends it."


async def _serve(
    plan: "Plan",
    upstream: "Upstream | None",
    host: str,
    port: int,
    ready: Callable[[str], None],
    *,
    keyed: bool,
    alone: bool,
) -> None:
    """Opens the app, goes on with the runs that were left, and answers until it is told to end."""
    from kickwheel.app import open_app, resumed
    from kickwheel.serve.recorded import passing
    from kickwheel.serve.server import serve
    from kickwheel.serve.serving import front

    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(open_app(plan))
        recorded = None
        if upstream is not None:
            recorded = await stack.enter_async_context(passing(upstream, app.recorder, keyed=keyed))
        door = await stack.enter_async_context(
            front(app, alone=alone, runner=_runner(plan), recorded=recorded)
        )
        await app.keeper.resume(partial(resumed, app), lambda agent: ("agents", agent) in app.live)
        await serve(door, host, port, on_ready=ready, shared=not alone)
    if upstream is not None or app.recorder.lost:
        click.echo(f"{app.recorder.kept} traces kept, {app.recorder.lost} lost")


def _runner(plan: "Plan") -> "Runner":
    """What does the fine-tuning jobs of the app, as its file has them tuned."""
    from kickwheel.serve.worker import Runner

    loop = plan.config.flywheel
    options = loop.tune.model_dump(exclude_none=True) if loop else {}
    given = {"store": str(plan.store), "options": options, "database": plan.database}
    return Runner("kickwheel.serve.tuning:run", given)
