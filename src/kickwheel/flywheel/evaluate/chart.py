"""Charts as SVG text, without scripts and without styles of their own.

Colours come from the classes of `STYLE`, so that a page under a strict Content-Security-Policy puts
it into its style sheet once, and a chart follows the page into the dark. All text is escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """
.chart { width: 100%; height: auto; display: block; font: 12px/1.2 system-ui, sans-serif; }
.chart text { fill: var(--ink); }
.chart .axis { fill: var(--muted); }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .mark { fill: var(--other); stroke: none; }
.chart .bar { stroke: var(--other); stroke-width: 2; fill: none; }
.chart .dot { fill: var(--other); fill-opacity: .35; stroke: none; }
.chart .band { fill: var(--other); fill-opacity: .15; stroke: none; }
.chart .chosen.mark, .chart .chosen.dot, .chart .chosen.band { fill: var(--accent); }
.chart .chosen.bar { stroke: var(--accent); }
.chart .strong { font-weight: 600; }
.chart .dashed { stroke-dasharray: 5 4; }
"""

_WIDTH = 720
_LABEL = 190
_RIGHT = 150
_ROW = 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A value with its interval, in a row of its own."""

    label: str
    value: float
    low: float
    high: float
    note: str = ""
    chosen: bool = False
    """Drawn in the colour of what the chart is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """All values of one row."""

    label: str
    values: Sequence[float]
    chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve; `band` has its interval at each point."""

    label: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float]] = ()
    chosen: bool = False
    dashed: bool = False


def dots(rows: Sequence[Dot], title: str, *, percent: bool = True) -> str:
    """A row for each value: a dot at it, a bar along its interval, its note at the right."""
    top = max((row.high for row in rows), default=1.0)
    bottom = min((row.low for row in rows), default=0.0)
    low, high = (0.0, 1.0) if percent else (min(0.0, bottom), max(top, 1e-9))
    scale = _Scale(low, high, _LABEL, _WIDTH - _RIGHT)
    height = _ROW * len(rows) + 34
    parts = []
    for tick in _ticks(low, high):
        text = f"{100 * tick:.0f} %" if percent else f"{tick:g}"
        parts += _tick(scale(tick), height, text)
    for number, row in enumerate(rows):
        y = _ROW * number + 20
        kind = " chosen" if row.chosen else ""
        left, right = scale(row.low), scale(row.high)
        parts += [
            _text(_LABEL - 14, y + 4, row.label, "strong" if row.chosen else "", "end"),
            f'<path class="bar{kind}" d="M{left:.1f} {y}H{right:.1f}M{left:.1f} {y - 4}v8'
            f'M{right:.1f} {y - 4}v8"/>',
            f'<circle class="mark{kind}" cx="{scale(row.value):.1f}" cy="{y}" r="5"/>',
            _text(_WIDTH - _RIGHT + 14, y + 4, row.note, "strong" if row.chosen else ""),
        ]
    return _svg(height, title, parts)


def spread(rows: Sequence[Values], title: str, *, unit: str = "s") -> str:
    """Every value as a dot in its row, on a logarithmic axis; bars at the median and the 95th
    percentile."""
    rows = [row for row in rows if any(value > 0 for value in row.values)]
    known = [value for row in rows for value in row.values if value > 0]
    if not known:
        return ""
    low, high = _decades(min(known), max(known))
    scale = _Scale(math.log10(low), math.log10(high), _LABEL, _WIDTH - _RIGHT)
    height = (_ROW + 10) * len(rows) + 34
    parts = []
    for tick in _log_ticks(low, high):
        parts += _tick(scale(math.log10(tick)), height, f"{tick:g} {unit}")
    for number, row in enumerate(rows):
        y = (_ROW + 10) * number + 24
        kind = " chosen" if row.chosen else ""
        values = sorted(value for value in row.values if value > 0)
        parts.append(_text(_LABEL - 14, y + 4, row.label, "strong" if row.chosen else "", "end"))
        for place, value in enumerate(values):
            # Dots are lifted by the golden ratio's multiples: even, and the same every time.
            lift = ((place * 0.618034) % 1 - 0.5) * 20
            x = scale(math.log10(value))
            parts.append(f'<circle class="dot{kind}" cx="{x:.1f}" cy="{y + lift:.1f}" r="2.5"/>')
        middle, late = _at(values, 0.5), _at(values, 0.95)
        for value in (middle, late):
            x = scale(math.log10(value))
            parts.append(f'<path class="bar{kind}" d="M{x:.1f} {y - 14}v28"/>')
        note = f"{middle:.2f} / {late:.2f} {unit}"
        parts.append(_text(_WIDTH - _RIGHT + 14, y + 4, note, "strong" if row.chosen else ""))
    return _svg(height, title, parts)


