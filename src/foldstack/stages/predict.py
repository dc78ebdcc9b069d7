"""Stage: predictions of new texts by a stored model or blend."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from foldstack.errors import InputError
from foldstack.files import csv_text, writing
from foldstack.progress import Progress
from foldstack.records import PredictedFile, PredictedText
from foldstack.rows import Rows, text_digests
from foldstack.stages.attended import attention_of
from foldstack.stages.predictor import Predictor
from foldstack.workspace import Workspace

Values = Callable[[Predictor, Rows, pd.DataFrame], pd.DataFrame]  # rows, and the table they are of


def predict(
    ws: Workspace,
    *,
    model: str | None = None,
    fold: str | None = None,
    name: str | None = None,
    file: str | None = None,
    text: str | None = None,
    out: str | None = None,
    form: str | None = None,
    int8: bool = False,
    attention: bool = False,
) -> PredictedFile | PredictedText:
    """Predict the rows of a file into a CSV, or one text.

    A file may be larger than memory: it is read, predicted and written in chunks. Predictions do not
    depend on the chunks: ranks are those among the rows that a run held out. The CSV appears by one
    rename.

    Args:
        ws: the workspace.
        model: predict with this model instead of the blend `name`.
        fold: 'full' for the model's runs on all rows, with the decision rule of its fold runs.
        name: the blend; None for `blend`.
        file: a CSV of new texts.
        text: a single text, instead of a file.
        out: the CSV to write; None for predictions/<file>.csv in the workspace.
        form: 'submission' for the columns of the sample instead of label and probabilities.
        int8: predict with transformers in int8, after measuring and logging the loss of score.
        attention: return what a run attends to in the text, too.

    Returns:
        A summary of the CSV, or the prediction of the text.

    Raises:
        InputError: options are incompatible, a model or column is missing, or the CSV is a user's.
    """
    if bool(file) == bool(text):
        raise InputError('predict takes either FILE=new.csv or TEXT="…" (--file, --text)')
    if file and not Path(file).is_file():
        raise InputError(f"FILE={file} is not a file: give the path of one")
    if out and not file:
        raise InputError("OUT= is for the predictions of a FILE=: leave it out with TEXT=")
    if form not in (None, "", "submission"):
        raise InputError(f"FORM={form} is not known: give FORM=submission, or leave it out")
    if form and not file:
        raise InputError("FORM= is for the predictions of a FILE=: leave it out with TEXT=")
    if attention and not text:
        raise InputError('ATTENTION=1 is for one text: give TEXT="…" instead of FILE=')
    if attention and int8:
        raise InputError("ATTENTION=1 reads weights that int8 does not give: leave INT8=1 out")
    if model and name:
        raise InputError("predict takes MODEL= or the blend's NAME=, not both")
    full = bool(fold) and fold != "all"
    if full and fold != "full":
        raise InputError(
            f"predict takes FOLD=full or none, not '{fold}': a prediction is the mean over all trained "
            "folds, or the full runs'"
        )
    if full and not model:
        raise InputError("FOLD=full predicts with one model's full runs: add MODEL=")
    place = ws.store.predictions.place(out, Path(file)) if file else None
    if place is not None:
        ws.refuse_named(place)
    if model:
        predictor = Predictor.of_model(ws, ws.choose_model(model, "predict"), full=full, int8=int8)
    else:
        predictor = Predictor.of_blend(ws, name or "blend", int8=int8)
    if text:
        return _text(predictor, text, attention)
    values = _submitted if form else _labelled
    return _write(ws, predictor, Path(file), place, values)


def _text(predictor: Predictor, text: str, attention: bool) -> PredictedText:
    rows = predictor.rows_of([text])
    attended = attention_of(predictor, rows) if attention else None
    prediction = predictor.predict_rows(rows)
    row = prediction.probabilities.iloc[0]
    return PredictedText(
        label=prediction.labels[0] if prediction.labels else None,
        by=prediction.by[0] if prediction.by else None,
        probabilities={str(name): float(value) for name, value in row.items()},
        stale=predictor.stale,
        optimistic=predictor.optimistic,
        attention=attended,
    )


def _write(
    ws: Workspace, predictor: Predictor, file: Path, out: Path, values_of: Values
) -> PredictedFile:
    encoding, predictions = ws.competition.settings.encoding, ws.store.predictions
    new = predictor.file(file, ids=values_of is _submitted)
    new.check()
    sep = ws.competition.submission_form.delimiter if values_of is _submitted else None
    sep, sha256, texts = sep or ",", hashlib.sha256(), []
    with writing(out, encoding) as f, Progress("predicting", new.stream.rows, "rows") as progress:
        for start, part, rows in new.parts():
            text = csv_text(values_of(predictor, rows, part), header=start == 0, sep=sep)
            sha256.update(text.encode(encoding))
            f.write(text)
            texts.append(text_digests(rows.texts))
            progress.add(len(rows))
        predictions.check(out)  # a user may have created the file meanwhile
        unrecorded = _announce(ws, out, file, sha256.hexdigest(), np.concatenate(texts))
    if unrecorded is None:
        predictions.confirm(out, file, sha256.hexdigest())
    return PredictedFile(
        file=str(out),
        workspace=str(ws.root),
        rows=new.stream.rows,
        winner=predictor.winner,
        runs={model: len(keys) for model, keys in predictor.members.items()},
        unrecorded=unrecorded,
        stale=predictor.stale,
        optimistic=predictor.optimistic,
    )


def _announce(ws: Workspace, out: Path, file: Path, sha256: str, texts: np.ndarray) -> str | None:
    """Record the file that is about to appear; return why the workspace cannot be written to."""
    try:
        ws.store.predictions.announce(out, file, sha256, texts)
    except PermissionError as e:
        return e.strerror
    except OSError as e:
        if e.errno != errno.EROFS:
            raise
        return e.strerror
    return None


def _submitted(predictor: Predictor, rows: Rows, part: pd.DataFrame) -> pd.DataFrame:
    """Return predictions in the form of the sample submission."""
    return predictor.outcome(rows).form(predictor.ws.competition.submission, rows, part)


def _labelled(predictor: Predictor, rows: Rows, part: pd.DataFrame) -> pd.DataFrame:
    """Return the predicted label and the probabilities."""
    prediction = predictor.predict_rows(rows)
    values = prediction.probabilities.map(lambda v: f"{v:.8g}")
    values.insert(0, predictor.ws.competition.settings.id, rows.ids)
    if prediction.labels is not None:
        values.insert(1, "predicted", prediction.labels, allow_duplicates=True)
    if prediction.by is not None:
        values.insert(2, "by", prediction.by, allow_duplicates=True)
    return values
