"""Traces of an app's store, as OTLP."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kickwheel.app import Plan
from kickwheel.core.errors import KickwheelError, UsageError
from kickwheel.core.files import writing
from kickwheel.core.store import EVERYTHING, Sight, open_store
from kickwheel.flywheel.traffic import plan_of
from kickwheel.records import Trace
from kickwheel.trace.otlp import plain
from kickwheel.trace.otlp.target import Target
from kickwheel.trace.otlp.write import write
from kickwheel.trace.store import Traces

TRIES = 6
"""How often a collector that is away is asked for each request, twice as long apart each time."""

Progress = Callable[[float, float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What left."""

    to: str
    traces: int
    spans: int
    rejected: int = 0
    """Spans that the collector did not take."""


def export(
    app: Path,
    to: str,
    *,
    workload: str | None = None,
    tenant: str | None = None,
    headers: dict[str, str] | None = None,
    on_progress: Progress | None = None,
) -> Exported:
    """Writes the store's traces to a file, or sends them to a collector.

    Args:
        app: the app file, its folder, or one in which traffic was recorded without an app.
        to: a file, which gets a line of OTLP JSON for each trace; or the URL of a collector.
        workload: only this one's traces; by default all.
        tenant: only this one's traces; by default all.
        headers: of each request; by default those that the file's `trace.export` names for this
            URL.
        on_progress: told traces done, traces in all, and a note.
    Raises:
        KickwheelError: the collector does not take them; what it took before stays there.
        UsageError: there are none; a file that was there stays as it was.
        StoreError: the file cannot be written; it is as it was.
    """
    plan = plan_of(app)
    sight = Sight(tenant) if tenant else EVERYTHING
    with open_store(plan.store, plan.database) as store:
        traces = Traces(store)
        total = traces.count(workload, sight=sight)
        if not total:
            raise UsageError(
                f"{plan.store}: no traces{_of(workload, tenant)}. `kickwheel traces` lists all."
            )
        told = _telling(traces.all(workload, sight=sight), total, on_progress)
        if "://" in to:
            return asyncio.run(_send(told, _target(plan, to, headers)))
        return _write(told, Path(to))


def _of(workload: str | None, tenant: str | None) -> str:
    named = (("", workload), ("tenant ", tenant))
    return "".join(f' of {what}"{name}"' for what, name in named if name)


def line(trace: Trace) -> bytes:
    """The trace as a line of OTLP JSON."""
    return plain.write(write([trace])) + b"\n"


def _telling(traces: Iterator[Trace], total: int, told: Progress | None) -> Iterator[Trace]:
    for done, trace in enumerate(traces, 1):
        yield trace
        if told is not None:
            told(min(done, total), total, f"{done} traces")


def _write(traces: Iterator[Trace], file: Path) -> Exported:
    count = spans = 0
    with writing(file) as lines:
        for trace in traces:
            lines.write(line(trace))
            count, spans = count + 1, spans + len(trace.spans)
    return Exported(to=str(file), traces=count, spans=spans)


async def _send(traces: Iterator[Trace], target: Target) -> Exported:
    from kickwheel.trace.otlp import protobuf
    from kickwheel.trace.otlp.send import RETRY_S, Refused, connected, post, requests

    protobuf.check()
    count = spans = rejected = 0

    def counted() -> Iterator[Trace]:
        nonlocal count
        for trace in traces:
            count += 1
            yield trace

    async with connected() as session:
        for body, held in requests(counted()):
            for tried in range(TRIES):
                try:
                    rejected += await post(session, target, body)
                    break
                except Refused as refused:
                    if not refused.retry or tried + 1 == TRIES:
                        raise KickwheelError(
                            f"{refused}. {spans} spans were sent before; a collector that knows "
                            "spans by their ids takes the same again."
                        ) from refused
                    after_s = refused.after_s
                    await asyncio.sleep(RETRY_S * 2**tried if after_s is None else after_s)
            spans += held
    return Exported(to=target.traces, traces=count, spans=spans, rejected=rejected)


def _target(plan: Plan, url: str, headers: dict[str, str] | None) -> Target:
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url} is no URL of a collector: it begins with http:// or https://")
    export = plan.config.trace.export
    if headers is None and export is not None:
        named = export.target()
        if named.traces == Target(url).traces:
            return named
    return Target(url, headers or {})
