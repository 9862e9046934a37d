"""Traces to a collector, in the background.

    async with sending(Target("http://collector:4318")) as sender:
        sender.take(traces)              # from any thread; never waits

What waits is bounded. A collector that is away or busy is asked again, longer and longer apart;
what it does not take, and what finds no place meanwhile, is counted and logged. What leaves has
passed `core.redact`.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime

import aiohttp

from kickwheel.core import redact
from kickwheel.core.errors import unreached
from kickwheel.records import Trace
from kickwheel.trace.otlp import protobuf
from kickwheel.trace.otlp.observed import Group, Unreadable
from kickwheel.trace.otlp.target import Target
from kickwheel.trace.otlp.write import write

BATCH = 512
"""Spans of one request at most; as OpenTelemetry's own exporters do."""
BODY_BYTES = 8 << 20
"""Bytes of one request at most, unless a single span has more: OpenTelemetry's collector takes 20
MiB by default."""
PAUSE_S = 1.0
"""How long the first span of a request waits for more."""
WAITING = 20_000
"""Spans that wait at most."""
TIMEOUT_S = 10.0
RETRY_S, RETRY_MOST_S = 1.0, 30.0
"""Seconds before a collector is asked again: at first, and at most."""
CLOSE_S = 5.0
"""Seconds that what waits has to leave at the end."""
LATER = frozenset({429, 502, 503, 504})
"""Statuses after which OTLP wants the same again."""

_log = logging.getLogger(__name__)


class Refused(Exception):
    """A collector does not take a request, now or ever."""

    def __init__(self, why: str, *, retry: bool, after_s: float | None = None) -> None:
        super().__init__(why)
        self.retry = retry
        self.after_s = after_s


class Sender:
    """Takes traces and sends them; `sending` opens one."""

    def __init__(self, target: Target, session: aiohttp.ClientSession) -> None:
        self.sent = 0
        """Spans that the collector took."""
        self.lost = 0
        """Spans that it did not, or that found no place to wait."""
        self._target = target
        self._session = session
        self._waiting: deque[Trace] = deque()
        self._held = 0
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._some = asyncio.Event()
        self._closing = asyncio.Event()
        self._told = False

    def take(self, traces: Iterable[Trace]) -> None:
        """Lets the traces wait for the next request."""
        dropped = 0
        with self._lock:
            for trace in traces:
                # One alone may be larger than all that waits.
                if self._waiting and self._held + len(trace.spans) > WAITING:
                    dropped += len(trace.spans)
                else:
                    self._waiting.append(trace)
                    self._held += len(trace.spans)
        if dropped:
            self._lose(dropped, f"more than {WAITING} spans wait for {self._target.traces}")
        with contextlib.suppress(RuntimeError):
            # The loop may be closed by now; then nothing more is sent.
            self._loop.call_soon_threadsafe(self._some.set)

    async def run(self) -> None:
        """Sends until `close`, and what waits then."""
        while not (self._closing.is_set() and not self._waiting):
            await self._some.wait()
            self._some.clear()
            if self._held < BATCH and not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), PAUSE_S)
            while batch := self._next():
                for body, spans in await asyncio.to_thread(self._bodies, batch):
                    await self._deliver(body, spans)

    async def close(self, running: "asyncio.Task[None]") -> None:
        """Sends what waits, for `CLOSE_S` at most; the rest is lost."""
        self._closing.set()
        self._some.set()
        try:
            await asyncio.wait_for(asyncio.shield(running), CLOSE_S)
        except TimeoutError:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        left, self._held = self._held, 0
        self._waiting.clear()
        if left:
            self._lose(left, f"{self._target.traces} did not take them in time")

    def _next(self) -> list[Trace]:
        batch: list[Trace] = []
        with self._lock:
            while self._waiting and (
                not batch or sum(len(t.spans) for t in batch) + len(self._waiting[0].spans) <= BATCH
            ):
                batch.append(self._waiting.popleft())
            self._held -= sum(len(trace.spans) for trace in batch)
        return batch

    def _bodies(self, batch: list[Trace]) -> list[tuple[bytes, int]]:
        """The requests with these traces; one that cannot be written is lost, and no other."""
        try:
            return list(requests(redact.trace(trace) for trace in batch))
        except Exception as error:  # Its content is anybody's, as tools that are nested too deep.
            if len(batch) > 1:
                return [body for trace in batch for body in self._bodies([trace])]
            self._lose(len(batch[0].spans), f"{type(error).__name__} in trace {batch[0].id}")
            return []

    async def _deliver(self, body: bytes, spans: int) -> None:
        pause_s = RETRY_S
        try:
            while True:
                try:
                    taken = spans - await post(self._session, self._target, body)
                except Refused as refused:
                    if not refused.retry:
                        self._lose(spans, str(refused))
                        return
                    self._tell(f"{refused}; asked again until it takes them")
                    wanted_s = pause_s if refused.after_s is None else refused.after_s
                    await asyncio.sleep(min(wanted_s, RETRY_MOST_S))
                    pause_s = min(2 * pause_s, RETRY_MOST_S)
                else:
                    self.sent += taken
                    if taken < spans:
                        self._lose(spans - taken, f"{self._target.traces} rejected them")
                    self._told = False
                    return
        except asyncio.CancelledError:
            self._lose(spans, "the program ended")
            raise

    def _lose(self, spans: int, why: str) -> None:
        with self._lock:
            self.lost += spans
        self._tell(why)

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            _log.warning("Spans were not exported: %s", why)


