"""/v1/metrics: what passes through, as Prometheus reads it.

Where a NIM counts the same, the names are a NIM's. Requests are counted as they pass; what models
did is counted from the traces, in the recorder's own thread, so that no request waits for it.
"""

import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kickwheel.records import Span, Trace, genai
from kickwheel.serve.errors import Refused
from kickwheel.trace.record import Recorder

PATH = "/v1/metrics"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the histograms' buckets, seconds."""
SIZES = tuple(one * 10**power for power in range(6) for one in (1, 2, 5))
"""Of how many tokens a request has."""
ASKS = frozenset(
    {"/t", "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"}
)
"""Routes where models and agents are asked; `/t` has those of the projects."""
OTHER = "other"
"""The label of what could have as many names as somebody likes: of requests that lead nowhere."""
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Methods that are counted apart; others count as `other`."""
MODELS = 500
"""Models that are counted apart; what comes after counts as `other`."""

REASONS = frozenset({"content_filter", "length", "stop", "tool_calls"})
"""Ends that are counted apart."""

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """The counts of one process."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._routes: dict[str, str] = {}
        self._running = 0
        self._requests: dict[tuple[str, str, int], int] = defaultdict(int)
        self._latency: dict[str, _Histogram] = defaultdict(_Histogram)
        self._lock = threading.Lock()
        """Around what the recorder's thread counts."""
        self._answers: dict[tuple[str, str], int] = defaultdict(int)
        self._tokens: dict[tuple[str, str], int] = defaultdict(int)
        self._seconds: dict[str, _Histogram] = defaultdict(_Histogram)
        self._first: dict[str, _Histogram] = defaultdict(_Histogram)
        self._gaps: dict[str, _Histogram] = defaultdict(_Histogram)
        self._sizes: dict[tuple[str, str], _Histogram] = defaultdict(lambda: _Histogram(SIZES))
        self._reasons: dict[tuple[str, str], int] = defaultdict(int)
        recorder.watch(self.take)

    def around(self, app: Any, paths: Iterable[str]) -> Any:
        """The ASGI app, counted.

        Args:
            paths: of routes that are told apart, as far as they are the same for all.
        """
        known = (path.partition("/{")[0] for path in paths)
        self._routes = {path: path for path in known if path}

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            status = 499  # As nginx counts clients that went away.

            async def noted(message: Any) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            route = self._route(scope["path"])
            asks = scope["method"] == "POST" and route in ASKS
            self._running += asks
            began = time.perf_counter()
            try:
                await app(scope, receive, noted)
            finally:
                self._running -= asks
                method = scope["method"] if scope["method"] in METHODS else OTHER
                self._requests[route, method, status] += 1
                self._latency[route].add(time.perf_counter() - began)

        return counted

    def take(self, traces: Sequence[Trace]) -> None:
        """Counts what models and agents did; called in the recorder's thread."""
        with self._lock:
            for trace in traces:
                for span in trace.spans:
                    if span.kind == "model":
                        self._model(span)

    def text(self) -> str:
        """All counts, in Prometheus' text form."""
        lines: list[str] = []
        requests: dict[Labels, int] = {
            (("route", route), ("method", method), ("status", str(status))): count
            for (route, method, status), count in self._requests.copy().items()
        }
        _counter(lines, "http_requests_total", "HTTP requests, by route and status.", requests)
        latency: dict[Labels, _Histogram] = {
            (("route", r),): h for r, h in self._latency.copy().items()
        }
        name = "http_request_duration_seconds"
        _histogram(lines, name, "Until the whole answer was sent.", latency)
        _gauge(lines, "num_requests_running", "Requests to models at work.", self._running)
        with self._lock:
            for name, about, state in (
                ("request_success_total", "Model calls that were answered.", "success"),
                ("request_failure_total", "Model calls that failed.", "failure"),
            ):
                rows = {_of(m): c for (m, s), c in self._answers.items() if s == state}
                _counter(lines, name, about, rows)
            for name, about, kind in (
                ("prompt_tokens_total", "Tokens that models read.", "prompt"),
                ("generation_tokens_total", "Tokens that models wrote.", "generation"),
            ):
                rows = {_of(m): c for (m, k), c in self._tokens.items() if k == kind}
                _counter(lines, name, about, rows)
            name = "e2e_request_latency_seconds"
            _histogram(lines, name, "Model calls.", {_of(m): h for m, h in self._seconds.items()})
            name = "time_to_first_token_seconds"
            _histogram(lines, name, "Of model calls.", {_of(m): h for m, h in self._first.items()})
            name = "time_per_output_token_seconds"
            about = "Of streamed answers, behind the first token."
            _histogram(lines, name, about, {_of(m): h for m, h in self._gaps.items()})
            for kind in ("prompt", "generation"):
                sizes = {_of(m): h for (m, k), h in self._sizes.items() if k == kind}
                _histogram(lines, f"request_{kind}_tokens", "Tokens of a model call.", sizes)
            ends: dict[Labels, int] = {
                (*_of(m), ("finished_reason", reason)): c
                for (m, reason), c in self._reasons.items()
            }
            _counter(lines, "request_finish_total", "Model calls, by how they ended.", ends)
        for name, about, number in (
            ("kickwheel_traces_kept_total", "Traces in the store.", self._recorder.kept),
            ("kickwheel_traces_lost_total", "Traces that were lost.", self._recorder.lost),
        ):
            _counter(lines, name, about, {(): number})
        return "\n".join(lines) + "\n"

    def _route(self, path: str) -> str:
        found = self._routes.get(path)
        while found is None and path:
            path = path.rpartition("/")[0]
            found = self._routes.get(path)
        return found or OTHER

    def _model(self, span: Span) -> None:
        attributes = span.attributes
        model = str(attributes.get(genai.REQUEST_MODEL) or span.name)
        known = (model, "success") in self._answers or (model, "failure") in self._answers
        if not known and len(self._answers) >= MODELS:
            model = OTHER
        self._answers[model, "failure" if span.error else "success"] += 1
        for kind, name in (("prompt", genai.INPUT_TOKENS), ("generation", genai.OUTPUT_TOKENS)):
            count = _whole(attributes.get(name))
            self._tokens[model, kind] += count
            if not span.error:
                self._sizes[model, kind].add(count)
        for reason in _reasons(attributes.get(genai.FINISH_REASONS)):
            self._reasons[model, reason] += 1
        seconds = (span.end_ns - span.start_ns) / 1e9
        self._seconds[model].add(seconds)
        first = attributes.get(genai.TIME_TO_FIRST_CHUNK_S)
        if isinstance(first, float):
            self._first[model].add(first)
            tokens = _whole(attributes.get(genai.OUTPUT_TOKENS))
            # What comes in one piece was long in coming, and then there at once.
            if attributes.get(genai.STREAM) and tokens > 1 and not span.error:
                self._gaps[model].add(max(0.0, seconds - first) / (tokens - 1))


