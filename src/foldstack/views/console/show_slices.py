"""Scores of parts of the out-of-fold rows on the console."""

from __future__ import annotations

import math

from foldstack.progress import say, table
from foldstack.records import SliceRow, ViewsRecord
from foldstack.views.console import show
from foldstack.views.console.text import nested, say_marks, say_undefined


@show.register
def _(found: ViewsRecord) -> None:
    over = "" if found.folds is None else f" over {found.folds}"
    say(
        f"{found.marks.name}: {found.metric} of {nested(found.folds)}out-of-fold predictions, "
        f"pooled{over} ({found.file}); intervals by bootstrap over rows, without the variance between "
        "seeds"
    )
    header = ["view", "rows", "score [95 % interval]", "better than the rest by", ""]
    say(table(header, [_cells(row) for row in found.rows]))
    if any(row.differs for row in found.rows):
        say(
            "* differs from the rest by more than chance, at 5 % for all comparisons together "
            "(Bonferroni)"
        )
    say("duplicates once: every text counts as one row; compared with all rows")
    for row in found.rows:
        if row.why:
            say(f"{row.view}: undefined, since {row.why}")
    say_undefined(found.marks.name, found.undefined)
    say_marks(found.marks.name, found.marks.stale, found.marks.optimistic)


def _cells(row: SliceRow) -> list[str]:
    score = "undefined" if math.isnan(row.score) else f"{row.score:.4f}"
    if math.isfinite(row.low):
        score += f" [{row.low:.4f}, {row.high:.4f}]"
    better = ""
    if math.isfinite(row.better_by):
        better = f"{row.better_by:+.4f} ± {row.standard_error:.4f}"
    return [row.view, f"{row.rows:,}", score, better, "*" if row.differs else ""]
