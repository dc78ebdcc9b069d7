"""Differences between models and a baseline on the console."""

from __future__ import annotations

import math
from collections.abc import Sequence

from foldstack.progress import say, table
from foldstack.records import ComparedModel, Comparison, DifferenceRecord
from foldstack.views.console import show
from foldstack.views.console.text import difference, number, say_marks, say_undefined


@show.register
def _(found: Comparison) -> None:
    whole = len(found.folds) == found.folds_in_all
    over = f"the {found.folds_in_all} folds"
    if not whole:
        over = f"folds {_list(found.folds)} of {found.folds_in_all} ({found.scored_rows:,} rows)"
    seeds = found.seeds
    of = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {_list(seeds)}"
    say(
        f"compare: {found.baseline} has {found.metric} {number(found.score)}, pooled over {over}, {of}"
    )
    _say_interval(found)
    parts = ["± rows", "± seeds"] if "seeds" in found.interval_over else []
    header = [
        f"against {found.baseline}",
        found.metric,
        "better by [95 % interval]",
        *parts,
        "by seed",
        "time",
    ]
    say(table(header, [_cells(row, bool(parts)) for row in found.rows]))
    say_undefined("compare", found.undefined)
    for name, optimistic in found.optimistic.items():
        say_marks(name, [], optimistic)


def _say_interval(found: Comparison) -> None:
    if "seeds" in found.interval_over:
        say(
            f"compare: intervals over rows and {len(found.seeds)} seeds of each model, by a t quantile; "
            "± rows and ± seeds are the two parts of the standard error"
        )
    elif found.interval_over:
        say(
            "compare: intervals over rows only, since one seed shows no variance between seeds; "
            "SEED=0,1,2 includes it"
        )


def _cells(row: ComparedModel, with_parts: bool) -> list[str]:
    parts = [number(row.row_error), number(row.seed_error)] if with_parts else []
    return [
        row.model,
        number(row.score),
        difference(DifferenceRecord(difference=row.better_by, low=row.low, high=row.high)),
        *parts,
        " ".join(number(each, "+.4f") for each in row.by_seed),
        "other machine" if math.isnan(row.time) else f"{row.time:.2f}x",
    ]


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