class _Histogram:
    """How often values fell between the bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def metric_routes(metrics: Metrics) -> list[Route]:
    """The route of the counts."""

    def told(request: Request) -> Response:
        if not request.state.caller.house:
            what = "These are the counts of all who ask: they want a key without user and tenant."
            raise Refused(403, what, code="house_only")
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(metrics.text(), media_type=kind)

    return [Route(PATH, told)]


def _of(model: str) -> Labels:
    return (("model_name", model),)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def _reasons(value: object) -> Iterable[str]:
    """Why it ended, in the words that there are."""
    told = value if isinstance(value, list) else []
    return [one if one in REASONS else OTHER for one in told]


def _counter(lines: list[str], name: str, about: str, rows: Mapping[Labels, int]) -> None:
    lines += [f"# HELP {name} {about}", f"# TYPE {name} counter"]
    lines += [f"{name}{_written(labels)} {count}" for labels, count in rows.items()]


def _gauge(lines: list[str], name: str, about: str, value: int) -> None:
    lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {value}"]


def _histogram(lines: list[str], name: str, about: str, rows: Mapping[Labels, _Histogram]) -> None:
    lines += [f"# HELP {name} {about}", f"# TYPE {name} histogram"]
    for labels, found in rows.items():
        so_far = 0
        for bound, count in zip((*found.bounds, "+Inf"), found.counts, strict=True):
            so_far += count
            lines.append(f"{name}_bucket{_written((*labels, ('le', str(bound))))} {so_far}")
        lines.append(f"{name}_sum{_written(labels)} {found.total:.9g}")
        lines.append(f"{name}_count{_written(labels)} {so_far}")


def _written(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