def lines(curves: Sequence[Line], title: str, *, x: str, y: str, percent: bool = False) -> str:
    """Curves over one pair of axes."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    xs = [px for curve in curves for px, _ in curve.points]
    ys = [py for curve in curves for _, py in curve.points]
    ys += [bound for curve in curves for pair in curve.band for bound in pair]
    low, high = (0.0, 1.0) if percent else (min(0.0, *ys), max(ys))
    if high <= low:
        high = low + 1
    # Two of them stand side by side on a page.
    width, height, left, right = 480, 260, 54, 380
    along = _Scale(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, left, right)
    up = _Scale(low, high, height - 46, 16)
    parts = []
    for tick in _ticks(low, high):
        text = f"{100 * tick:.0f} %" if percent else f"{tick:g}"
        at = up(tick)
        parts.append(f'<path class="grid" d="M{left} {at:.1f}H{right}"/>')
        parts.append(_text(left - 8, at + 4, text, "axis", "end"))
    for tick in _ticks(along.low, along.high):
        parts.append(_text(along(tick), height - 28, f"{tick:g}", "axis", "middle"))
    parts.append(_text((left + right) / 2, height - 8, x, "axis", "middle"))
    parts.append(_text(left, 10, y, "axis"))
    taken: list[float] = []
    for curve in curves:
        kind = (" chosen" if curve.chosen else "") + (" dashed" if curve.dashed else "")
        places = [(along(px), up(py)) for px, py in curve.points]
        if curve.band:
            upper = [f"{px:.1f} {up(b):.1f}" for (px, _), (_, b) in zip(places, curve.band)]  # noqa: B905
            lower = [f"{px:.1f} {up(a):.1f}" for (px, _), (a, _) in zip(places, curve.band)]  # noqa: B905
            parts.append(f'<path class="band{kind}" d="M{"L".join([*upper, *lower[::-1]])}Z"/>')
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in places)
        parts.append(f'<path class="bar{kind}" d="M{path}"/>')
        if len(places) <= 30:
            parts += [
                f'<circle class="mark{kind}" cx="{px:.1f}" cy="{py:.1f}" r="3"/>'
                for px, py in places
            ]
        at = places[-1][1]
        while any(abs(at - other) < 15 for other in taken):
            at += 15
        taken.append(at)
        parts.append(_text(right + 10, at + 4, curve.label, "strong" if curve.chosen else ""))
    return _svg(height, title, parts, width)


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def _svg(height: int, title: str, parts: Sequence[str], width: int = _WIDTH) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    text = text if len(text) <= 40 else f"{text[:39]}…"
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _tick(x: float, height: int, text: str) -> list[str]:
    return [
        f'<path class="grid" d="M{x:.1f} 4V{height - 24}"/>',
        _text(x, height - 8, text, "axis", "middle"),
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers between the bounds."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + i) * step, 12) for i in range(max(0, count))]


def _decades(low: float, high: float) -> tuple[float, float]:
    """Bounds a little outside, at least a factor of four apart."""
    low, high = low * 0.85, high * 1.18
    if high < 4 * low:
        middle = math.sqrt(low * high)
        low, high = middle / 2, middle * 2
    return low, high


def _log_ticks(low: float, high: float) -> list[float]:
    found = [
        digit * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digit in (1, 2, 5)
    ]
    found = [round(tick, 12) for tick in found if low <= tick <= high]
    return found if len(found) <= 8 else [t for t in found if math.log10(t).is_integer()]


def _at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
