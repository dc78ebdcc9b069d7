"""Records as lines and tables on the console.

`show` dispatches on the record's type; each module here registers the views of one group of stages.
"""

from __future__ import annotations

from functools import singledispatch


@singledispatch
def show(result: object) -> None:
    """Print a stage's result; raises TypeError if no view knows its type."""
    raise TypeError(f"no console view shows a {type(result).__name__}")


@show.register
def _(result: None) -> None:
    """A stage that has said everything while it worked."""


from foldstack.views.console import blends, patterns, predictions, runs  # noqa: E402, F401
