"""Charts as inline SVG: lines, intervals, bars and dots, each mark with a text for the pointer.

Widths are those of a phone, so that the letters stay readable there; a wide screen shows them larger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 12, 44
COLOURS = 8
LONGEST = 34  # characters of a name beside a mark


@dataclass(frozen=True)
class Mark:
    """A point (x, y) with the text that the pointer shows."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True)
class Series:
    """A line with its marks; colour: its number; style: `line`, `dashed` or `dots`."""

    name: str
    marks: Sequence[Mark]
    colour: int = 0
    style: str = "line"


@dataclass(frozen=True)
class Span:
    """A line of a chart of intervals.

    others: (x, class, tip) of further marks, such as an in-sample score.
    """

    name: str
    score: float
    low: float
    high: float
    tip: str
    colour: int = 0
    others: Sequence[tuple[float, str, str]] = field(default_factory=tuple)


@dataclass(frozen=True)
class Axis:
    """A scale from values to pixels. least, most: of the values; first, last: of the pixels."""

    least: float
    most: float
    first: float
    last: float

    @classmethod
    def of(
        cls, values: Iterable[float], first: float, last: float, within: tuple = (None, None)
    ) -> Axis:
        """Return a scale that holds these values, and both of `within` if they are given."""
        finite = [v for v in values if math.isfinite(v)]
        finite += [v for v in within if v is not None]
        least, most = (min(finite), max(finite)) if finite else (0.0, 1.0)
        room = (most - least) * 0.04 or abs(most) * 0.05 or 0.5
        least = least - room if within[0] is None else least
        most = most + room if within[1] is None else most
        return cls(least, most, first, last)

    def __call__(self, value: float) -> float:
        share = (value - self.least) / (self.most - self.least or 1)
        return round(self.first + share * (self.last - self.first), 1)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values within the scale."""
        rough = (self.most - self.least) / about or 1
        size = 10 ** math.floor(math.log10(rough))
        step = next(s * size for s in (1, 2, 2.5, 5, 10) if s * size >= rough * 0.999)
        first = math.ceil(self.least / step - 1e-9)
        last = math.floor(self.most / step + 1e-9)
        return [round(k * step, 10) for k in range(first, last + 1)]


def label(value: float) -> str:
    """Return a tick's text."""
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.4g}"


def short(name: str, most: int = LONGEST) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def svg(title: str, height: float, parts: Iterable[Markup]) -> Markup:
    """Return a chart with its accessible name."""
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, round(height, 1), title, Markup("").join(parts)
    )


def axes(x: Axis, y: Axis, names: tuple[str, str]) -> list[Markup]:
    """Return grid, ticks and names of both axes."""
    bottom = y.first
    parts = [
        Markup(
            '<path class="grid" d="M{0} {1}H{2}"/><text class="tick end" x="{3}" y="{4}">{5}</text>'
        ).format(x.first, y(t), x.last, x.first - 6, y(t) + 4, label(t))
        for t in y.ticks()
    ]
    parts += [
        Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(x(t), bottom + 17, label(t))
        for t in x.ticks()
    ]
    middle = (x.first + x.last) / 2
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(x.first, bottom, x.last))
    parts.append(
        Markup('<text class="name mid" x="{}" y="{}">{}</text>').format(
            middle, bottom + 37, names[0]
        )
    )
    height = (y.first + y.last) / 2
    turned = Markup('<text class="name mid" transform="translate(13 {}) rotate(-90)">{}</text>')
    return [*parts, turned.format(height, names[1])]


def lines(
    title: str,
    series: Sequence[Series],
    names: tuple[str, str],
    *,
    x_within: tuple = (None, None),
    y_within: tuple = (None, None),
    diagonal: tuple[float, float] | None = None,
) -> Markup:
    """Return a chart of lines and dots.

    Args:
        title: the accessible name.
        series: what is drawn.
        names: of the axes.
        x_within, y_within: bounds that the axes have at least; None for those of the values.
        diagonal: from where to where to draw the line on which both axes are equal.

    Returns:
        The SVG.
    """
    marks = [mark for each in series for mark in each.marks]
    x = Axis.of([m.x for m in marks], LEFT, WIDTH - RIGHT, x_within)
    y = Axis.of([m.y for m in marks], HEIGHT - BOTTOM, TOP, y_within)
    parts = axes(x, y, names)
    if diagonal:
        a, b = diagonal
        path = f"M{x(a)} {y(a)}L{x(b)} {y(b)}"
        parts.append(Markup('<path class="ideal" d="{}"/>').format(path))
    for each in series:
        parts += _line(each, x, y)
    return svg(title, HEIGHT, parts)


