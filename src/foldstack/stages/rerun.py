"""Stage: the submission of a stored blend for another test file, as a code competition swaps one in."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foldstack import config
from foldstack.errors import InputError
from foldstack.progress import Progress
from foldstack.records import Submitted
from foldstack.stages.blend import blend_command, read_stored
from foldstack.stages.predictor import Predictor
from foldstack.stages.submit import of_other_rows, written
from foldstack.workspace import Workspace


def rerun(
    ws: Workspace, *, test: str | None = None, name: str | None = None, int8: bool = False
) -> Submitted:
    """Write submissions/NAME-FILE.csv: the rows of another test file by the stored models.

    A row's prediction does not depend on the rows beside it, so that it equals what `submit` writes if
    the row stands in the competition's own test file.

    Args:
        ws: the workspace.
        test: the test file; it needs the id and text columns, and those that a stack or a model reads.
        name: the blend; None for `blend`.
        int8: predict with transformers in int8, after measuring and logging the loss of score.

    Returns:
        The path and the record, with the estimate of the blend.

    Raises:
        InputError: there is no such file or blend, the blend is stale, a column is missing, or two
            rows have the same id.
    """
    if not test or not Path(test).is_file():
        raise InputError(
            f"TEST={test or ''} is not a file: give the path of the test file to predict"
        )
    blend = config.check_name(name or "blend", "name")
    record, predictor = read_stored(ws, blend), Predictor.of_blend(ws, blend, int8=int8)
    if predictor.stale:
        raise InputError(f"blend '{blend}' {predictor.stale[0]}: run {blend_command(blend)} again")
    table = predicted_form(predictor, Path(test))
    made = of_other_rows(ws, record, len(table)).model_copy(update={"of_file": Path(test).name})
    return written(ws, f"{blend}-{_stem(test)}", table, made)


def predicted_form(predictor: Predictor, file: Path) -> pd.DataFrame:
    """Return the predictions of a file's rows in the columns of the sample submission."""
    new, parts = predictor.file(file, ids=True), []
    new.check()
    with Progress("predicting", new.stream.rows, "rows") as progress:
        for _, part, rows in new.parts():
            found = predictor.outcome(rows)
            parts.append(found.form(predictor.ws.competition.submission, rows, part))
            progress.add(len(rows))
    return pd.concat(parts, ignore_index=True)


def _stem(test: str) -> str:
    """Return the file's name without endings, as a submission may be named."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(test).name.split(".")[0]) or "test"
