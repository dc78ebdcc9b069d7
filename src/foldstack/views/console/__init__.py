"""Records as lines and tables on the console.

`show` dispatches on the record's type; each module here registers the views of one group of stages.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch


@singledispatch
def show(result: object) -> None:
    """Print a stage's result; raise TypeError if no view knows its type."""
    raise TypeError(f"no console view shows a {type(result).__name__}")


@show.register
def _(result: None) -> None:
    """Print nothing: the stage logged everything while it worked."""


@show.register
def _(results: Iterator) -> None:
    """Show the results of several stages, each when its stage is done."""
    for result in results:
        show(result)


from foldstack.views.console import (  # noqa: E402, F401
    show_app,
    show_blends,
    show_bundles,
    show_comparison,
    show_distil,
    show_drift,
    show_exports,
    show_folds,
    show_page,
    show_patterns,
    show_places,
    show_predictions,
    show_pushes,
    show_runs,
    show_scores,
    show_search,
    show_slices,
)