def _line(series: Series, x: Axis, y: Axis) -> list[Markup]:
    colour = series.colour % COLOURS
    parts = []
    if series.style != "dots" and series.marks:
        path = "L".join(f"{x(m.x)} {y(m.y)}" for m in series.marks)
        drawn = Markup('<path class="{} c{}" d="M{}"/>')
        parts.append(drawn.format(series.style, colour, path))
    kind = "dot" if series.style == "dots" else "hit"
    circle = Markup('<circle class="{} c{}" cx="{}" cy="{}" r="{}" data-tip="{}"/>')
    size = 3.5 if kind == "dot" else 5
    return parts + [circle.format(kind, colour, x(m.x), y(m.y), size, m.tip) for m in series.marks]


def spans(title: str, items: Sequence[Span], name: str) -> Markup:
    """Return a chart of scores with their intervals, one below the other under its name."""
    step, top = 36, 6
    values = [v for each in items for v in (each.score, each.low, each.high)]
    values += [other[0] for each in items for other in each.others]
    bottom = top + step * len(items)
    x = Axis.of(values, 12, WIDTH - 12)
    grid = Markup(
        '<path class="grid" d="M{0} {1}V{2}"/><text class="tick mid" x="{0}" y="{3}">{4}</text>'
    )
    parts = [grid.format(x(t), top, bottom, bottom + 16, label(t)) for t in x.ticks()]
    for number, each in enumerate(items):
        parts += _span(each, x, top + step * number)
    parts.append(
        Markup('<text class="name mid" x="{}" y="{}">{}</text>').format(
            WIDTH / 2, bottom + 35, name
        )
    )
    return svg(title, bottom + 42, parts)


def _span(item: Span, x: Axis, top: float) -> list[Markup]:
    """Return one line of a chart of intervals."""
    colour, middle = item.colour % COLOURS, top + 25
    parts = [
        Markup('<text class="label" x="12" y="{}">{}</text>').format(top + 12, short(item.name, 48))
    ]
    if math.isfinite(item.low) and math.isfinite(item.high):
        drawn = Markup('<path class="bar c{}" d="M{} {}H{}"/>')
        parts.append(drawn.format(colour, x(item.low), middle, x(item.high)))
    for value, kind, tip in item.others:
        if math.isfinite(value):
            hangs = kind == "optimistic"  # below the dot, which may be at the same place
            wide, high, up = (3, 13, 0) if hangs else (9, 9, 4.5)
            place = (round(x(value) - wide / 2, 1), middle - up)
            mark = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}" data-tip="{}"/>')
            parts.append(mark.format(kind, *place, wide, high, tip))
    if math.isfinite(item.score):
        dot = Markup('<circle class="dot c{}" cx="{}" cy="{}" r="5" data-tip="{}"/>')
        parts.append(dot.format(colour, x(item.score), middle, item.tip))
    return parts


def bars(title: str, items: Sequence[tuple[str, Sequence[tuple[float, int, str]]]]) -> Markup:
    """Return horizontal bars: per name (length, colour, tip) of each of its bars."""
    thick = 8
    most = max(
        (value for _, own in items for value, _, _ in own if math.isfinite(value)), default=1
    )
    parts, y = [], 4.0
    x = Axis(0, most or 1, 12, WIDTH - 66)
    for name, own in items:
        text = Markup('<text class="label" x="12" y="{}">{}</text>')
        parts.append(text.format(y + 11, short(name, 48)))
        y += 17
        for value, colour, tip in own:
            if not math.isfinite(value):
                continue
            drawn = Markup(
                '<rect class="fill c{}" x="12" y="{}" width="{}" height="{}" rx="2" data-tip="{}"/>'
                '<text class="tick" x="{}" y="{}">{}</text>'
            )
            end = max(x(value), 13.0)
            shown = label(value) if most > 1 else f"{value:.1%}"
            parts.append(
                drawn.format(colour, y, round(end - 12, 1), thick, tip, end + 5, y + 8, shown)
            )
            y += thick + 3
        y += 7
    return svg(title, y + 2, parts)
