"""The figures of the page: from its record to charts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from foldstack.records import (
    Agreement,
    FilesCompared,
    LeaderRow,
    PageRecord,
    PlotLine,
    ReliabilityLine,
    SliceRow,
    ThresholdCurve,
)
from foldstack.views.page.charts import COLOURS, Mark, Series, Span, bars, lines, spans

MOST_SPANS = 24


def colours(names: Sequence[str]) -> dict[str, int]:
    """Return a colour per name, by first appearance."""
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def legend(names: Sequence[str]) -> Markup:
    """Return a list of names with their colours."""
    item = Markup('<li class="c{}"><bdi>{}</bdi></li>')
    items = [item.format(number % COLOURS, name) for name, number in colours(names).items()]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def interval(score: float, low: float, high: float) -> str:
    """Return `0.8012 [0.7903, 0.8121]`."""
    if math.isnan(score):
        return "undefined"
    return f"{score:.4f}" + ("" if math.isnan(low) else f" [{low:.4f}, {high:.4f}]")


def leaderboard(page: PageRecord) -> Markup:
    rows = page.leaders[:MOST_SPANS]
    return spans(
        f"{page.metric} of each blend and model with its 95 % interval",
        [_leader(row) for row in rows],
        f"{page.metric}, {page.better} is better",
    )


def _leader(row: LeaderRow) -> Span:
    in_sample = (
        row.in_sample,
        "optimistic",
        f"{row.name}: in-sample {row.in_sample:.4f}, OPTIMISTIC",
    )
    private = (row.private, "private", f"{row.name}: private {row.private:.4f}")
    marks = "".join(
        f", {m}" for m, why in (("STALE", row.stale), ("OPTIMISTIC", row.optimistic)) if why
    )
    return Span(
        name=f"{row.name} ({row.what}{marks})",
        score=row.nested,
        low=row.low,
        high=row.high,
        tip=f"{row.name}: nested {interval(row.nested, row.low, row.high)}{marks}",
        colour=0 if row.what == "blend" else 7,
        others=(in_sample, private),
    )


def curves(title: str, found: Sequence[PlotLine], names: tuple[str, str]) -> Markup:
    """Return learning curves, one colour per model."""
    colour = colours([line.of for line in found])
    series = [
        Series(
            line.name,
            [Mark(x, y, f"{line.name}: {names[0]} {x:,.0f}, {y:.4g}") for x, y in line.points],
            colour[line.of],
        )
        for line in found
    ]
    return lines(title, series, names)


def weights(found: Agreement) -> Markup:
    """Return the weight of each model; the mean over labels if each has its own."""
    items = []
    for number, (name, own) in enumerate(found.weights.items()):
        mean = sum(own) / len(own)
        many = f", {min(own):.3f} to {max(own):.3f} over labels" if len(own) > 1 else ""
        items.append((name, [(mean, number, f"{name}: weight {mean:.3f}{many}")]))
    return bars("Weight of each model in the blend", items)


def reliability(found: Sequence[ReliabilityLine]) -> Markup:
    colour = colours([f"{line.candidate} {line.output}" for line in found])
    series = [
        Series(
            line.output,
            [
                Mark(
                    p,
                    rate,
                    f"{line.candidate}, {line.output}: said {p:.3f}, true {rate:.3f}, {n:,} rows",
                )
                for p, rate, n in line.bins
            ],
            colour[f"{line.candidate} {line.output}"],
        )
        for line in found
    ]
    return lines(
        "Observed rate by predicted probability",
        series,
        ("predicted probability", "observed rate"),
        x_within=(0, 1),
        y_within=(0, 1),
        diagonal=(0, 1),
    )


def threshold(curve: ThresholdCurve) -> Markup:
    marks = [Mark(t, s, f"threshold {t:.3f}: {curve.metric} {s:.4f}") for t, s in curve.points]
    series = [Series(curve.label, marks)]
    if not math.isnan(curve.at_chosen):
        how = "chosen, in-sample: OPTIMISTIC" if curve.fitted else "in use, not fitted"
        tip = f"{how}; threshold {curve.chosen:.4f}: {curve.metric} {curve.at_chosen:.4f}"
        point = Mark(curve.chosen, curve.at_chosen, tip)
        series.append(Series("chosen", [point], 1, style="dots"))
    return lines(
        f"{curve.metric} of {curve.label} by threshold",
        series,
        ("threshold", curve.metric),
        x_within=(0, 1),
    )


def scatter(points: Sequence[tuple[float, float]]) -> Markup:
    marks = [Mark(a, b, f"true {a:.4g}, predicted {b:.4g}") for a, b in points]
    least, most = min(a for a, _ in points), max(a for a, _ in points)
    return lines(
        "Out-of-fold prediction by true value",
        [Series("rows", marks, style="dots")],
        ("true", "predicted"),
        diagonal=(least, most),
    )


def slices(found: Sequence[SliceRow], metric: str) -> Markup:
    items = [
        Span(
            name=f"{row.view} ({row.rows:,} rows)" + (" *" if row.differs else ""),
            score=row.score,
            low=row.low,
            high=row.high,
            tip=f"{row.view}: {interval(row.score, row.low, row.high)}, {row.rows:,} rows",
            colour=1 if row.differs else 0,
        )
        for row in [row for row in found if not math.isnan(row.score)][:MOST_SPANS]
    ]
    return spans(f"{metric} on parts of the rows with 95 % intervals", items, metric)


def histogram(files: FilesCompared, unit: str) -> Markup:
    series = [
        Series(
            line.of,
            [
                Mark(x, y, f"{line.of}: {x:,.0f} {unit}, {y:.2%} of rows per {unit[:-1]}")
                for x, y in line.points
            ],
            0 if line.of == "train" else 1,
        )
        for line in files.histograms
        if line.name == unit
    ]
    return lines(
        f"Rows by length in {unit}, train and test",
        series,
        (unit, f"share of rows per {unit[:-1]}"),
        y_within=(0, None),
    )


def shares(files: FilesCompared) -> Markup:
    items = [
        (
            share.label,
            [
                (share.train, 0, f"{share.label}: {share.train:.2%} of training rows"),
                (
                    share.predicted,
                    7,
                    f"{share.label}: predicted for {share.predicted:.2%} out of fold",
                ),
                (share.test, 1, f"{share.label}: predicted for {share.test:.2%} of test rows"),
            ],
        )
        for share in files.shares[:MOST_SPANS]
    ]
    return bars("Share of rows with each label", items)
