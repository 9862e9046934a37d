"""Spans around what runs, written in batches by one thread.

    with recorder.trace("concierge", "concierge") as root:      # once a request
        with span("model", "specialist") as asked:               # anywhere below, in any task
            asked.input = request.messages
            asked.attributes[genai.INPUT_TOKENS] = 35

What runs only notes; records are made, redacted and written by the recorder's own thread. A store
that is full or locked never breaks a call: traces wait in memory up to `WAITING`, and what could
not be kept is counted and logged.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from kickwheel.core.errors import StoreError
from kickwheel.core.identity import fresh
from kickwheel.records import Message, Span, SpanKind, ToolSpec, Trace, genai
from kickwheel.records.trace import Value
from kickwheel.trace.store import Traces

BATCH = 200
"""Traces that are written without waiting for more."""
PAUSE_S = 0.2
"""How long the writer waits for more before it writes fewer."""
WAITING = 10_000
"""Traces that wait in memory at most while the store cannot be written."""
WAITING_BYTES = 256 << 20
"""Bytes that those of them which are still to be read hold at most."""
RETRY_S = 1.0

_log = logging.getLogger(__name__)


class OpenSpan:
    """A span that is still running; the body of its `with` fills it in."""

    __slots__ = (
        "_noted",
        "_outer",
        "attributes",
        "end_ns",
        "error",
        "id",
        "input",
        "kind",
        "name",
        "output",
        "start_ns",
        "tools",
    )

    def __init__(self, kind: SpanKind, name: str, noted: "_Noted | None" = None) -> None:
        self.id = fresh(8)
        self.kind: SpanKind = kind
        self.name = name
        self.start_ns = 0
        self.end_ns = 0
        """0 while it runs."""
        self.attributes: dict[str, Value] = {}
        """By the names of `records.genai`."""
        self.error: str | None = None
        """Set by hand, or by an exception that leaves the body."""
        self.input: tuple[Message, ...] = ()
        self.output: tuple[Message, ...] = ()
        self.tools: tuple[ToolSpec, ...] = ()
        self._noted = noted
        self._outer: OpenSpan | None = None

    @property
    def trace_id(self) -> str | None:
        """Id of the trace that the span belongs to; `None` outside one."""
        return None if self._noted is None else self._noted.id

    def __enter__(self) -> Self:
        outer = current()
        if outer is not None:
            self._outer = outer
            self._noted = outer._noted
        if self._noted is not None:
            self.start_ns = self._noted.shift_ns + time.perf_counter_ns()
            self._noted.spans.append(self)
            _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and self.error is None:
            self.fail(error)
        noted = self._noted
        if noted is None:
            return
        self.end_ns = noted.shift_ns + time.perf_counter_ns()
        # Not by token: a generator may be closed in another context, and later than its parent.
        if _current.get() is self:
            _current.set(self._outer)
        if self._outer is None:
            noted.recorder._keep(partial(_record, noted))

    def fail(self, error: BaseException) -> None:
        """Notes that the step failed with `error`, where no `raise` will say so."""
        name = type(error).__name__
        cancelled = isinstance(error, asyncio.CancelledError | GeneratorExit)
        self.error = "cancelled" if cancelled else f"{name}: {error}"
        self.attributes[genai.ERROR_TYPE] = name


class _Noted:
    """A trace while it runs."""

    __slots__ = ("id", "recorder", "shift_ns", "spans", "whose", "workload")

    def __init__(self, recorder: "Recorder", workload: str, identity: str) -> None:
        self.id = identity
        self.recorder = recorder
        self.workload = workload
        self.whose = recorder.whose()
        # Spans of one trace share a clock that does not jump.
        self.shift_ns = time.time_ns() - time.perf_counter_ns()
        self.spans: list[OpenSpan] = []


_current: ContextVar[OpenSpan | None] = ContextVar("kickwheel_span", default=None)


def current() -> OpenSpan | None:
    """The innermost span that is running here; `None` outside a trace."""
    found = _current.get()
    while found is not None and found.end_ns:
        found = found._outer
    return found


def root() -> OpenSpan | None:
    """The span of the whole request that runs here; `None` outside a trace."""
    found = current()
    while found is not None and found._outer is not None:
        found = found._outer
    return found


def span(kind: SpanKind, name: str) -> OpenSpan:
    """A span around the body of `with`, inside the one that is running here.

    Outside a trace it works all the same and is dropped. A task that is started inside belongs
    inside, as long as the trace is open. Around a stream, open it where the stream is read, or
    inside the generator around all its yields: what the reader opens meanwhile is then nested.
    """
    return OpenSpan(kind, name)


class Recorder:
    """Takes finished traces and writes them, many at a time, from one thread.

    A context manager: at its end all that waits is written.
    """

    def __init__(
        self,
        traces: Traces,
        pass_on: Callable[[Sequence[Trace]], None] | None = None,
        whose: Callable[[], tuple[str, str]] = lambda: ("", ""),
    ) -> None:
        """
        Args:
            pass_on: gets each trace as well, not yet redacted; must not wait.
            whose: tenant and user that the work which calls it is done for.
        """
        self.whose = whose
        self.kept = 0
        """Traces written since the start."""
        self.lost = 0
        """Traces that could not be kept."""
        self._traces = traces
        self._takers = [] if pass_on is None else [pass_on]
        self._waiting: deque[tuple[Callable[[], Trace], int]] = deque()
        self._held = 0
        """Bytes that what waits holds."""
        self._wake = threading.Event()
        self._full = threading.Event()
        self._written = threading.Condition()
        self._taken = 0
        self._settled = 0
        self._closing = False
        self._told = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def trace(
        self, workload: str, name: str, kind: SpanKind = "agent", *, identity: str | None = None
    ) -> OpenSpan:
        """The root span of a new trace; inside a trace that is open here, a span of that one.

        Args:
            workload: whose work it is; traces are listed and curated by it.
            name: the root span's name.
            identity: the trace's id, 32 hex digits, where it must be known beforehand.
        """
        return OpenSpan(kind, name, _Noted(self, workload, identity or fresh(16)))

    def watch(self, take: Callable[[Sequence[Trace]], None]) -> None:
        """Hands each trace to `take` as well, not yet redacted, in the recorder's own thread, where
        it must not wait."""
        self._takers.append(take)

    def later(self, make: Callable[[], Trace], size: int) -> None:
        """Keeps a trace that the recorder's own thread makes, so that its request need not wait.

        Args:
            make: called once; what it raises is logged, and the trace counted as lost.
            size: bytes that it holds until then.
        """
        whose = self.whose()
        self._keep(partial(_theirs, make, whose) if any(whose) else make, size)

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Waits until all that ended before this call is written or lost; `False` at timeout."""
        with self._written:
            goal = self._taken
            self._full.set()
            self._wake.set()
            return self._written.wait_for(lambda: self._settled >= goal, timeout_s)

    def close(self) -> None:
        """Writes what waits, tries once more what failed, and ends the thread."""
        with self._written:
            self._closing = True
        self._full.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self, make: Callable[[], Trace], size: int = 0) -> None:
        with self._written:
            # Looked at under the lock: what is appended before `close` has it is still written.
            refused = "the store is being closed" if self._closing else None
            if len(self._waiting) >= WAITING or self._held + size > WAITING_BYTES:
                refused = "too many traces wait to be written"
            if refused is None:
                self._taken += 1
                self._held += size
                self._waiting.append((make, size))
                if self._thread is None:
                    self._start()
        if refused is not None:
            self._lose(1, refused)
            return
        if not self._wake.is_set():
            self._wake.set()
        if len(self._waiting) >= BATCH and not self._full.is_set():
            self._full.set()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="kickwheel-traces", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not (self._closing and not self._waiting):
            self._wake.wait()
            self._full.wait(PAUSE_S)
            self._full.clear()
            self._wake.clear()
            while self._waiting:
                count = min(len(self._waiting), BATCH)
                batch = [self._waiting.popleft() for _ in range(count)]
                self._write(batch)

    def _write(self, batch: Sequence[tuple[Callable[[], Trace], int]]) -> None:
        records = []
        for make, _ in batch:
            with self._losing_one():
                records.append(make())
        for take in self._takers:
            try:
                take(records)
            except Exception:  # What else is done with them must not keep them from being kept.
                _log.exception("traces were kept, but not passed on")
        while True:
            try:
                self._traces.add(records)
                self.kept += len(records)
                break
            except StoreError as error:
                self._tell(str(error))
                if self._closing or len(self._waiting) >= WAITING:
                    self._lose(len(records), str(error))
                    break
                time.sleep(RETRY_S)
            except Exception:
                # One of them cannot be written at all, as with half a surrogate pair in its text.
                for record in records:
                    with self._losing_one():
                        self.kept += self._traces.add([record])
                break
        with self._written:
            self._settled += len(batch)
            self._held -= sum(size for _, size in batch)
            self._written.notify_all()

    @contextlib.contextmanager
    def _losing_one(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._lose(1, f"{type(error).__name__}: {error}")

    def _lose(self, count: int, why: str) -> None:
        with self._written:
            self.lost += count
        self._tell(why)

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            _log.warning("Traces cannot be kept; calls go on without. %s", why)


def _theirs(make: Callable[[], Trace], whose: tuple[str, str]) -> Trace:
    tenant, user = whose
    return replace(make(), tenant=tenant, user=user)


def _record(noted: _Noted) -> Trace:
    tenant, user = noted.whose
    end_ns = noted.spans[0].end_ns
    # A trace and its spans hold each other: they are freed here, not by the collector.
    spans, noted.spans = noted.spans, []
    return Trace(
        id=noted.id,
        workload=noted.workload,
        spans=tuple(
            Span(
                id=span.id,
                parent=None if span._outer is None else span._outer.id,
                kind=span.kind,
                name=span.name,
                start_ns=span.start_ns,
                end_ns=span.end_ns or end_ns,
                attributes=span.attributes,
                error=span.error if span.end_ns else "still running when the request ended",
                input=span.input,
                output=span.output,
                tools=span.tools,
            )
            for span in spans
        ),
        tenant=tenant,
        user=user,
    )