@contextlib.asynccontextmanager
async def sending(target: Target) -> AsyncGenerator[Sender]:
    """A sender, at work while the block runs.

    Raises:
        MissingExtra: the packages for protobuf are not there.
    """
    protobuf.check()
    async with connected() as session:
        sender = Sender(target, session)
        running = asyncio.create_task(sender.run())
        try:
            yield sender
        finally:
            await sender.close(running)
            if sender.lost:
                _log.warning(
                    "%d spans did not reach %s; they are in the store, and `kickwheel export` "
                    "sends them.",
                    *(sender.lost, target.traces),
                )


def connected() -> aiohttp.ClientSession:
    """A session for `post`."""
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
    )


async def post(session: aiohttp.ClientSession, target: Target, body: bytes) -> int:
    """Sends one request, and says how many of its spans were rejected.

    Raises:
        Refused: the collector did not take it.
    """
    where = target.traces
    headers = {**target.headers, "content-type": protobuf.CONTENT_TYPE}
    try:
        # A redirect could carry the headers, which may hold a key, to somebody else.
        async with session.post(where, data=body, headers=headers, allow_redirects=False) as came:
            text = await came.read()
            if came.status == 200:
                rejected, _ = protobuf.answered(text)
                return rejected
            after_s = _after_s(came.headers.get("retry-after"))
            said = redact.text(text[:200].decode("utf-8", "replace")).strip()
            raise Refused(
                f"{where} says {came.status}: {said}",
                retry=came.status in LATER,
                after_s=after_s,
            )
    except Unreadable:
        return 0  # It took them, in words of its own.
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Refused(f"{where} cannot be reached: {unreached(error)}", retry=True) from error


def requests(traces: Iterable[Trace]) -> Iterator[tuple[bytes, int]]:
    """Bodies of requests with these traces, and how many spans are in each."""
    groups: list[Group] = []
    spans = 0
    for group in write(traces):
        for first in range(0, len(group.spans), BATCH):
            some = group.spans[first : first + BATCH]
            if spans + len(some) > BATCH:
                yield from _parted(groups)
                groups, spans = [], 0
            groups.append(replace(group, spans=some))
            spans += len(some)
    if groups:
        yield from _parted(groups)


def _parted(groups: list[Group]) -> Iterator[tuple[bytes, int]]:
    """One request, or several where it is larger than collectors take."""
    spans = sum(len(group.spans) for group in groups)
    body = protobuf.write(groups)
    if len(body) <= BODY_BYTES or spans == 1:
        yield body, spans
        return
    single = [replace(group, spans=(span,)) for group in groups for span in group.spans]
    yield from _parted(single[: spans // 2])
    yield from _parted(single[spans // 2 :])


def _after_s(written: str | None) -> float | None:
    """What Retry-After says, in seconds or as a date."""
    if not written:
        return None
    try:
        return max(0.0, float(written))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(written).timestamp() - time.time())
    except ValueError:
        return None
